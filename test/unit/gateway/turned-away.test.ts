import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { TurnedAwayLog } from '../../../src/gateway/turned-away.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

it('says who was turned away, and of a flood only how many more there were in the second', () => {
  const lines: object[] = []
  const log = { debug: () => {}, info: () => {}, warn: (facts: object) => void lines.push(facts), error: () => {} }
  const turned = new TurnedAwayLog(log)
  for (let port = 0; port < 100; port++) turned.say(`192.0.2.1:${port}`, 'penalty')
  turned.say('192.0.2.2:1', 'sessions', { via: 'x' })
  expect(lines).toHaveLength(21)
  expect(lines[0]).toEqual({ peer: '192.0.2.1:0', reason: 'penalty' })
  expect(lines[20]).toEqual({ peer: '192.0.2.2:1', reason: 'sessions', via: 'x' })
  vi.advanceTimersByTime(1000)
  expect(lines.slice(21)).toEqual([{ reason: 'penalty', times: 80 }])
  turned.say('192.0.2.1:7', 'penalty')
  vi.advanceTimersByTime(5000)
  expect(lines.slice(22)).toEqual([{ peer: '192.0.2.1:7', reason: 'penalty' }])
})
