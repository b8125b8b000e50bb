import { rightsClock } from '../platform/rights-clock.ts'
import type { SessionHost } from './session-host.ts'

/** A clock that is set forward is noticed after this long. */
const LOOK_AGAIN_MS = 60_000

/** Sees to it that a session ends when its rights do: when it is told to look, and when a rule or a certificate runs out. */
export class RightsWatch {
  readonly #host: SessionHost
  readonly #end: (why: string) => void
  #timer: NodeJS.Timeout | undefined
  #closed = false

  /** Looks at once: what was granted before the upstream was dialled may be gone by now. */
  constructor(host: SessionHost, end: (why: string) => void) {
    this.#host = host
    this.#end = end
    void this.recheck()
  }

  /** Ends the session if its rights are gone; whether it did. */
  async recheck(): Promise<boolean> {
    clearTimeout(this.#timer)
    const standing = await this.#host.recheck()
    if (this.#closed) return false
    if (standing.kind === 'gone') {
      this.close()
      this.#end(`no longer allowed: ${standing.why}`)
      return true
    }
    const { untilMs } = standing
    if (untilMs === undefined) return false
    clearTimeout(this.#timer)
    this.#timer = setTimeout(
      () => void this.recheck(),
      Math.min(Math.max(untilMs - rightsClock.now(), 0) + 1, LOOK_AGAIN_MS),
    )
    return false
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
  }
}
