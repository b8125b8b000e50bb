import type { Config, PenaltyRules } from '../config/config.ts'
import type { MaxStartups } from '../config/startups.ts'
import type { Offence, TurnedAway } from '../doors/door.ts'
import { type Comer, Comers } from './comers.ts'
import { placesOf } from './handed.ts'
import { type Charged, Penalties } from './penalties.ts'

export interface SessionLimits {
  readonly sessions: number
  readonly sessionsPerAddress: number
  readonly maxStartups?: MaxStartups | undefined
  readonly penalties?: PenaltyRules | undefined
  /** By the door's place; a door that is not there has no limit of its own. */
  readonly sessionsByDoor?: ReadonlyMap<string, number> | undefined
}

/** The limits of a configuration, those of its doors among them. */
export function limitsOf({ limits, doors }: Pick<Config, 'limits' | 'doors'>): SessionLimits {
  const places = placesOf(doors)
  const ofDoors = doors.flatMap(({ sessions }, at) =>
    sessions === undefined ? [] : [[places[at] ?? '', sessions] as const],
  )
  return { ...limits, sessionsByDoor: new Map(ofDoors) }
}

/** Counts connections, all of them, by address and by door, from accept to close; and those that are half open, up to their export. */
export class Limits {
  readonly #comers = new Comers()
  readonly #byAddress = new Map<string, number>()
  readonly #byDoor = new Map<string, number>()
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

  /** Connections by address and door; those without an address count in all and at their door alone. */
  list(): readonly Comer[] {
    return this.#comers.list()
  }

  /** What is held against addresses. */
  charged(): readonly Charged[] {
    return this.#penalties.list()
  }

  /**
   * Counts those that are there already, whatever the limits are; some of them half open. What was held against addresses
   * still is.
   */
  restore(places: readonly Comer[], halfOpen: number, charged: readonly Charged[] = []): void {
    this.#penalties.restore(charged)
    this.#halfOpen += halfOpen
    for (const [address, count, door] of places) {
      this.#comers.add(address, door, count)
      this.#change(count, address, door)
    }
  }

  /** Counts one more at a door's place, half open, or says which limit it would break. */
  admit(address: string | undefined, door?: string): TurnedAway | undefined {
    if (address !== undefined && this.#penalties.holds(address)) return 'penalty'
    if (this.#count >= this.#max.sessions) return 'sessions'
    if (countOf(this.#byDoor, door) >= (this.#max.sessionsByDoor?.get(door ?? '') ?? Infinity))
      return 'sessions-per-door'
    if (this.#drops()) return 'max-startups'
    if (countOf(this.#byAddress, address) >= this.#max.sessionsPerAddress) return 'sessions-per-address'
    this.#comers.add(address, door)
    this.#change(1, address, door)
    this.#halfOpen++
    return undefined
  }

  /** An admitted connection is in: not half open any more. */
  entered(): void {
    this.#halfOpen--
  }

  /** An admitted connection has closed; `hasEntered`: it was in. */
  leave(address: string | undefined, hasEntered: boolean, door?: string): void {
    if (!hasEntered) this.#halfOpen--
    this.#comers.remove(address, door)
    this.#change(-1, address, door)
  }

  /** Holds something against an address. */
  charge(address: string | undefined, offence: Offence): void {
    if (address !== undefined) this.#penalties.charge(address, offence)
  }

  #change(by: number, address: string | undefined, door: string | undefined): void {
    this.#count += by
    changeCount(this.#byAddress, address, by)
    changeCount(this.#byDoor, door, by)
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

function countOf(counts: ReadonlyMap<string, number>, key: string | undefined): number {
  return key === undefined ? 0 : (counts.get(key) ?? 0)
}

function changeCount(counts: Map<string, number>, key: string | undefined, by: number): void {
  if (key === undefined) return
  const count = countOf(counts, key) + by
  if (count > 0) counts.set(key, count)
  else counts.delete(key)
}
