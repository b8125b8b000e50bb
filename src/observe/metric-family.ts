import { BOUNDS_SECONDS, type Histogram } from './histogram.ts'

export type Labels = Readonly<Record<string, string>>

/** One value of a metric; `metricName` where a histogram has several series. */
export interface Sample {
  readonly value: number
  readonly labels: Readonly<Record<string, string | number>>
  readonly metricName?: string
}

/**
 * A metric with all its values, as plain data in prom-client's own form: what several processes say of the same metric is
 * put together by its `aggregator`.
 */
export interface MetricFamily {
  readonly name: string
  readonly help: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly aggregator: 'sum' | 'first' | 'min' | 'max'
  readonly values: readonly Sample[]
}

/** A value with its labels. */
export type Value = readonly [value: number, labels?: Labels]

/** Something that only grows; by convention its name ends with `_total`. */
export function counter(name: string, help: string, values: readonly Value[]): MetricFamily {
  return { name, help, type: 'counter', aggregator: 'sum', values: values.map(sample) }
}

/** Something that is so now. */
export function gauge(
  name: string,
  help: string,
  values: readonly Value[],
  aggregator: MetricFamily['aggregator'] = 'sum',
): MetricFamily {
  return { name, help, type: 'gauge', aggregator, values: values.map(sample) }
}

/** Times; those that nobody has counted yet are left out. */
export function histogram(name: string, help: string, values: readonly (readonly [Histogram, Labels])[]): MetricFamily {
  const samples = values.flatMap(([times, labels]) => {
    let count = 0
    const buckets = [...times.counts].map((inBucket, index) => {
      count += inBucket
      const le = BOUNDS_SECONDS[index] ?? '+Inf'
      return { value: count, labels: { ...labels, le }, metricName: `${name}_bucket` }
    })
    if (count === 0) return []
    const sum = { value: times.sumSeconds, labels, metricName: `${name}_sum` }
    return [...buckets, sum, { value: count, labels, metricName: `${name}_count` }]
  })
  return { name, help, type: 'histogram', aggregator: 'sum', values: samples }
}

function sample([value, labels]: Value): Sample {
  return { value, labels: labels ?? {} }
}
