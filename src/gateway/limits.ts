import type { TurnedAway } from '../doors/door.ts'

export interface SessionLimits {
  readonly sessions: number
  readonly sessionsPerAddress: number
}

/** Counts connections, all of them and by address, from accept to close. */
export class Limits {
  #max: SessionLimits
  readonly #byAddress = new Map<string, number>()
  #count = 0

  constructor(max: SessionLimits) {
    this.#max = max
  }

  /** Other limits for those who come from now on; nobody is sent away. */
  replace(max: SessionLimits): void {
    this.#max = max
  }

  /** Connections now. */
  get count(): number {
    return this.#count
  }

  /** Counts one more, or says which limit it would break. */
  admit(address: string | undefined): TurnedAway | undefined {
    if (this.#count >= this.#max.sessions) return 'sessions'
    if (address !== undefined) {
      const here = this.#byAddress.get(address) ?? 0
      if (here >= this.#max.sessionsPerAddress) return 'sessions-per-address'
      this.#byAddress.set(address, here + 1)
    }
    this.#count++
    return undefined
  }

  /** An admitted connection has closed. */
  leave(address: string | undefined): void {
    this.#count--
    if (address === undefined) return
    const here = this.#byAddress.get(address) ?? 0
    if (here > 1) this.#byAddress.set(address, here - 1)
    else this.#byAddress.delete(address)
  }
}
