import { expect, it } from 'vitest'
import { LastCounts } from '../../../src/gateway/last-counts.ts'
import { Histogram } from '../../../src/observe/histogram.ts'
import { counter, gauge, histogram } from '../../../src/observe/metric-family.ts'
import { metricsText } from '../../../src/observe/metrics.ts'

/** What a worker says that has read so often, once within a microsecond. */
function counted(reads: number) {
  const times = new Histogram()
  times.observe(0.001)
  return [
    counter('reads_total', 'Reads.', [[reads, { export: 'disk' }]]),
    gauge('sessions', 'Sessions.', [[7]]),
    histogram('seconds', 'Times.', [[times, { export: 'disk' }]]),
  ]
}

const text = async (counts: LastCounts, ...alive: Parameters<typeof metricsText>[0]) =>
  (await metricsText([...alive, counts.gone()]))
    .split('\n')
    .filter(line => /^(reads|sessions|seconds_count)/.test(line))

it('keeps what those have counted that have died, and nothing of what is only so while they live', async () => {
  const counts = new LastCounts()
  expect(counts.gone()).toEqual([])
  counts.heard(1, counted(5))
  counts.died(1)
  // Another one by the same number, which dies as well.
  counts.heard(1, counted(2))
  counts.died(1)
  const alive = counts.heard(2, counted(10))
  expect(await text(counts, alive)).toEqual([
    'reads_total{export="disk"} 17',
    'sessions 7',
    'seconds_count{export="disk"} 3',
  ])
  counts.died(3)
  expect(await text(counts, alive)).toHaveLength(3)
})

it('has the last words of one that does not answer', async () => {
  const counts = new LastCounts()
  expect(counts.heard(1, [])).toEqual([])
  counts.heard(1, counted(5))
  expect(await text(counts, counts.heard(1, []))).toContain('reads_total{export="disk"} 5')
})
