import type { FlushTimes } from '../relay/keep.ts'

/** Departed connections that are remembered; beyond that the oldest are forgotten. */
const MANY = 4096

/**
 * What connections that have ended have left unflushed, by what they have in common with those that flush for them: an
 * export and an identity.
 */
export class FlushBook {
  readonly #left = new Map<string, FlushTimes>()

  /** A connection has ended. */
  leave(key: string, times: FlushTimes): void {
    if (times.ackedMs === 0 && times.flushedMs === 0 && times.lostMs === 0) return
    const before = this.#left.get(key) ?? times
    const flushedMs = Math.max(before.flushedMs, times.flushedMs)
    this.#left.delete(key)
    this.#left.set(key, {
      ackedMs: Math.max(before.ackedMs, times.ackedMs),
      flushedMs,
      // While something of the former is not flushed all counts as of their upstream: a FLUSH that fails in vain is the lesser evil.
      backMs: before.ackedMs > flushedMs ? Math.min(before.backMs, times.backMs) : times.backMs,
      lostMs: Math.max(before.lostMs, times.lostMs),
    })
    const [oldest] = this.#left.keys()
    if (this.#left.size > MANY && oldest !== undefined) this.#left.delete(oldest)
  }

  /** Of all that have ended; undefined: of nobody. */
  of(key: string): FlushTimes | undefined {
    return this.#left.get(key)
  }
}
