/**
 * What the sessions of one export in one process have in common to count: times, and waits for a budget. Plain numbers,
 * so that the relay allocates nothing; they become metrics when somebody asks.
 *
 * Reading the clock costs more than all else here, so of READs and WRITEs one in eight is timed, of handovers one in
 * sixteen. Other requests are rare, and all are timed.
 */
import { Cmd } from '../protocol/constants.ts'
import { Histogram } from './histogram.ts'
import type { RegionCounts } from './region-counts.ts'

const TIMED_REQUESTS = 8
const TIMED_HANDOVERS = 16

/** Kinds of requests, as metrics tell them apart. */
export const REQUEST_KINDS = ['read', 'write', 'flush', 'other'] as const
export type RequestKind = (typeof REQUEST_KINDS)[number]

/** Which way something goes through the gateway. */
export const HANDOVERS = ['request', 'reply'] as const
export type Handover = (typeof HANDOVERS)[number]

export class ExportMeter {
  /** From when a request was passed on until its last reply was there: the upstream's share of its time. */
  readonly upstream: Readonly<Record<RequestKind, Histogram>> = {
    read: new Histogram(),
    write: new Histogram(),
    flush: new Histogram(),
    other: new Histogram(),
  }
  /** From when something was taken in until it was handed to the other side's socket: the gateway's own share. */
  readonly own: Readonly<Record<Handover, Histogram>> = { request: new Histogram(), reply: new Histogram() }
  opened = 0
  /** Requests that had to wait for their budget, and how long. */
  waits = 0
  waitMs = 0
  /** FLUSHes that have failed for what an upstream has lost, and how many bytes those were, at most. */
  flushesFailed = 0
  lostBytes = 0
  /** Requests that were sent again to an upstream that was away. */
  sentAgain = 0
  /** Told of each request while somebody watches. */
  regions: RegionCounts | undefined = undefined
  #requests = 0
  // One for each way: in a strict alternation a common one would only ever time the same.
  readonly #handovers: Record<Handover, number> = { request: 0, reply: 0 }

  /** When a request of this type begins, if it is to be timed; else 0. */
  begin(type: number): number {
    if ((type === Cmd.READ || type === Cmd.WRITE) && ++this.#requests % TIMED_REQUESTS !== 0) return 0
    return performance.now()
  }

  /** The last reply to a request has come. */
  answered(type: number, beganMs: number): void {
    if (beganMs !== 0) this.upstream[kindOf(type)].observe(performance.now() - beganMs)
  }

  /** When a handover begins, if it is to be timed; else 0. */
  take(way: Handover): number {
    return ++this.#handovers[way] % TIMED_HANDOVERS === 0 ? performance.now() : 0
  }

  /** What was taken is on its way. */
  hand(way: Handover, tookMs: number): void {
    if (tookMs !== 0) this.own[way].observe(performance.now() - tookMs)
  }

  /** A request has to wait for its budget. */
  wait(ms: number): number {
    this.waits++
    this.waitMs += ms
    return ms
  }

  /** Takes over what another one has counted. */
  add(other: ExportMeter): void {
    for (const kind of REQUEST_KINDS) this.upstream[kind].add(other.upstream[kind])
    for (const way of HANDOVERS) this.own[way].add(other.own[way])
    this.opened += other.opened
    this.waits += other.waits
    this.waitMs += other.waitMs
    this.flushesFailed += other.flushesFailed
    this.lostBytes += other.lostBytes
    this.sentAgain += other.sentAgain
  }
}

function kindOf(type: number): RequestKind {
  return type === Cmd.READ ? 'read' : type === Cmd.WRITE ? 'write' : type === Cmd.FLUSH ? 'flush' : 'other'
}
