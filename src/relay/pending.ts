/**
 * The requests that the upstream has and has not answered, by slot. A request goes out under a cookie of our own that
 * names its slot, and its reply gets the client's cookie back: finding it costs an index, not a hash, and a reply that
 * nobody asked for is seen at once. Columns of numbers, so that a request allocates nothing.
 */

import { ExportMeter } from '../observe/export-meter.ts'
import { Cmd, Magic } from '../protocol/constants.ts'
import { ProtocolError } from '../protocol/errors.ts'
import { EXTENDED_REQUEST_SIZE, ExtendedField } from '../protocol/extended.ts'
import { REQUEST_SIZE, RequestField } from '../protocol/request.ts'
import { Coverage } from './coverage.ts'

/** Slots at the start; the table doubles when it is full. */
const INITIAL_SLOTS = 16

/** Names a request that is out, until its slot is used again. */
export interface Change {
  readonly slot: number
  readonly generation: number
}

export class Pending {
  /** How long the head of a request is. */
  readonly requestSize: number
  readonly #meter: ExportMeter
  readonly #isExtended: boolean
  #count = 0
  #readBytes = 0
  #lastReadBytes = 0
  #free: number[] = []
  #live = new Uint8Array(INITIAL_SLOTS)
  #type = new Uint8Array(INITIAL_SLOTS)
  #failed = new Uint8Array(INITIAL_SLOTS)
  #generation = new Uint32Array(INITIAL_SLOTS)
  #cookieHigh = new Uint32Array(INITIAL_SLOTS)
  #cookieLow = new Uint32Array(INITIAL_SLOTS)
  #offsetHigh = new Uint32Array(INITIAL_SLOTS)
  #offsetLow = new Uint32Array(INITIAL_SLOTS)
  #length = new Float64Array(INITIAL_SLOTS)
  #missing = new Float64Array(INITIAL_SLOTS)
  #began = new Float64Array(INITIAL_SLOTS)
  #flags = new Uint16Array(INITIAL_SLOTS)
  #order = new Float64Array(INITIAL_SLOTS)
  #added = 0
  /** What chunks have brought of READs, where they do not come in order. */
  readonly #coverage = new Coverage()

  /** `meter` is told how long requests take; `isExtended`: they have extended headers. */
  constructor(meter = new ExportMeter(), isExtended = false) {
    this.#meter = meter
    this.#isExtended = isExtended
    this.requestSize = isExtended ? EXTENDED_REQUEST_SIZE : REQUEST_SIZE
    for (let slot = INITIAL_SLOTS - 1; slot >= 0; slot--) this.#free.push(slot)
  }

  /** Requests without their last reply. */
  get count(): number {
    return this.#count
  }

  /** Bytes that READs have asked for and not got. */
  get readBytes(): number {
    return this.#readBytes
  }

  /** Length of the READ that was added last; 0 before the first. A guess at what the next reply is. */
  get lastReadBytes(): number {
    return this.#count === 0 ? 0 : this.#lastReadBytes
  }

