import { expect, it } from 'vitest'
import { bytesText, durationText, latencyText, plural } from '../../../../src/admin/page/format.ts'
import { History } from '../../../../src/admin/page/history.ts'
import { quantile } from '../../../../src/admin/page/quantile.ts'

it.each([
  [0, '0 B'],
  [999, '999 B'],
  [1000, '1.0 KiB'],
  [1536 * 1024, '1.5 MiB'],
  [230 * 2 ** 30, '230 GiB'],
  [5000 * 2 ** 50, '5000 PiB'],
])('%d bytes are %s', (bytes, text) => {
  expect(bytesText(bytes)).toBe(text)
})

it.each([
  [undefined, '–'],
  [0.000048, '48 µs'],
  [0.0012, '1.2 ms'],
  [0.25, '250 ms'],
  [3.14, '3.1 s'],
])('a latency of %s seconds is %s', (seconds, text) => {
  expect(latencyText(seconds)).toBe(text)
})

it.each([
  [-5, '0 s'],
  [59_999, '59 s'],
  [60_000, '1 min'],
  [3 * 3600_000, '3 h'],
  [47 * 3600_000, '47 h'],
  [48 * 3600_000, '2 d'],
  [800 * 86_400_000, '2 years'],
])('%d ms are %s', (ms, text) => {
  expect(durationText(ms)).toBe(text)
})

it('counts in words', () => {
  expect([plural(1, 'worker'), plural(2, 'worker'), plural(12_345, 'worker')]).toEqual([
    '1 worker',
    '2 workers',
    '12,345 workers',
  ])
})

it('a quantile lies within its bucket, as Prometheus has it', () => {
  const bounds = [1, 2, 4]
  expect(quantile(bounds, [0, 0, 0, 0], 0.5)).toBeUndefined()
  expect(quantile(bounds, [10, 0, 0, 0], 0.5)).toBe(0.5)
  expect(quantile(bounds, [0, 10, 10, 0], 0.5)).toBe(2)
  expect(quantile(bounds, [0, 10, 10, 0], 0.75)).toBe(3)
  // What is longer than all bounds is at least the last one.
  expect(quantile(bounds, [0, 0, 0, 3], 0.99)).toBe(4)
})

it('a history keeps its length, and shows gaps as gaps', () => {
  const history = new History(['read', 'p50'], 3)
  expect(history.plot('read')).toEqual([[], []])
  expect(history.last('read')).toBeUndefined()
  history.add(1, { read: 10, p50: undefined })
  expect(history.plot('read', 'p50')).toEqual([[1], [10], [null]])
  for (const time of [2, 3, 4]) history.add(time, { read: time * 10, p50: time })
  expect(history.plot('p50', 'read')).toEqual([
    [2, 3, 4],
    [2, 3, 4],
    [20, 30, 40],
  ])
  expect(history.last('read')).toBe(40)
  expect([...history.tail('read', 2)]).toEqual([30, 40])
})
