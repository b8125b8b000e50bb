import { expect, it } from 'vitest'
import { SessionRates } from '../../../../src/admin/page/sessions.ts'
import { TrafficBook } from '../../../../src/admin/page/traffic.ts'
import type { ExportTraffic } from '../../../../src/observe/session-meters.ts'
import { session } from '../managed.ts'

const BOUNDS = [1, 2, 4]
const NONE = [0, 0, 0, 0]

function counted(name: string, bytesRead: number, reads: readonly number[] = NONE): ExportTraffic {
  const counts = { reads: bytesRead / 100, writes: 1, flushes: 0, others: 0, refused: 0, bytesRead, bytesWritten: 7 }
  return { name, ...counts, inFlight: 0, waits: 0, latency: { read: reads, write: NONE, flush: NONE, other: NONE } }
}

const answer = (...exports: readonly ExportTraffic[]) => ({ bounds: BOUNDS, exports })

it('makes rates and latencies of counts, for each export and for all', () => {
  const book = new TrafficBook()
  book.add(answer(counted('a', 1000), counted('b', 0)), 10, 1000)
  expect(book.of('a').last('read')).toBeUndefined()
  book.add(answer(counted('a', 3000, [0, 8, 0, 0]), counted('b', 500)), 12, 1002)
  expect(book.of('a').plot('read', 'written', 'requests', 'p50')).toEqual([[1002], [1000], [0], [10], [1.5]])
  expect(book.of('b').plot('read', 'p99')).toEqual([[1002], [250], [null]])
  expect(book.of(undefined).last('read')).toBe(1250)
  expect(book.of(undefined).last('p50')).toBe(1.5)
})

it('counts that begin again are no negative traffic', () => {
  const book = new TrafficBook()
  book.add(answer(counted('a', 1000, [5, 5, 5, 5])), 0, 0)
  book.add(answer(counted('a', 10, [1, 0, 0, 0])), 1, 1)
  expect(book.of('a').last('read')).toBe(0)
  expect(book.of('a').last('p50')).toBeUndefined()
})

it('forgets exports that are gone, and begins anew when they come back', () => {
  const book = new TrafficBook()
  for (const time of [0, 1, 2]) book.add(answer(counted('a', time * 100), counted('b', 0)), time, time)
  expect(book.of('a').last('read')).toBe(100)
  book.add(answer(counted('b', 0)), 3, 3)
  expect(book.of('a').plot('read')).toEqual([[], []])
  book.add(answer(counted('a', 90_000), counted('b', 0)), 4, 4)
  expect(book.of('a').last('read')).toBeUndefined()
})

it('keeps no more exports than anybody looks at', () => {
  const book = new TrafficBook()
  const many = Array.from({ length: 300 }, (_, index) => counted(`e${index}`, 0))
  book.add(answer(...many), 0, 0)
  book.add(answer(...many), 1, 1)
  expect(book.of('e255').last('read')).toBe(0)
  expect(book.of('e256').last('read')).toBeUndefined()
})

it('says what a session moves, by what it had moved before', () => {
  const rates = new SessionRates()
  const at = (bytesRead: number, bytesWritten: number) => ({ ...session(7), bytesRead, bytesWritten })
  expect(rates.take([at(100, 0)], 1)).toMatchObject([{ id: 7, readPerSecond: 0, writtenPerSecond: 0 }])
  expect(rates.take([at(300, 50), session(8)], 3)).toMatchObject([
    { id: 7, readPerSecond: 100, writtenPerSecond: 25 },
    { id: 8, readPerSecond: 0 },
  ])
})
