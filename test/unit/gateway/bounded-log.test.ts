import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { boundFloods } from '../../../src/gateway/bounded-log.ts'
import type { Facts, Log } from '../../../src/observe/log.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** A log, and its lines of warnings and errors. */
function listening(): { log: Log; lines: (readonly [string, Facts])[] } {
  const lines: (readonly [string, Facts])[] = []
  const hear = (facts: Facts, message: string): void => void lines.push([message, facts])
  return { lines, log: boundFloods({ debug: () => {}, info: () => {}, warn: hear, error: hear }) }
}

it('says who was turned away, and of a flood only how many more there were in the second', () => {
  const { log, lines } = listening()
  const turned = (facts: Facts): void => log.warn(facts, 'turned away')
  for (let port = 0; port < 100; port++) turned({ peer: `192.0.2.1:${port}`, reason: 'penalty' })
  turned({ peer: '192.0.2.2:1', reason: 'sessions', via: 'x' })
  expect(lines).toHaveLength(21)
  expect(lines[0]?.[1]).toEqual({ peer: '192.0.2.1:0', reason: 'penalty' })
  expect(lines[20]?.[1]).toEqual({ peer: '192.0.2.2:1', reason: 'sessions', via: 'x' })
  vi.advanceTimersByTime(1000)
  expect(lines.slice(21)).toEqual([['turned away', { reason: 'penalty', times: 80 }]])
  turned({ peer: '192.0.2.1:7', reason: 'penalty' })
  vi.advanceTimersByTime(5000)
  expect(lines.slice(22)).toEqual([['turned away', { peer: '192.0.2.1:7', reason: 'penalty' }]])
})

it('counts what strangers break by its code, and a door that fails by that of its error', () => {
  const { log, lines } = listening()
  const err = Object.assign(new Error('accept EMFILE'), { code: 'EMFILE' })
  for (let conn = 0; conn < 25; conn++) {
    log.warn({ conn, code: 'BAD_MAGIC' }, 'protocol broken')
    log.error({ err }, 'door failed')
  }
  expect(lines).toHaveLength(40)
  vi.advanceTimersByTime(1000)
  expect(lines.slice(40)).toEqual([
    ['protocol broken', { code: 'BAD_MAGIC', times: 5 }],
    ['door failed', { code: 'EMFILE', times: 5 }],
  ])
})

it('leaves out nothing of what only those who are let in bring about', () => {
  const { log, lines } = listening()
  for (let conn = 0; conn < 100; conn++) log.warn({ conn, reason: 'no rule' }, 'refused')
  expect(lines).toHaveLength(100)
})
