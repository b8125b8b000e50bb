const FIRST_MS = 100
const LONGEST_MS = 10_000
/** Names that are remembered. */
const MAX_NAMES = 10_000

/** How long to leave alone what has failed: longer each time, until it works. */
export class Backoff {
  readonly #failed = new Map<string, { readonly times: number; readonly againAtMs: number }>()

  /** How long to wait, in milliseconds; 0 for what has not failed. */
  pauseMs(name: string): number {
    const failed = this.#failed.get(name)
    return failed === undefined ? 0 : Math.max(0, failed.againAtMs - performance.now())
  }

  failed(name: string): void {
    const times = (this.#failed.get(name)?.times ?? 0) + 1
    const pauseMs = Math.min(FIRST_MS * 2 ** Math.min(times - 1, 20), LONGEST_MS)
    this.#failed.delete(name)
    this.#failed.set(name, { times, againAtMs: performance.now() + pauseMs })
    const [oldest] = this.#failed.keys()
    if (this.#failed.size > MAX_NAMES && oldest !== undefined) this.#failed.delete(oldest)
  }

  worked(name: string): void {
    this.#failed.delete(name)
  }
}
