import { Cmd, Magic, REPLY_TYPE_IS_ERROR, ReplyFlag } from '../protocol/constants.ts'
import { ProtocolError } from '../protocol/errors.ts'
import { EXTENDED_CHUNK_SIZE } from '../protocol/extended.ts'
import { RequestField } from '../protocol/request.ts'
import { SIMPLE_REPLY_SIZE, SimpleReplyField } from '../protocol/simple-reply.ts'
import { CHUNK_SIZE, ChunkField } from '../protocol/structured-reply.ts'
import type { Share } from '../stream/memory.ts'
import type { Wire } from '../stream/wire.ts'
import type { Payloads } from './payloads.ts'
import type { Pending } from './pending.ts'

/** A change as it was sent: its head, of which the cookie means nothing any more, and its payload. */
export interface Logged {
  readonly start: number
  readonly end: number
  readonly request: Buffer
}

/**
 * Changes that were acknowledged since the last FLUSH, to be made again in this order. All of them or none: when they are
 * more than may be kept, none is until the next FLUSH. Copies, so that what may be in flight is not taken up by what waits
 * for a FLUSH. Those with FUA are in it too: an older one would be written over them.
 */
export class ReplayLog {
  readonly #limit: number
  readonly #memory: Share
  #log: Logged[] = []
  #bytes = 0
  /** The number of the oldest; they are numbered as they come. */
  #first = 0
  /** Those of a lower number are not all here, if they are not flushed. */
  #lackBelow = 0
  /** Waits for the next FLUSH: what comes before that is missing anyway. */
  #isIdle = false
  readonly #marks: number[] = []

  /** Less than `limitBytes` when `memory` has no room for them. */
  constructor(limitBytes: number, memory: Share) {
    this.#limit = limitBytes
    this.#memory = memory
  }

  get bytes(): number {
    return this.#bytes
  }

  /** All that was acknowledged and not flushed; undefined when it was too much. */
  get all(): readonly Logged[] | undefined {
    return this.#lackBelow === 0 ? this.#log : undefined
  }

  /** The change of a slot was acknowledged. */
  add(pending: Pending, slot: number, payloads: Payloads): void {
    if (this.#isIdle) return
    const head = pending.encodeRequest(slot)
    const payload = pending.typeOf(slot) === Cmd.WRITE ? payloads.of(slot, pending.lengthOf(slot)) : []
    const request = Buffer.concat([head, ...payload])
    const start = pending.offsetOf(slot)
    this.#log.push({ start, end: start + pending.lengthOf(slot), request })
    this.#bytes += request.length
    this.#memory.hold(this.#bytes)
    if (this.#bytes <= this.#limit && this.#bytes <= this.#memory.mostBytes) return
    this.#drop(this.#log.length)
    this.#lackBelow = this.#first
    this.#isIdle = true
  }

  /** A FLUSH goes out. */
  flushing(slot: number): void {
    if (this.#isIdle) this.#lackBelow = ++this.#first
    this.#isIdle = false
    this.#marks[slot] = this.#first + this.#log.length
  }

  /** A FLUSH has succeeded. */
  flushed(slot: number): void {
    const mark = this.#marks[slot] ?? 0
    this.#drop(Math.max(0, Math.min(mark - this.#first, this.#log.length)))
    if (mark >= this.#lackBelow) this.#lackBelow = 0
  }

  /** Nothing of it counts any more. */
  clear(): void {
    this.#drop(this.#log.length)
    this.#lackBelow = 0
    this.#isIdle = false
  }

  #drop(count: number): void {
    for (const { request } of this.#log.slice(0, count)) this.#bytes -= request.length
    this.#log = this.#log.slice(count)
    this.#first += count
    this.#memory.hold(this.#bytes)
  }
}

/** Changes that are out at once. */
const AT_ONCE = 64

/** Longest error chunk. */
const MAX_CHUNK_BYTES = 8 * 1024

/**
 * Makes changes again, in order where they touch the same bytes; false: one of them was answered with an error.
 * @throws ProtocolError, StreamError
 */
export async function replay(wire: Wire, log: readonly Logged[]): Promise<boolean> {
  let out: Logged[] = []
  for (const change of log) {
    const touches = out.some(({ start, end }) => start < change.end && change.start < end)
    if (touches || out.length === AT_ONCE) {
      if (!(await answers(wire, out.length))) return false
      out = []
    }
    change.request.writeBigUInt64BE(BigInt(out.length), RequestField.COOKIE)
    out.push(change)
    await wire.write(change.request)
  }
  return await answers(wire, out.length)
}

/** Waits for so many replies; whether all of them say that it was done. */
async function answers(wire: Wire, count: number): Promise<boolean> {
  const open = new Set(Array.from({ length: count }, (_, cookie) => BigInt(cookie)))
  let isDone = true
  while (open.size > 0) {
    const { cookie, isLast, isError } = await nextReply(wire)
    if (!open.has(cookie)) throw new ProtocolError('UNKNOWN_COOKIE', 'a reply to no request')
    if (isLast) open.delete(cookie)
    if (isError) isDone = false
  }
  return isDone
}

async function nextReply(wire: Wire): Promise<{ cookie: bigint; isLast: boolean; isError: boolean }> {
  const head = await wire.read(SIMPLE_REPLY_SIZE)
  const magic = head.readUInt32BE(0)
  const cookie = head.readBigUInt64BE(SimpleReplyField.COOKIE)
  if (magic === Magic.SIMPLE_REPLY)
    return { cookie, isLast: true, isError: head.readUInt32BE(SimpleReplyField.ERROR) !== 0 }
  const isExtended = magic === Magic.EXTENDED_REPLY
  if (magic !== Magic.STRUCTURED_REPLY && !isExtended) {
    throw new ProtocolError('BAD_MAGIC', `reply magic 0x${magic.toString(16)}`)
  }
  const rest = await wire.read((isExtended ? EXTENDED_CHUNK_SIZE : CHUNK_SIZE) - SIMPLE_REPLY_SIZE)
  const length = isExtended ? Number(rest.readBigUInt64BE(8)) : rest.readUInt32BE(0)
  if (length > MAX_CHUNK_BYTES) throw new ProtocolError('BAD_REPLY', `a chunk of ${length} bytes`)
  await wire.drain(length)
  const isError = (head.readUInt16BE(ChunkField.TYPE) & REPLY_TYPE_IS_ERROR) !== 0
  return { cookie, isLast: (head.readUInt16BE(ChunkField.FLAGS) & ReplyFlag.DONE) !== 0, isError }
}
