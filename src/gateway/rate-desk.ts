import { Bucket } from '../relay/throttle.ts'
import type { BudgetName } from './rates.ts'

interface Entry {
  readonly bucket: Bucket
  /** The last one in the queue. */
  last: Promise<void>
  waiting: number
}

/** Above so many budgets, those that nobody draws on are forgotten: they are full again, as new ones are. */
const MANY = 4096

/** The budgets that several processes draw on: who comes first is served first. */
export class RateDesk {
  readonly #entries = new Map<string, Entry>()

  /**
   * Takes so much as soon as somebody may, and resolves when what that has overdrawn is paid: who draws has already used a part
   * of it.
   */
  async draw({ key, kind }: BudgetName, perSecond: number, count: number): Promise<void> {
    const id = `${kind} ${key}`
    const nowMs = performance.now()
    if (this.#entries.size > MANY) this.#sweep(nowMs)
    const entry = this.#entries.get(id) ?? { bucket: new Bucket(perSecond, nowMs), last: Promise.resolve(), waiting: 0 }
    this.#entries.set(id, entry)
    entry.bucket.setRate(perSecond)
    entry.waiting++
    entry.last = entry.last.then(async () => {
      await hasSome(entry.bucket)
      entry.bucket.take(count)
      await hasSome(entry.bucket)
      entry.waiting--
    })
    await entry.last
  }

  #sweep(nowMs: number): void {
    for (const [id, { bucket, waiting }] of this.#entries) {
      if (waiting === 0 && bucket.waitMs(nowMs) === 0) this.#entries.delete(id)
    }
  }
}

async function hasSome(bucket: Bucket): Promise<void> {
  for (let ms = bucket.waitMs(performance.now()); ms > 0; ms = bucket.waitMs(performance.now())) {
    await new Promise(resolve => setTimeout(resolve, ms))
  }
}
