import type { ExportMeter } from './export-meter.ts'
import { RegionCounts, type RegionFacts } from './region-counts.ts'

/** How long regions are counted after somebody has asked for them. */
const WATCHED_MS = 15_000

/** Switches the counting of regions on for exports that somebody watches, and off when nobody asks any more. */
export class RegionWatch {
  readonly #timers = new Map<ExportMeter, NodeJS.Timeout>()

  /** What was counted of an export of this size since it is watched; it is from now on. */
  look(meter: ExportMeter, sizeBytes: number): RegionFacts {
    if (meter.regions?.sizeBytes !== sizeBytes) meter.regions = new RegionCounts(sizeBytes)
    const timer = this.#timers.get(meter) ?? setTimeout(() => this.end(meter), WATCHED_MS).unref()
    timer.refresh()
    this.#timers.set(meter, timer)
    return meter.regions.facts()
  }

  /** Nobody is to be told of this one any more. */
  end(meter: ExportMeter): void {
    clearTimeout(this.#timers.get(meter))
    this.#timers.delete(meter)
    meter.regions = undefined
  }
}
