import { Cmd } from '../protocol/constants.ts'

/** How far a budget fills up while nobody takes from it: short, so that the average over ten seconds is the rate. */
const BURST_S = 0.1

/** Shortest wait for a budget: timers are no finer. */
const MIN_WAIT_MS = 1

/** What a request has to have something left of before it may pass. Shared by all who have it in common. */
export interface Budget {
  /** Another rate from now on. */
  setRate(perSecond: number): void

  /** Milliseconds until somebody may take; 0: now. */
  waitMs(nowMs: number): number

  take(count: number): void
}

/**
 * A budget that refills at a steady rate: a token bucket. Who takes the last of it may overdraw it, by a request that is
 * larger than all of it for example; the next one waits until the debt is paid.
 */
export class Bucket implements Budget {
  #perSecond: number
  #left: number
  #atMs: number

  /** `perSecond`: bytes, or requests. */
  constructor(perSecond: number, nowMs: number) {
    this.#perSecond = perSecond
    this.#left = perSecond * BURST_S
    this.#atMs = nowMs
  }

  setRate(perSecond: number): void {
    this.#perSecond = perSecond
  }

  waitMs(nowMs: number): number {
    const left = this.#refill(nowMs)
    return left > 0 ? 0 : Math.max(MIN_WAIT_MS, (-left / this.#perSecond) * 1000)
  }

  take(count: number): void {
    this.#left -= count
  }

  #refill(nowMs: number): number {
    const refilled = this.#left + ((nowMs - this.#atMs) / 1000) * this.#perSecond
    this.#left = Math.min(refilled, this.#perSecond * BURST_S)
    this.#atMs = nowMs
    return this.#left
  }
}

/** Budgets that belong together; one that is absent is not limited. */
export interface Buckets {
  /** Bytes of READs. */
  readonly read?: Budget | undefined
  /** Bytes of WRITEs. */
  readonly write?: Budget | undefined
  /** Requests of every kind. */
  readonly iops?: Budget | undefined
}

/** What holds back the requests of one session: several sets of budgets, of which all must have something left. */
export class Throttle {
  #sets: readonly Buckets[] = []
  #waitMs = 0

  /** Replaces the budgets, from the next request on. */
  use(sets: readonly Buckets[]): void {
    this.#sets = sets
  }

  /** How long the request that was not admitted has to wait. */
  get waitMs(): number {
    return this.#waitMs
  }

  /** Whether a request may pass now; takes what it costs if it may. */
  admits(type: number, length: number): boolean {
    if (this.#sets.length === 0) return true
    const nowMs = performance.now()
    this.#waitMs = 0
    for (const set of this.#sets) {
      this.#waitMs = Math.max(this.#waitMs, set.iops?.waitMs(nowMs) ?? 0, byteBucket(set, type)?.waitMs(nowMs) ?? 0)
    }
    if (this.#waitMs > 0) return false
    for (const set of this.#sets) {
      set.iops?.take(1)
      byteBucket(set, type)?.take(length)
    }
    return true
  }
}

function byteBucket(set: Buckets, type: number): Budget | undefined {
  return type === Cmd.READ ? set.read : type === Cmd.WRITE ? set.write : undefined
}
