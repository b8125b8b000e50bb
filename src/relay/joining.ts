/**
 * Replies on their way back from an upstream whose requests were split: what answers a part is joined to the answer of the
 * whole. Replies to whole requests pass as they are, under the cookie that they were asked with; what becomes of them is for
 * the relay to judge, as are the bounds of chunks that pass. Data that have to leave as one message are put together here.
 */
import { Cmd, Err, Magic, REPLY_TYPE_IS_ERROR, ReplyFlag, ReplyType } from '../protocol/constants.ts'
import { ProtocolError } from '../protocol/errors.ts'
import { encodeSimpleReply, SimpleReplyField } from '../protocol/simple-reply.ts'
import { CHUNK_SIZE, ChunkField, encodeChunk, encodeDataChunk, encodeErrorChunk } from '../protocol/structured-reply.ts'
import { type Grammar, Verdict } from './framer.ts'
import type { Part, Parts, Whole } from './parts.ts'
import { replyHeadBytes } from './reply-head.ts'

/** What of a chunk's payload belongs to its head where its data are put together here: offset; offset and length; error. */
const DATA_HEAD = 8
const HOLE_HEAD = 12
const ERROR_HEAD = 4
/** Shortest payload of an error: its value, and the length of no text. */
const ERROR_BYTES = 6

/** Who is told of what is joined. */
export interface Joined {
  /** A message of our own, between two of the upstream's. */
  readonly inject: (message: Buffer) => void
  /** A part of a READ is answered. */
  readonly isRead: (part: Part) => void
}

export class JoiningGrammar implements Grammar {
  payloadBytes = 0
  readonly replacement = Buffer.alloc(0)
  readonly #parts: Parts
  readonly #structured: boolean
  readonly #joined: Joined
  /** Where the payload goes that is passing. */
  #filling: { readonly part: Part; at: number } | undefined

  constructor(parts: Parts, structured: boolean, joined: Joined) {
    this.#parts = parts
    this.#structured = structured
    this.#joined = joined
  }

  headBytes(bytes: Buffer, at: number, available: number): number {
    const size = replyHeadBytes(bytes, at, available, this.#structured)
    if (size !== CHUNK_SIZE || available < CHUNK_SIZE) return size
    const part = this.#parts.find(bytes, at + ChunkField.COOKIE)
    const isPassed = part === undefined || !part.whole.isSplit || passesChunks(part.whole)
    const type = bytes.readUInt16BE(at + ChunkField.TYPE)
    return CHUNK_SIZE + (isPassed ? 0 : payloadHead(type, bytes.readUInt32BE(at + ChunkField.LENGTH)))
  }

  judge(bytes: Buffer, at: number): Verdict {
    const part = this.#parts.find(bytes, at + SimpleReplyField.COOKIE)
    if (part === undefined) throw new ProtocolError('UNKNOWN_COOKIE', 'a reply to no request')
    const isSimple = bytes.readUInt32BE(at) === Magic.SIMPLE_REPLY
    const isLast = isSimple || (bytes.readUInt16BE(at + ChunkField.FLAGS) & ReplyFlag.DONE) !== 0
    if (isLast) this.#parts.remove(bytes, at + SimpleReplyField.COOKIE)
    if (!part.whole.isSplit) return this.#pass(part.whole, isSimple, bytes, at)
    if (isSimple) return this.#joinSimple(part, bytes, at)
    return passesChunks(part.whole)
      ? this.#joinChunk(part, isLast, bytes, at)
      : this.#gatherChunk(part, isLast, bytes, at)
  }

  /** The payload of what is not passed on. */
  dropped(bytes: Buffer): void {
    const filling = this.#filling
    if (filling === undefined) return
    filling.part.whole.data?.set(bytes, filling.at)
    filling.at += bytes.length
    if (filling.at < filling.part.from + filling.part.length) return
    this.#filling = undefined
    this.#answered(filling.part)
  }

  #pass(whole: Whole, isSimple: boolean, bytes: Buffer, at: number): Verdict {
    bytes.writeBigUInt64BE(whole.cookie, at + SimpleReplyField.COOKIE)
    const hasData =
      whole.type === Cmd.READ && !this.#structured && bytes.readUInt32BE(at + SimpleReplyField.ERROR) === 0
    this.payloadBytes = isSimple ? (hasData ? whole.length : 0) : bytes.readUInt32BE(at + ChunkField.LENGTH)
    return Verdict.KEEP
  }

  #joinSimple(part: Part, bytes: Buffer, at: number): Verdict {
    const isRead = part.whole.type === Cmd.READ
    // proto.md, "Structured reply chunk message": READ MUST be answered by chunks once they are negotiated.
    if (isRead && this.#structured) throw new ProtocolError('BAD_REPLY', 'a simple reply to READ')
    const error = bytes.readUInt32BE(at + SimpleReplyField.ERROR)
    this.payloadBytes = isRead && error === 0 ? part.length : 0
    if (this.payloadBytes > 0) this.#filling = { part, at: part.from }
    else {
      fail(part.whole, error)
      this.#answered(part)
    }
    return Verdict.DROP
  }

