/** The smallest bound is 2^5 µs, 32 µs; the largest 2^23 µs, 8.4 s. */
const FIRST_POWER = 5
const BOUNDS = 19
const MAX_US = 2 ** 31

/** Upper bounds of the buckets, in seconds. */
export const BOUNDS_SECONDS: readonly number[] = Array.from({ length: BOUNDS }, (_, n) => 2 ** (FIRST_POWER + n) / 1e6)

/** Times by how long they took, in buckets whose bounds are powers of two. Counting allocates nothing. */
export class Histogram {
  /** One more than there are bounds: the last is for what is longer. Not cumulative. */
  readonly counts = new Float64Array(BOUNDS + 1)
  #sumMs = 0

  get sumSeconds(): number {
    return this.#sumMs / 1000
  }

  observe(ms: number): void {
    this.#sumMs += ms
    const us = Math.min(Math.max(Math.ceil(ms * 1000), 1), MAX_US)
    // The least n with us <= 2^n.
    const power = 32 - Math.clz32(us - 1)
    const bucket = Math.min(Math.max(power - FIRST_POWER, 0), BOUNDS)
    this.counts[bucket] = (this.counts[bucket] ?? 0) + 1
  }

  /** Takes over what another one has counted. */
  add(other: Histogram): void {
    for (const [bucket, count] of other.counts.entries()) this.counts[bucket] = (this.counts[bucket] ?? 0) + count
    this.#sumMs += other.#sumMs
  }
}
