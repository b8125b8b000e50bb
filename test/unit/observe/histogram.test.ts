import { expect, it } from 'vitest'
import { BOUNDS_SECONDS, Histogram } from '../../../src/observe/histogram.ts'

/** The bound of the bucket that a time is counted in; Infinity above the last one. */
function boundOf(ms: number): number {
  const histogram = new Histogram()
  histogram.observe(ms)
  return BOUNDS_SECONDS[histogram.counts.indexOf(1)] ?? Infinity
}

it('counts a time under the least bound that is not below it', () => {
  expect(BOUNDS_SECONDS[0]).toBe(0.000032)
  expect(BOUNDS_SECONDS.at(-1)).toBe(8.388608)
  const cases: readonly (readonly [ms: number, bound: number])[] = [
    [0, 0.000032],
    [0.0005, 0.000032],
    [0.032, 0.000032],
    [0.0321, 0.000064],
    [1.024, 0.001024],
    [1.025, 0.002048],
    [8388.608, 8.388608],
    [8388.7, Infinity],
    [3 * 3600 * 1000, Infinity],
  ]
  for (const [ms, bound] of cases) expect([ms, boundOf(ms)]).toEqual([ms, bound])
})

it('adds up what two have counted', () => {
  const [one, two] = [new Histogram(), new Histogram()]
  one.observe(1)
  two.observe(1)
  two.observe(5000)
  one.add(two)
  expect([one.counts.reduce((sum, count) => sum + count), one.sumSeconds]).toEqual([3, 5.002])
})