  /** A chunk of a READ passes, but says that it is the last one only when it is that of the whole. */
  #joinChunk(part: Part, isLast: boolean, bytes: Buffer, at: number): Verdict {
    const { whole } = part
    const type = bytes.readUInt16BE(at + ChunkField.TYPE)
    this.payloadBytes = bytes.readUInt32BE(at + ChunkField.LENGTH)
    bytes.writeBigUInt64BE(whole.cookie, at + ChunkField.COOKIE)
    if (isLast) this.#answered(part)
    const isOver = isLast && whole.left === 0
    const isError = (type & REPLY_TYPE_IS_ERROR) !== 0
    // proto.md, "NBD_REPLY_TYPE_ERROR": SHOULD NOT be used more than once in a reply.
    if ((isError && whole.error !== 0) || (type === ReplyType.NONE && isLast && !isOver)) {
      if (isOver) this.#joined.inject(lastChunk(whole))
      return Verdict.DROP
    }
    if (isError) fail(whole, -1)
    if (isLast && !isOver) bytes.writeUInt16BE(0, at + ChunkField.FLAGS)
    return Verdict.KEEP
  }

  /** A chunk that only says how a WRITE went, or that belongs to a READ of which the client wants one chunk. */
  #gatherChunk(part: Part, isLast: boolean, bytes: Buffer, at: number): Verdict {
    const { whole } = part
    const type = bytes.readUInt16BE(at + ChunkField.TYPE)
    const length = bytes.readUInt32BE(at + ChunkField.LENGTH)
    this.payloadBytes = length - payloadHead(type, length)
    const isData = whole.type === Cmd.READ && (type === ReplyType.OFFSET_DATA || type === ReplyType.OFFSET_HOLE)
    if ((type & REPLY_TYPE_IS_ERROR) !== 0) {
      const error = bytes.readUInt32BE(at + ChunkField.PAYLOAD)
      if (error === 0) throw new ProtocolError('BAD_REPLY', 'an error chunk without an error')
      fail(whole, error)
    } else if (isData) this.#gatherData(part, isLast, bytes, at)
    else if (type !== ReplyType.NONE || length !== 0 || !isLast) {
      throw new ProtocolError('BAD_REPLY', `chunk type ${type} in answer to command ${whole.type}`)
    } else if (whole.type === Cmd.READ && whole.error === 0) {
      throw new ProtocolError('BAD_REPLY', 'a READ that ended without its one chunk')
    }
    if (isLast && this.#filling === undefined) this.#answered(part)
    return Verdict.DROP
  }

  #gatherData(part: Part, isLast: boolean, bytes: Buffer, at: number): void {
    const isHole = bytes.readUInt16BE(at + ChunkField.TYPE) === ReplyType.OFFSET_HOLE
    const size = isHole ? bytes.readUInt32BE(at + ChunkField.PAYLOAD + 8) : this.payloadBytes
    const offset = bytes.readBigUInt64BE(at + ChunkField.PAYLOAD)
    // proto.md, "NBD_CMD_FLAG_DF": one chunk, and so the last one.
    if (offset !== part.whole.offset + BigInt(part.from) || size !== part.length || !isLast) {
      throw new ProtocolError('BAD_REPLY', 'data that are not the one chunk of its READ')
    }
    if (isHole) part.whole.data?.fill(0, part.from, part.from + size)
    else this.#filling = { part, at: part.from }
  }

  #answered(part: Part): void {
    const { whole } = part
    whole.left -= part.length
    if (whole.left === 0 && !passesChunks(whole)) this.#answer(whole)
    if (whole.type === Cmd.READ) this.#joined.isRead(part)
  }

  #answer({ cookie, offset, error, data }: Whole): void {
    const { inject } = this.#joined
    if (!this.#structured || data === undefined) {
      const reply = encodeSimpleReply({ error: Err.NONE, cookie })
      reply.writeUInt32BE(error, SimpleReplyField.ERROR)
      inject(reply)
    } else if (error !== 0) {
      const reply = encodeErrorChunk(cookie, Err.IO, '')
      reply.writeUInt32BE(error, ChunkField.PAYLOAD)
      inject(reply)
    } else inject(encodeDataChunk(cookie, offset, data.length))
    if (error === 0 && data !== undefined) inject(data)
  }
}

/** Whether the chunks that answer a split request can pass as they come: those of a READ that may have many. */
function passesChunks({ type, data }: Whole): boolean {
  return type === Cmd.READ && data === undefined
}

function fail(whole: Whole, error: number): void {
  if (whole.error === 0) whole.error = error
}

/** How much of a chunk's payload is judged with its head. @throws ProtocolError BAD_LENGTH */
export function payloadHead(type: number, length: number): number {
  const isError = (type & REPLY_TYPE_IS_ERROR) !== 0
  const isKnown = isError
    ? length >= ERROR_BYTES
    : type === ReplyType.OFFSET_DATA
      ? length > DATA_HEAD
      : type !== ReplyType.OFFSET_HOLE || length === HOLE_HEAD
  if (!isKnown) throw new ProtocolError('BAD_LENGTH', `chunk type ${type} of ${length} bytes`)
  if (isError) return ERROR_HEAD
  return type === ReplyType.OFFSET_DATA ? DATA_HEAD : type === ReplyType.OFFSET_HOLE ? HOLE_HEAD : 0
}

function lastChunk({ cookie }: Whole): Buffer {
  return encodeChunk({ flags: ReplyFlag.DONE, type: ReplyType.NONE, cookie, lengthBytes: 0 })
}
