import { parseAddress } from '../config/cidr.ts'
import type { PenaltyRules } from '../config/config.ts'
import type { Offence } from '../doors/door.ts'
import { compileCidrs } from '../policy/cidr.ts'

/** Sources that are remembered; beyond them the oldest is forgotten. */
const MAX_SOURCES = 65_536

/** Whoever has an IPv6 address has 2^64 of them (RFC 6177). */
const SOURCE_BITS_6 = 64n

interface Penalty {
  untilMs: number
  /** It has once been long enough, and holds until it is over. */
  isInForce: boolean
}

/** What is held against a source, and for how long still; `isInForce`: nobody is let in from there. */
export type Charged = readonly [source: string, leftMs: number, isInForce: boolean]

/** Addresses that keep failing, and until when nobody is let in from there. */
export class Penalties {
  readonly #now: () => number
  /** By source, the oldest first. */
  readonly #known = new Map<string, Penalty>()
  #rules: PenaltyRules | undefined
  #isExempt: (address: string) => boolean = () => true

  /** `rules` undefined: there are no penalties. `now` in milliseconds. */
  constructor(rules: PenaltyRules | undefined, now: () => number = () => performance.now()) {
    this.#now = now
    this.replace(rules)
  }

  /** Other rules for what happens from now on; what was charged stays, unless there are no penalties any more. */
  replace(rules: PenaltyRules | undefined): void {
    this.#rules = rules
    this.#isExempt = rules === undefined ? () => true : compileCidrs(rules.exempt)
    if (rules === undefined) this.#known.clear()
  }

  /** Whether nobody is let in from an address now. */
  holds(address: string): boolean {
    if (this.#known.size === 0 || this.#isExempt(address)) return false
    const source = sourceOf(address)
    const penalty = this.#known.get(source)
    if (penalty === undefined) return false
    if (penalty.untilMs > this.#now()) return penalty.isInForce
    this.#known.delete(source)
    return false
  }

  /** All that is not over yet, the oldest first. */
  list(): readonly Charged[] {
    const now = this.#now()
    return [...this.#known].flatMap(([source, { untilMs, isInForce }]): Charged[] =>
      untilMs > now ? [[source, untilMs - now, isInForce]] : [],
    )
  }

  /** What another has listed is held here too, by these rules: for no longer than they say, and nothing without any. */
  restore(charged: readonly Charged[]): void {
    const rules = this.#rules
    if (rules === undefined) return
    const now = this.#now()
    for (const [source, leftMs, isInForce] of charged) {
      this.#remember(source, { untilMs: now + Math.min(leftMs, rules.maxMs), isInForce })
    }
  }

  charge(address: string, offence: Offence): void {
    const rules = this.#rules
    if (rules === undefined || this.#isExempt(address)) return
    const now = this.#now()
    const source = sourceOf(address)
    const before = this.#known.get(source)
    const goesOn = before !== undefined && before.untilMs > now
    const untilMs = Math.min((goesOn ? before.untilMs : now) + rules.costMs[offence], now + rules.maxMs)
    const isInForce = (goesOn && before.isInForce) || untilMs - now >= rules.minMs
    this.#remember(source, { untilMs, isInForce })
  }

  #remember(source: string, penalty: Penalty): void {
    this.#known.delete(source)
    this.#known.set(source, penalty)
    if (this.#known.size > MAX_SOURCES) for (const [oldest] of this.#known) return void this.#known.delete(oldest)
  }
}

/** One address of IPv4, a network of 64 bits of IPv6. */
function sourceOf(address: string): string {
  const parsed = parseAddress(address)
  return parsed?.family === 6 ? `6 ${parsed.value >> SOURCE_BITS_6}` : address
}
