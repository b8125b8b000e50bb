import type { MetricFamily, Sample } from '../observe/metric-family.ts'

/** Values of what only grows, by metric and labels. */
interface Sum {
  readonly family: MetricFamily
  readonly samples: Map<string, Sample>
}

/**
 * What workers had counted when they were asked last. One that has died, or does not answer in time, would take its share out of sums
 * that only grow: Prometheus takes that for a restart, and all that the others have counted for new.
 */
export class LastCounts {
  readonly #alive = new Map<number, readonly MetricFamily[]>()
  readonly #gone = new Map<string, Sum>()

  /** Keeps what a worker says; where that is nothing, what it said last. */
  heard(worker: number, families: readonly MetricFamily[]): readonly MetricFamily[] {
    if (families.length > 0) this.#alive.set(worker, families)
    return this.#alive.get(worker) ?? []
  }

  /** It will say no more; another one may come by its number. */
  died(worker: number): void {
    for (const family of this.#alive.get(worker) ?? []) if (family.type !== 'gauge') this.#add(family)
    this.#alive.delete(worker)
  }

  /** The counts of those that have died, put together. */
  gone(): readonly MetricFamily[] {
    return [...this.#gone.values()].map(({ family, samples }) => ({ ...family, values: [...samples.values()] }))
  }

  #add(family: MetricFamily): void {
    const sum = this.#gone.get(family.name) ?? { family, samples: new Map<string, Sample>() }
    this.#gone.set(family.name, sum)
    for (const sample of family.values) {
      const key = JSON.stringify([sample.metricName, sample.labels])
      const before = sum.samples.get(key)?.value ?? 0
      sum.samples.set(key, { ...sample, value: before + sample.value })
    }
  }
}
