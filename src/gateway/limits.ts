import type { PenaltyRules } from '../config/config.ts'
import type { MaxStartups } from '../config/startups.ts'
import type { Offence, TurnedAway } from '../doors/door.ts'
import { Penalties } from './penalties.ts'

export interface SessionLimits {
  readonly sessions: number
  readonly sessionsPerAddress: number
  readonly maxStartups?: MaxStartups | undefined
  readonly penalties?: PenaltyRules | undefined
}

/** Counts connections, all of them and by address, from accept to close; and those that are half open, up to their export. */
export class Limits {
  readonly #byAddress = new Map<string, number>()
  readonly #penalties: Penalties
  readonly #random: () => number
  #max: SessionLimits
  #count = 0
  #halfOpen = 0

  /** `random`: from 0 to 1. */
  constructor(max: SessionLimits, random: () => number = Math.random) {
    this.#max = max
    this.#random = random
    this.#penalties = new Penalties(max.penalties)
  }

  /** Other limits for those who come from now on; nobody is sent away. */
  replace(max: SessionLimits): void {
    this.#max = max
    this.#penalties.replace(max.penalties)
  }

  /** Connections now. */
  get count(): number {
    return this.#count
  }

  /** Those of them that are not in yet. */
  get halfOpen(): number {
    return this.#halfOpen
  }

  /** Connections by address; those without one count in all alone. */
  list(): readonly (readonly [string | undefined, number])[] {
    const named = [...this.#byAddress.values()].reduce((sum, each) => sum + each, 0)
    return [...this.#byAddress, [undefined, this.#count - named]]
  }

  /** Counts those that are there already, whatever the limits are; some of them half open. */
  restore(places: readonly (readonly [string | undefined, number])[], halfOpen: number): void {
    this.#halfOpen += halfOpen
    for (const [address, count] of places) {
      this.#count += count
      if (address !== undefined) this.#byAddress.set(address, (this.#byAddress.get(address) ?? 0) + count)
    }
  }

  /** Counts one more, half open, or says which limit it would break. */
  admit(address: string | undefined): TurnedAway | undefined {
    if (address !== undefined && this.#penalties.holds(address)) return 'penalty'
    if (this.#count >= this.#max.sessions) return 'sessions'
    if (this.#drops()) return 'max-startups'
    if (address !== undefined) {
      const here = this.#byAddress.get(address) ?? 0
      if (here >= this.#max.sessionsPerAddress) return 'sessions-per-address'
      this.#byAddress.set(address, here + 1)
    }
    this.#count++
    this.#halfOpen++
    return undefined
  }

  /** An admitted connection is in: not half open any more. */
  entered(): void {
    this.#halfOpen--
  }

  /** An admitted connection has closed; `hasEntered`: it was in. */
  leave(address: string | undefined, hasEntered: boolean): void {
    this.#count--
    if (!hasEntered) this.#halfOpen--
    if (address === undefined) return
    const here = this.#byAddress.get(address) ?? 0
    if (here > 1) this.#byAddress.set(address, here - 1)
    else this.#byAddress.delete(address)
  }

  /** Holds something against an address. */
  charge(address: string | undefined, offence: Offence): void {
    if (address !== undefined) this.#penalties.charge(address, offence)
  }

  /** As sshd's drop_connection() in session.c: random early drop. */
  #drops(): boolean {
    const { maxStartups } = this.#max
    if (maxStartups === undefined || this.#halfOpen < maxStartups.start) return false
    const { start, rate, full } = maxStartups
    if (this.#halfOpen >= full) return true
    return this.#random() < rate + ((1 - rate) * (this.#halfOpen - start)) / (full - start)
  }
}
