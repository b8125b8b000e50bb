import { Bucket, type Buckets } from '../relay/throttle.ts'

/** A limit on the traffic of all sessions that have `key` in common. Bytes a second each way, requests a second. */
export interface Rate {
  readonly key: string
  readonly read?: number | undefined
  readonly write?: number | undefined
  readonly iops?: number | undefined
}

interface Entry {
  readonly buckets: { -readonly [kind in keyof Buckets]: Buckets[kind] }
  users: number
}

const KINDS = ['read', 'write', 'iops'] as const

/** The budgets of sessions that run in this process, shared by their keys. */
export class RateBook {
  readonly #entries = new Map<string, Entry>()

  /** The budgets of these limits; who had them before has the new rates too. Each take is followed by one `giveBack`. */
  take(rates: readonly Rate[]): readonly Buckets[] {
    return rates.map(rate => {
      const entry = this.#entries.get(rate.key) ?? { buckets: {}, users: 0 }
      this.#entries.set(rate.key, entry)
      entry.users++
      for (const kind of KINDS) setRate(entry, kind, rate[kind])
      return entry.buckets
    })
  }

  giveBack(rates: readonly Rate[]): void {
    for (const { key } of rates) {
      const entry = this.#entries.get(key)
      if (entry !== undefined && --entry.users === 0) this.#entries.delete(key)
    }
  }
}

function setRate({ buckets }: Entry, kind: keyof Buckets, perSecond: number | undefined): void {
  if (perSecond === undefined) delete buckets[kind]
  else if (buckets[kind] === undefined) buckets[kind] = new Bucket(perSecond, performance.now())
  else buckets[kind].setRate(perSecond)
}
