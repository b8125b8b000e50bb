import { Bucket, type Buckets, type Budget } from '../relay/throttle.ts'

/** A limit on the traffic of all sessions that have `key` in common. Bytes a second each way, requests a second. */
export interface Rate {
  readonly key: string
  readonly read?: number | undefined
  readonly write?: number | undefined
  readonly iops?: number | undefined
}

/** Which budget is meant. */
export interface BudgetName {
  readonly key: string
  readonly kind: keyof Buckets
}

/** Makes a budget. */
export type MakeBudget = (name: BudgetName, perSecond: number) => Budget

interface Entry {
  readonly buckets: { -readonly [kind in keyof Buckets]: Buckets[kind] }
  rate: Rate
  users: number
}

const KINDS = ['read', 'write', 'iops'] as const

/** The budgets of sessions that run in this process, shared by their keys. */
export class RateBook {
  readonly #entries = new Map<string, Entry>()
  #make: MakeBudget

  /** `make`: where the budget is not this process's alone. */
  constructor(make: MakeBudget = (_, perSecond) => new Bucket(perSecond, performance.now())) {
    this.#make = make
  }

  /** The budgets of these limits; who had them before has the new rates too. Each take is followed by one `giveBack`. */
  take(rates: readonly Rate[]): readonly Buckets[] {
    return rates.map(rate => {
      const entry = this.#entries.get(rate.key) ?? { buckets: {}, rate, users: 0 }
      this.#entries.set(rate.key, entry)
      entry.users++
      entry.rate = rate
      for (const kind of KINDS) this.#setRate(entry, { key: rate.key, kind }, rate[kind])
      return entry.buckets
    })
  }

  /** Budgets are made like this from now on, and those that there are made anew. */
  replace(make: MakeBudget): void {
    this.#make = make
    for (const entry of this.#entries.values()) {
      for (const kind of KINDS) delete entry.buckets[kind]
      for (const kind of KINDS) this.#setRate(entry, { key: entry.rate.key, kind }, entry.rate[kind])
    }
  }

  giveBack(rates: readonly Rate[]): void {
    for (const { key } of rates) {
      const entry = this.#entries.get(key)
      if (entry !== undefined && --entry.users === 0) this.#entries.delete(key)
    }
  }

  #setRate({ buckets }: Entry, name: BudgetName, perSecond: number | undefined): void {
    const { kind } = name
    if (perSecond === undefined) delete buckets[kind]
    else if (buckets[kind] === undefined) buckets[kind] = this.#make(name, perSecond)
    else buckets[kind].setRate(perSecond)
  }
}
