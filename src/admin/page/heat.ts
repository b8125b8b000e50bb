import type { RegionFacts } from '../../observe/region-counts.ts'

/** After so long half of the heat is gone. */
const HALF_LIFE_MS = 1500

/** How hot a region is that was touched once: enough to be seen. One that is touched often comes close to 1. */
const SPARK = 0.55

/** How hot each region is, from 0 to 1, and whether it was ever touched while somebody looked. */
export class Heat {
  reads = new Float32Array(0)
  writes = new Float32Array(0)
  /** 1: read, 2: written, 3: both. */
  touched = new Uint8Array(0)
  #before: RegionFacts | undefined

  /** The counts that the heat was made of. */
  get facts(): RegionFacts | undefined {
    return this.#before
  }

  /** Another export. */
  clear(): void {
    this.#before = undefined
    this.#size(0)
  }

  /** Takes new counts; what was counted before the first ones is not news. */
  feed(facts: RegionFacts): void {
    const before = this.#before
    this.#before = facts
    const isOther = before?.sizeBytes !== facts.sizeBytes || before.reads.length !== facts.reads.length
    if (isOther) this.#size(facts.reads.length)
    this.#warm(this.reads, facts.reads, isOther ? [] : before.reads, 1)
    this.#warm(this.writes, facts.writes, isOther ? [] : before.writes, 2)
  }

  /** Lets time pass; whether anything is still warm. */
  cool(ms: number): boolean {
    const left = 0.5 ** (ms / HALF_LIFE_MS)
    const isWarm = coolAll(this.reads, left)
    return coolAll(this.writes, left) || isWarm
  }

  #warm(heat: Float32Array, now: readonly number[], before: readonly number[], mark: number): void {
    for (const [region, count] of now.entries()) {
      // Fewer than before: another process counts from the start.
      const had = before[region] ?? 0
      const grown = count < had ? count : count - had
      if (grown <= 0) continue
      heat[region] = Math.max(heat[region] ?? 0, Math.min(SPARK + Math.log2(grown) / 16, 1))
      this.touched[region] = (this.touched[region] ?? 0) | mark
    }
  }

  #size(length: number): void {
    this.reads = new Float32Array(length)
    this.writes = new Float32Array(length)
    this.touched = new Uint8Array(length)
  }
}

function coolAll(heat: Float32Array, left: number): boolean {
  let isWarm = false
  for (let region = 0; region < heat.length; region++) {
    const value = (heat[region] ?? 0) * left
    heat[region] = value < 0.01 ? 0 : value
    isWarm ||= value >= 0.01
  }
  return isWarm
}
