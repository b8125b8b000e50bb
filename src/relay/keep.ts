/**
 * What a session keeps in mind so that it can go on over another connection to its upstream: the payloads that are in
 * flight, what was acknowledged and not flushed, and whether a FLUSH has to fail for what was lost. There is none where
 * sessions end with their upstream.
 */
import type { ExportMeter } from '../observe/export-meter.ts'
import { Cmd, CmdFlag, TransmissionFlag } from '../protocol/constants.ts'
import type { ByteStream } from '../stream/byte-stream.ts'
import type { Share } from '../stream/memory.ts'
import { Ledger, type Unflushed } from './ledger.ts'
import { Payloads } from './payloads.ts'
import { isChange, type Pending } from './pending.ts'
import { ReplayLog } from './replay.ts'

/**
 * When a connection was last told that something is written, and when it sent the last FLUSH that has succeeded. For
 * connections that flush for each other (CAN_MULTI_CONN); milliseconds of a clock that all processes share.
 */
export interface FlushTimes {
  readonly ackedMs: number
  readonly flushedMs: number
  /** Since when it has the upstream that it has now, or had last: what it was told before that counts by `lostMs`. */
  readonly backMs: number
  /** The last of what it has lost. */
  readonly lostMs: number
}

/** A process that has to wait for the processor between two readings of the clock has one of them too early. */
const READINGS = 10

/** Milliseconds of the system's monotonic clock at the zero of `performance.now()`, which is each process's own. */
const ZERO_MS = Math.max(
  ...Array.from({ length: READINGS }, () => Number(process.hrtime.bigint()) / 1e6 - performance.now()),
)

/** The time as all processes of this host have it. */
export function commonMs(): number {
  return ZERO_MS + performance.now()
}

export interface KeepOptions {
  readonly client: ByteStream
  readonly upstream: ByteStream
  readonly pending: Pending
  readonly meter: ExportMeter
  /** Transmission flags as the client was told them. */
  readonly flags: number
  /** How many bytes of writes may be kept until they are flushed. */
  readonly replayBytes: number
  /** What they take. */
  readonly memory: Share
  /** Since when the upstream is there; now, without this. */
  readonly sinceMs?: number | undefined
}

export class Keep {
  readonly payloads: Payloads
  #replay: ReplayLog | undefined
  readonly #ledger = new Ledger()
  readonly #upstream: ByteStream
  readonly #pending: Pending
  readonly #meter: ExportMeter
  readonly #hasFlush: boolean
  readonly #isShared: boolean
  /** By slot, what is still to be asked for of READs that a former connection had begun to answer. */
  readonly #gaps = new Map<number, (readonly [number, number])[]>()
  #writing = -1
  #fails = false
  #hasWritten = false
  #hasAcked = false
  #ackedMs = 0
  #flushedMs = 0
  #backMs: number
  #lostMs = 0
  /** What was lost up to now has been told, or was before this session's time. */
  #toldMs: number
  readonly #sentMs: number[] = []

  constructor({ client, upstream, pending, meter, flags, replayBytes, memory, sinceMs }: KeepOptions) {
    this.payloads = new Payloads(client)
    this.#upstream = upstream
    this.#pending = pending
    this.#meter = meter
    this.#toldMs = sinceMs ?? commonMs()
    this.#backMs = this.#toldMs
    this.#hasFlush = (flags & TransmissionFlag.SEND_FLUSH) !== 0
    this.#isShared = (flags & TransmissionFlag.CAN_MULTI_CONN) !== 0 && (flags & TransmissionFlag.READ_ONLY) === 0
    // What another connection has written and flushed since would be overwritten.
    this.#replay = replayBytes > 0 && this.#hasFlush && !this.#isShared ? new ReplayLog(replayBytes, memory) : undefined
  }

  /** Writes that can be made again; undefined: they are not kept. */
  get replay(): ReplayLog | undefined {
    return this.#replay
  }

  /** Keeps no writes any more: another connection may write over them. */
  forgoReplay(): void {
    this.#replay?.clear()
    this.#replay = undefined
  }

  /** Whether the client may rely on other connections to flush for this one, and on this one for others. */
  get isShared(): boolean {
    return this.#isShared
  }

  /** Whether something was written, and the client can not ask for it to be safe. */
  get isUnsure(): boolean {
    return this.#hasWritten && !this.#hasFlush
  }

  /** What was acknowledged and may be gone with the upstream. */
  get unflushed(): Unflushed {
    return this.#ledger.unflushed
  }

