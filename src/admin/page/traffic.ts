import type { ExportTraffic } from '../../observe/session-meters.ts'
import { History } from './history.ts'
import { quantile } from './quantile.ts'

/** Points that are kept of each export: five minutes at one a second. */
const POINTS = 300
/** Exports that are kept; of more the busiest would have to be chosen, and nobody reads 300 plots. */
const MAX_EXPORTS = 256

export const SERIES = ['read', 'written', 'requests', 'p50', 'p99'] as const
export type Series = (typeof SERIES)[number]

/** What `GET /v1/traffic` answers. */
export interface TrafficAnswer {
  readonly bounds: readonly number[]
  readonly exports: readonly ExportTraffic[]
}

/** Rates and latencies of exports over time, made of counts that only grow; those of all exports have the name `undefined`. */
export class TrafficBook {
  readonly #histories = new Map<string | undefined, History<Series>>()
  #before: ReadonlyMap<string, ExportTraffic> = new Map()
  #beforeSeconds = 0

  /** Takes what is counted at a time, in seconds of any clock. `time`: what plots show. */
  add({ bounds, exports }: TrafficAnswer, seconds: number, time: number): void {
    const took = seconds - this.#beforeSeconds
    const steps = exports.flatMap(now => {
      const before = this.#before.get(now.name)
      return before === undefined ? [] : [{ name: now.name, step: stepOf(before, now) }]
    })
    for (const { name, step } of steps.slice(0, MAX_EXPORTS)) this.of(name).add(time, pointOf(step, bounds, took))
    if (steps.length > 0) {
      const all = steps.map(({ step }) => step).reduce(plus)
      this.of(undefined).add(time, pointOf(all, bounds, took))
    }
    this.#before = new Map(exports.map(each => [each.name, each]))
    this.#beforeSeconds = seconds
    for (const name of this.#histories.keys()) {
      if (name !== undefined && !this.#before.has(name)) this.#histories.delete(name)
    }
  }

  /** Its history; empty at first. */
  of(name: string | undefined): History<Series> {
    const found = this.#histories.get(name) ?? new History(SERIES, POINTS)
    this.#histories.set(name, found)
    return found
  }
}

interface Step {
  readonly read: number
  readonly written: number
  readonly requests: number
  /** Timed READs and WRITEs by bucket. */
  readonly times: readonly number[]
}

function stepOf(before: ExportTraffic, now: ExportTraffic): Step {
  const grown = (of: (each: ExportTraffic) => number): number => Math.max(of(now) - of(before), 0)
  const times = now.latency.read.map((_, bucket) =>
    grown(({ latency: { read, write } }) => (read[bucket] ?? 0) + (write[bucket] ?? 0)),
  )
  return {
    read: grown(each => each.bytesRead),
    written: grown(each => each.bytesWritten),
    requests: grown(({ reads, writes, flushes, others }) => reads + writes + flushes + others),
    times,
  }
}

function plus(a: Step, b: Step): Step {
  const times = b.times.map((count, bucket) => count + (a.times[bucket] ?? 0))
  return { read: a.read + b.read, written: a.written + b.written, requests: a.requests + b.requests, times }
}

function pointOf({ read, written, requests, times }: Step, bounds: readonly number[], took: number) {
  const p50 = quantile(bounds, times, 0.5)
  const p99 = quantile(bounds, times, 0.99)
  return { read: read / took, written: written / took, requests: requests / took, p50, p99 }
}
