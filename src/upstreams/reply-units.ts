/**
 * Where each reply ends in what one of several connections sends. A unit is what must not be torn apart when replies of
 * several connections are joined to one stream: a simple reply with its data, or a chunk. Units are found by their heads,
 * in place; whether they are what was asked for is judged by whoever reads the joined stream.
 *
 * FLUSH went out on all connections, so its replies are taken out here and reported.
 */
import { Cmd, MAX_STRING_BYTES, Magic, REPLY_TYPE_IS_ERROR, ReplyFlag } from '../protocol/constants.ts'
import { ProtocolError } from '../protocol/errors.ts'
import { SIMPLE_REPLY_SIZE, SimpleReplyField } from '../protocol/simple-reply.ts'
import { CHUNK_SIZE, ChunkField, DATA_CHUNK_SIZE } from '../protocol/structured-reply.ts'
import { HEADROOM_BYTES } from '../stream/buffer-pool.ts'

/** Longest payload of a chunk that answers FLUSH: u32, u16, message, u64. */
const MAX_ERROR_PAYLOAD = 6 + MAX_STRING_BYTES + 8

/** READs of this length and above are read one by one, so that a chunk ends where its reply does. */
const LARGE_REPLY_BYTES = 32 * 1024

/** What a request costs beside its payload, in bytes of the same scale. */
const REQUEST_COST_BYTES = 64

/** Who is told of what is found. */
export interface UnitEars {
  /** Bytes that pass, in order. `end` is where in them the last unit ends; 0: none does. */
  piece(bytes: Buffer, end: number): void
  /** A FLUSH was answered; 0: it was done. */
  flushed(cookie: number, error: number): void
}

/** What one connection was asked for, and what it answers. */
export class ReplyUnits {
  /** What is on its way in either direction. */
  costBytes = 0
  readonly #ears: UnitEars
  readonly #isStructured: boolean
  /**
   * By the low half of the cookie, which the relay makes one of its own for each request that is out: the length of a
   * READ, or that of a WRITE below zero, 0 for all others.
   */
  readonly #asked = new Map<number, number>()
  readonly #flushes = new Set<number>()
  #readBytes = 0
  #lastReadBytes = 0
  #head = Buffer.alloc(CHUNK_SIZE)
  #headLength = 0
  #left = 0
  /** The FLUSH whose reply is being taken out. */
  #flush: { readonly cookie: number; readonly isLast: boolean; error: number; errorBytes: number } | undefined
  /** An error of a FLUSH that has more chunks to come. */
  readonly #errors = new Map<number, number>()
  #from = 0
  #end = 0
  #isTaken = false

  constructor(ears: UnitEars, isStructured: boolean) {
    this.#ears = ears
    this.#isStructured = isStructured
  }

  /** Whether all is answered, to its last byte. */
  get isIdle(): boolean {
    return this.#asked.size === 0 && this.#flushes.size === 0 && this.#left === 0
  }