  get times(): FlushTimes {
    return { ackedMs: this.#ackedMs, flushedMs: this.#flushedMs, backMs: this.#backMs, lostMs: this.#lostMs }
  }

  /** Whether a request has to fail for what was lost: the first that asks for something to be safe, and no other. */
  refuses(type: number, flags: number): boolean {
    if (!this.#fails || !(type === Cmd.FLUSH || (isChange(type) && (flags & CmdFlag.FUA) !== 0))) return false
    this.#fails = false
    this.#meter.flushesFailed++
    return true
  }

  /** The slot of the WRITE whose payload is passing, if any is; -1: it has been answered, or nothing of it goes out. */
  get writing(): number {
    return this.#writing
  }

  /** Memory of WRITEs whose replies need nothing more of the client; `left`: bytes that the one lacks which is being read. */
  wholeBytes(left: number): number {
    const isReading = left > 0 && this.#writing >= 0
    // Nor is what its chunks have in them of others that are answered.
    if (isReading && this.#pending.count === 1) return 0
    const begun = isReading ? this.#pending.lengthOf(this.#writing) - left : 0
    return this.payloads.bytes - begun
  }

  /** A request does not go out, or not yet. */
  skips(): void {
    this.#writing = -1
  }

  /** A request goes out in a slot. */
  asked(slot: number, type: number): void {
    this.#writing = type === Cmd.WRITE ? slot : -1
    if (type === Cmd.FLUSH) {
      this.#ledger.flushing(slot)
      this.#replay?.flushing(slot)
      if (this.#isShared) this.#sentMs[slot] = commonMs()
    }
  }

  /** A piece of the payload of the request that was asked last. */
  passes(from: number): void {
    if (this.#writing >= 0) this.payloads.add(this.#writing, from)
  }

  /** The request that was asked last is in memory of its own, head and payload. */
  isWhole(request: Buffer): void {
    if (this.#writing >= 0) this.payloads.addWhole(this.#writing, request, this.#pending.requestSize)
  }

  /** The last reply of a slot has come. */
  answered(slot: number): void {
    const pending = this.#pending
    const type = pending.typeOf(slot)
    if (type === Cmd.READ) {
      if (this.#gaps.size > 0) this.#gaps.delete(slot)
      return
    }
    const hasFailed = pending.hasFailed(slot)
    if (type === Cmd.FLUSH) {
      if (!hasFailed) this.#flushed(slot)
      return
    }
    if (!isChange(type)) return
    if (!hasFailed) this.#hasWritten = true
    if (!hasFailed && this.#hasFlush) this.#acknowledged(slot)
    if (type === Cmd.WRITE) this.payloads.drop(slot)
    if (slot === this.#writing) this.#writing = -1
  }

  /**
   * To be called when replies have come and before they pass: what they acknowledge was so by now, and who is told of it and
   * flushes by another connection does so later.
   */
  stamp(): void {
    if (!this.#hasAcked) return
    this.#hasAcked = false
    this.#ackedMs = commonMs()
  }

  /** Asks for the next part of a READ that a former connection had begun to answer; false: there is no more to ask for. */
  asksForMore(slot: number): boolean {
    const [next, ...others] = this.#gaps.get(slot) ?? []
    if (next === undefined) return false
    this.#gaps.set(slot, others)
    const [from, to] = next
    this.#upstream.write(this.#pending.encodeRequest(slot, from, to - from))
    return true
  }

  /** Sets down what of a READ is still to be asked for. */
  resumeRead(slot: number): void {
    this.#gaps.set(slot, [...this.#pending.gapsOf(slot)])
  }

  /**
   * The upstream has died at `diedMs`, and writes were not made again; `others` are the connections that this one flushes
   * for. If something is lost FLUSH fails from now on, once. What it is of this connection; undefined: nothing.
   */
  lose(diedMs: number, others: readonly FlushTimes[]): Unflushed | undefined {
    const own = this.#ledger.unflushed
    this.#replay?.clear()
    this.#ledger.clear()
    if (this.#isShared ? !this.#isLost(diedMs, others, own) : own.ranges === 0) return undefined
    this.#fails = true
    return own
  }

  /** Another upstream takes over. */
  back(): void {
    this.#backMs = commonMs()
  }

  /** So many FLUSHes that were out when the upstream died have failed: no other has to. */
  hasFailed(flushes: number): void {
    this.#meter.flushesFailed += flushes
    this.#fails = false
  }

  /** Whether FLUSH has to fail. */
  get fails(): boolean {
    return this.#fails
  }

  #isLost(diedMs: number, others: readonly FlushTimes[], own: Unflushed): boolean {
    const flushedMs = Math.max(this.#flushedMs, ...others.map(each => each.flushedMs))
    const isUnflushed = (ackedMs: number): boolean => ackedMs > flushedMs
    // One that has come back since has said what it lost, and was told the rest by the new upstream. Of one that has not,
    // all is in danger, also what it hands on only now: processes do not notice at the same time that a server has died.
    const acked = others.filter(({ backMs }) => backMs <= diedMs).map(({ ackedMs }) => ackedMs)
    const unflushed = [own.ranges > 0 ? this.#ackedMs : 0, ...acked].filter(isUnflushed)
    const lostMs = Math.max(0, ...unflushed, ...others.map(each => each.lostMs))
    if (lostMs <= this.#toldMs) return false
    this.#lostMs = lostMs
    this.#toldMs = lostMs
    return true
  }

  #flushed(slot: number): void {
    this.#ledger.flushed(slot)
    this.#replay?.flushed(slot)
    this.#flushedMs = Math.max(this.#flushedMs, this.#sentMs[slot] ?? 0)
  }

  #acknowledged(slot: number): void {
    const pending = this.#pending
    if ((pending.flagsOf(slot) & CmdFlag.FUA) === 0) {
      this.#ledger.add(pending.offsetOf(slot), pending.lengthOf(slot))
      this.#hasAcked = this.#isShared
    }
    this.#replay?.add(pending, slot, this.payloads)
  }
}
