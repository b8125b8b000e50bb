import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { LateRequests } from '../../../src/relay/late-requests.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** What is put off waits 10 ms, `again` times more after the first. */
function putOff(again = 0) {
  const told: string[] = []
  let left = again
  const late: LateRequests = new LateRequests({
    waitMs: () => 10,
    relay: (chunk, from) => {
      told.push(chunk.toString('latin1', from))
      if (left-- > 0) late.putOff(chunk, from + 1)
    },
    caughtUp: isEnd => void told.push(isEnd ? 'caught up, and the end' : 'caught up'),
  })
  late.putOff(Buffer.from('xabc'), 1)
  return { late, told }
}

it('what was put off goes on from its byte when its time has come', () => {
  const { late, told } = putOff()
  vi.advanceTimersByTime(9)
  expect([told, late.waiting]).toEqual([[], true])
  vi.advanceTimersByTime(1)
  expect([told, late.waiting]).toEqual([['abc', 'caught up'], false])
})

it('what comes meanwhile stands behind it, and the end behind that', () => {
  const { late, told } = putOff(1)
  expect(late.queue(Buffer.from('de'))).toBe(true)
  expect(late.queueEnd()).toBe(true)
  vi.advanceTimersByTime(10)
  expect(told).toEqual(['abcde'])
  vi.advanceTimersByTime(10)
  expect(told).toEqual(['abcde', 'bcde', 'caught up, and the end'])
})

it('nothing stands behind nothing', () => {
  const { late } = putOff()
  vi.advanceTimersByTime(10)
  expect([late.queue(Buffer.from('de')), late.queueEnd()]).toEqual([false, false])
})

it('once it is closed nothing goes on, whatever is put off still', () => {
  const { late, told } = putOff()
  late.close()
  late.putOff(Buffer.from('de'), 0)
  vi.advanceTimersByTime(100)
  expect(told).toEqual([])
})