  /** How much is about to come; of large replies no more than one. */
  get expectedBytes(): number {
    if (this.#left > 0) return this.#left
    const head = this.#isStructured ? DATA_CHUNK_SIZE : SIMPLE_REPLY_SIZE
    if (this.#lastReadBytes >= LARGE_REPLY_BYTES && this.#readBytes > 0) return head + this.#lastReadBytes
    return this.#readBytes + (this.#asked.size + this.#flushes.size) * HEADROOM_BYTES
  }

  /** A request goes out on this connection. */
  ask(cookie: number, type: number, length: number): void {
    if (type === Cmd.FLUSH) {
      this.#flushes.add(cookie)
      return
    }
    const bytes = type === Cmd.READ ? length : type === Cmd.WRITE ? -length : 0
    this.#asked.set(cookie, bytes)
    this.costBytes += REQUEST_COST_BYTES + Math.abs(bytes)
    if (type !== Cmd.READ) return
    this.#readBytes += length
    this.#lastReadBytes = length
  }

  /**
   * Takes the next bytes; whether any of them are in a piece, which then is the one that the chunk is to be given back
   * with. @throws ProtocolError; nothing can be taken afterwards
   */
  feed(chunk: Buffer): boolean {
    this.#from = 0
    this.#end = 0
    this.#isTaken = false
    let at = 0
    while (at < chunk.length) at = this.#left > 0 ? this.#passPayload(chunk, at) : this.#findHead(chunk, at)
    this.#pass(chunk, at)
    return this.#isTaken
  }

  #passPayload(chunk: Buffer, at: number): number {
    const end = Math.min(at + this.#left, chunk.length)
    this.#left -= end - at
    if (this.#flush !== undefined) this.#takeOut(chunk, at, end)
    else if (this.#left === 0) this.#end = end
    return end
  }

  #findHead(chunk: Buffer, at: number): number {
    if (this.#headLength > 0) return this.#continueHead(chunk, at)
    const available = chunk.length - at
    const size = headBytes(chunk, at, available)
    if (size > available) {
      // Half a head does not leave: it might be that of a FLUSH.
      this.#pass(chunk, at)
      this.#headLength = chunk.copy(this.#head, 0, at)
      this.#from = chunk.length
      return chunk.length
    }
    const next = at + size
    if (this.#judge(chunk, at)) {
      this.#pass(chunk, at)
      this.#takeOut(chunk, next, next)
    } else if (this.#left === 0) this.#end = next
    return next
  }

  /** A head that began in a former chunk; it leaves as a copy. */
  #continueHead(chunk: Buffer, at: number): number {
    let next = at
    let size = headBytes(this.#head, 0, this.#headLength)
    while (this.#headLength < size) {
      const copied = chunk.copy(
        this.#head,
        this.#headLength,
        next,
        Math.min(next + size - this.#headLength, chunk.length),
      )
      this.#headLength += copied
      next += copied
      this.#from = next
      if (this.#headLength < size) return next
      size = headBytes(this.#head, 0, size)
    }
    this.#headLength = 0
    if (this.#judge(this.#head, 0)) this.#takeOut(chunk, next, next)
    else this.#ears.piece(roomyCopy(this.#head.subarray(0, size)), this.#left === 0 ? size : 0)
    return next
  }

  /** Finds out how much payload follows the whole head at `at`; whether it is that of a FLUSH. */
  #judge(bytes: Buffer, at: number): boolean {
    const cookie = bytes.readUInt32BE(at + SimpleReplyField.COOKIE + 4)
    const isSimple = bytes.readUInt32BE(at) === Magic.SIMPLE_REPLY
    const isLast = isSimple || (bytes.readUInt16BE(at + ChunkField.FLAGS) & ReplyFlag.DONE) !== 0
    const error = isSimple ? bytes.readUInt32BE(at + SimpleReplyField.ERROR) : 0
    const asked = this.#asked.get(cookie)
    this.#left = isSimple ? 0 : bytes.readUInt32BE(at + ChunkField.LENGTH)
    if (asked !== undefined) {
      if (isSimple && asked > 0 && error === 0) this.#left = asked
      if (isLast) this.#answered(cookie, asked)
      return false
    }
    if (!this.#flushes.has(cookie)) throw new ProtocolError('UNKNOWN_COOKIE', 'a reply to no request')
    if (this.#left > MAX_ERROR_PAYLOAD) throw new ProtocolError('BAD_LENGTH', `${this.#left} bytes in answer to FLUSH`)
    const isError = !isSimple && (bytes.readUInt16BE(at + ChunkField.TYPE) & REPLY_TYPE_IS_ERROR) !== 0
    this.#flush = { cookie, isLast, error, errorBytes: isError ? 4 : 0 }
    return true
  }

  #answered(cookie: number, asked: number): void {
    this.#asked.delete(cookie)
    this.costBytes -= REQUEST_COST_BYTES + Math.abs(asked)
    if (asked > 0) this.#readBytes -= asked
  }

  /** Payload of a reply to FLUSH from `from` to `to`, which is over when none is left. */
  #takeOut(chunk: Buffer, from: number, to: number): void {
    const flush = this.#flush
    this.#from = to
    if (flush === undefined) return
    for (let at = from; at < to && flush.errorBytes > 0; at++, flush.errorBytes--) {
      flush.error = ((flush.error << 8) | (chunk[at] ?? 0)) >>> 0
    }
    if (this.#left > 0) return
    this.#flush = undefined
    const { cookie, isLast } = flush
    const error = this.#errors.get(cookie) || flush.error
    if (!isLast) {
      if (error !== 0) this.#errors.set(cookie, error)
      return
    }
    this.#errors.delete(cookie)
    this.#flushes.delete(cookie)
    this.#ears.flushed(cookie, error)
  }

  /** Passes on what is kept up to `to`; what a FLUSH has cut off from the rest of its chunk as a copy. */
  #pass(chunk: Buffer, to: number): void {
    if (to <= this.#from) return
    const part = this.#from === 0 && to === chunk.length ? chunk : chunk.subarray(this.#from, to)
    const end = Math.max(0, this.#end - this.#from)
    this.#from = to
    this.#ears.piece(this.#isTaken ? roomyCopy(part) : part, end)
    this.#isTaken = true
  }
}

/** How long the head at `at` is, as far as `available` bytes tell. @throws ProtocolError */
function headBytes(bytes: Buffer, at: number, available: number): number {
  if (available < 4) return 4
  const magic = bytes.readUInt32BE(at)
  if (magic === Magic.SIMPLE_REPLY) return SIMPLE_REPLY_SIZE
  if (magic !== Magic.STRUCTURED_REPLY) throw new ProtocolError('BAD_MAGIC', `reply magic 0x${magic.toString(16)}`)
  return CHUNK_SIZE
}

/** A copy with the room in front that every chunk has. */
export function roomyCopy(bytes: Uint8Array): Buffer {
  const memory = new ArrayBuffer(HEADROOM_BYTES + bytes.length)
  const copy = Buffer.from(memory, HEADROOM_BYTES, bytes.length)
  copy.set(bytes)
  return copy
}