  /**
   * Remembers the request whose cookie, offset and length stand at `cookieAt`, `offsetAt` of `head`, and writes our own
   * cookie in place of the client's. `expectedBytes` is what a READ waits for, 0 for all others. Returns the slot.
   */
  add(head: Buffer, cookieAt: number, offsetAt: number, type: number, length: number, expectedBytes: number): number {
    if (this.#free.length === 0) this.#grow()
    const slot = this.#free.pop() ?? 0
    this.#count++
    this.#readBytes += expectedBytes
    if (expectedBytes > 0) this.#lastReadBytes = expectedBytes
    this.#live[slot] = 1
    this.#failed[slot] = 0
    this.#type[slot] = type
    this.#cookieHigh[slot] = head.readUInt32BE(cookieAt)
    this.#cookieLow[slot] = head.readUInt32BE(cookieAt + 4)
    this.#offsetHigh[slot] = head.readUInt32BE(offsetAt)
    this.#offsetLow[slot] = head.readUInt32BE(offsetAt + 4)
    this.#length[slot] = length
    this.#missing[slot] = expectedBytes
    this.#began[slot] = this.#meter.begin(type)
    this.#order[slot] = ++this.#added
    this.#meter.regions?.count(type, head, offsetAt, length)
    // The generation makes a second reply to a slot that has been used again since an unknown cookie.
    const generation = ((this.#generation[slot] ?? 0) + 1) >>> 0
    this.#generation[slot] = generation
    head.writeUInt32BE(generation, cookieAt)
    head.writeUInt32BE(slot, cookieAt + 4)
    return slot
  }

  /** The slot that the cookie at `cookieAt` of `head` names, or -1 when no such request is out. */
  find(head: Buffer, cookieAt: number): number {
    const slot = head.readUInt32BE(cookieAt + 4)
    return this.#live[slot] === 1 && this.#generation[slot] === head.readUInt32BE(cookieAt) ? slot : -1
  }

  /** Writes the client's cookie of a slot at `cookieAt` of `head`. */
  restoreCookie(slot: number, head: Buffer, cookieAt: number): void {
    head.writeUInt32BE(this.#cookieHigh[slot] ?? 0, cookieAt)
    head.writeUInt32BE(this.#cookieLow[slot] ?? 0, cookieAt + 4)
  }

  /** The client's cookie of a slot. */
  cookieOf(slot: number): bigint {
    return (BigInt(this.#cookieHigh[slot] ?? 0) << 32n) | BigInt(this.#cookieLow[slot] ?? 0)
  }

  /** Writes the offset of a slot's request at `at` of `head`. */
  writeOffset(slot: number, head: Buffer, at: number): void {
    head.writeUInt32BE(this.#offsetHigh[slot] ?? 0, at)
    head.writeUInt32BE(this.#offsetLow[slot] ?? 0, at + 4)
  }

  /** The requests that are out and change the export; `isOut` tells when one of them is not any more. */
  changes(): readonly Change[] {
    const slots = Array.from(this.#live.keys()).filter(slot => this.#live[slot] === 1 && isChange(this.typeOf(slot)))
    return slots.map(slot => ({ slot, generation: this.#generation[slot] ?? 0 }))
  }

  isOut({ slot, generation }: Change): boolean {
    return this.#live[slot] === 1 && this.#generation[slot] === generation
  }

  typeOf(slot: number): number {
    return this.#type[slot] ?? 0
  }

  flagsOf(slot: number): number {
    return this.#flags[slot] ?? 0
  }

  /** The command flags that a request goes out with. */
  setFlags(slot: number, flags: number): void {
    this.#flags[slot] = flags
  }

  /** Where the request of a slot points; beyond 2^53 not exactly. */
  offsetOf(slot: number): number {
    return (this.#offsetHigh[slot] ?? 0) * 2 ** 32 + (this.#offsetLow[slot] ?? 0)
  }

  /** The same, exactly. */
  exactOffsetOf(slot: number): bigint {
    return (BigInt(this.#offsetHigh[slot] ?? 0) << 32n) | BigInt(this.#offsetLow[slot] ?? 0)
  }

  offsetHighOf(slot: number): number {
    return this.#offsetHigh[slot] ?? 0
  }

  offsetLowOf(slot: number): number {
    return this.#offsetLow[slot] ?? 0
  }

  /** How many requests there have been. */
  get added(): number {
    return this.#added
  }

  /** Whether one of the first `added` requests has not been answered. */
  hasOneOf(added: number): boolean {
    return this.#live.some((live, slot) => live === 1 && (this.#order[slot] ?? 0) <= added)
  }

  /** The slots that are out, in the order of their requests. */
  slots(): readonly number[] {
    const slots = Array.from(this.#live.keys()).filter(slot => this.#live[slot] === 1)
    return slots.sort((a, b) => (this.#order[a] ?? 0) - (this.#order[b] ?? 0))
  }

  /** The head of a slot's request as it went out, or of a part of it. */
  encodeRequest(slot: number, from = 0, length = this.lengthOf(slot)): Buffer {
    const head = Buffer.alloc(this.requestSize)
    head.writeUInt32BE(this.#isExtended ? Magic.EXTENDED_REQUEST : Magic.REQUEST, RequestField.MAGIC)
    head.writeUInt16BE(this.flagsOf(slot), RequestField.FLAGS)
    head.writeUInt16BE(this.typeOf(slot), RequestField.TYPE)
    head.writeUInt32BE(this.#generation[slot] ?? 0, RequestField.COOKIE)
    head.writeUInt32BE(slot, RequestField.COOKIE + 4)
    head.writeBigUInt64BE(this.exactOffsetOf(slot) + BigInt(from), RequestField.OFFSET)
    if (this.#isExtended) head.writeBigUInt64BE(BigInt(length), ExtendedField.LENGTH)
    else head.writeUInt32BE(length, RequestField.LENGTH)
    return head
  }

  lengthOf(slot: number): number {
    return this.#length[slot] ?? 0
  }

  /** Bytes of a READ that no chunk has brought yet. */
  missingOf(slot: number): number {
    return this.#missing[slot] ?? 0
  }

  /** Whether an error chunk has come for the slot. */
  hasFailed(slot: number): boolean {
    return this.#failed[slot] === 1
  }

  markFailed(slot: number): void {
    this.#failed[slot] = 1
  }

  /** How far the offset at `at` of `head` lies behind the start of the slot's request; negative when before it. */
  distanceTo(slot: number, head: Buffer, at: number): number {
    const high = head.readUInt32BE(at) - (this.#offsetHigh[slot] ?? 0)
    return high * 2 ** 32 + (head.readUInt32BE(at + 4) - (this.#offsetLow[slot] ?? 0))
  }

  /** Counts bytes of a READ that a chunk brings, from its byte `from` on. @throws ProtocolError BAD_REPLY if one comes twice */
  deliver(slot: number, from: number, bytes: number): void {
    const missing = this.#missing[slot] ?? 0
    const inOrder = this.lengthOf(slot) - missing
    const isInOrder = from === inOrder && !this.#coverage.has(slot)
    if (!isInOrder && !this.#coverage.add(slot, inOrder, { from, to: from + bytes })) {
      throw new ProtocolError('BAD_REPLY', 'chunks that overlap')
    }
    this.#missing[slot] = missing - bytes
    this.#readBytes -= bytes
  }

  /** What no chunk has brought yet of a READ: where it begins and ends in the request. */
  gapsOf(slot: number): readonly (readonly [number, number])[] {
    const got = this.#coverage.piecesOf(slot) ?? [{ from: 0, to: this.lengthOf(slot) - this.missingOf(slot) }]
    const gaps: (readonly [number, number])[] = []
    let at = 0
    for (const { from, to } of got) {
      if (from > at) gaps.push([at, from])
      at = to
    }
    return at < this.lengthOf(slot) ? [...gaps, [at, this.lengthOf(slot)]] : gaps
  }

  /** The last reply of a slot has come. */
  remove(slot: number): void {
    this.#meter.answered(this.typeOf(slot), this.#began[slot] ?? 0)
    this.#readBytes -= this.#missing[slot] ?? 0
    this.#live[slot] = 0
    this.#count--
    this.#free.push(slot)
    this.#coverage.forget(slot)
  }

  #grow(): void {
    const old = this.#live.length
    const size = old * 2
    this.#live = grown(this.#live, new Uint8Array(size))
    this.#type = grown(this.#type, new Uint8Array(size))
    this.#failed = grown(this.#failed, new Uint8Array(size))
    this.#generation = grown(this.#generation, new Uint32Array(size))
    this.#cookieHigh = grown(this.#cookieHigh, new Uint32Array(size))
    this.#cookieLow = grown(this.#cookieLow, new Uint32Array(size))
    this.#offsetHigh = grown(this.#offsetHigh, new Uint32Array(size))
    this.#offsetLow = grown(this.#offsetLow, new Uint32Array(size))
    this.#length = grown(this.#length, new Float64Array(size))
    this.#missing = grown(this.#missing, new Float64Array(size))
    this.#began = grown(this.#began, new Float64Array(size))
    this.#flags = grown(this.#flags, new Uint16Array(size))
    this.#order = grown(this.#order, new Float64Array(size))
    for (let slot = size - 1; slot >= old; slot--) this.#free.push(slot)
  }
}

/** Whether a command changes what is on the export. */
export function isChange(type: number): boolean {
  return type === Cmd.WRITE || type === Cmd.TRIM || type === Cmd.WRITE_ZEROES
}

function grown<Column extends Uint8Array | Uint16Array | Uint32Array | Float64Array>(from: Column, to: Column): Column {
  to.set(from)
  return to
}
