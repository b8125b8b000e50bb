/**
 * The upstream's replies on their way to the client. The upstream is not trusted either: a cookie that is not out, a
 * chunk outside its request, a type that does not fit the command or a wrong magic end the session before the client
 * sees them. Where the client asked for structured replies and the upstream has none, simple replies to READ are lifted.
 */
import { Cmd, Err, MAX_STRING_BYTES, Magic, REPLY_TYPE_IS_ERROR, ReplyFlag, ReplyType } from '../protocol/constants.ts'
import { portableError } from '../protocol/error-value.ts'
import { ProtocolError } from '../protocol/errors.ts'
import {
  EXTENDED_CHUNK_SIZE,
  ExtendedChunkField,
  encodeExtendedChunk,
  encodeExtendedError,
} from '../protocol/extended.ts'
import { RequestField } from '../protocol/request.ts'
import { encodeSimpleReply, SIMPLE_REPLY_SIZE, SimpleReplyField } from '../protocol/simple-reply.ts'
import { CHUNK_SIZE, ChunkField, DATA_CHUNK_SIZE, encodeErrorChunk } from '../protocol/structured-reply.ts'
import { type BlockStatus, isStatusLength } from './block-status.ts'
import { type Grammar, Verdict } from './framer.ts'
import type { Keep } from './keep.ts'
import type { Pending } from './pending.ts'

/** Payload bytes that are judged together with a chunk's head, by its type. */
const HOLE_PAYLOAD = 12
const ERROR_PAYLOAD = 6

/** Longest payload of a chunk that reports an error: u32, u16, message, u64. */
const MAX_ERROR_PAYLOAD = ERROR_PAYLOAD + MAX_STRING_BYTES + 8

/** Which kinds of reply each side speaks. */
export interface ReplyKinds {
  /** The client negotiated structured replies. */
  readonly client: boolean
  /** We negotiated them with the upstream; only when the client did. */
  readonly upstream: boolean
  /** Both have extended headers, which pass as they are; both speak structured replies then. */
  readonly extended?: boolean
}

/** Who else is told of replies. */
export interface Listeners {
  readonly status?: BlockStatus | undefined
  readonly keep?: Keep | undefined
}

export class ReplyGrammar implements Grammar {
  payloadBytes = 0
  replacement: Buffer = Buffer.alloc(0)
  readonly #structured: ReplyKinds
  readonly #pending: Pending
  readonly #status: BlockStatus | undefined
  readonly #keep: Keep | undefined
  readonly #isExtended: boolean
  /** How long the head of a chunk is: where its payload begins. */
  readonly #chunkSize: number
  #offsetHigh = 0
  #offsetLow = 0
  #end = 0

  constructor(structured: ReplyKinds, pending: Pending, { status, keep }: Listeners = {}) {
    this.#structured = structured
    this.#pending = pending
    this.#status = status
    this.#keep = keep
    this.#isExtended = structured.extended === true
    this.#chunkSize = this.#isExtended ? EXTENDED_CHUNK_SIZE : CHUNK_SIZE
  }

  /** Where on the export the data ends that is passing, or has passed last. */
  get dataEnd(): bigint {
    return ((BigInt(this.#offsetHigh) << 32n) | BigInt(this.#offsetLow)) + BigInt(this.#end)
  }

  headBytes(bytes: Buffer, at: number, available: number): number {
    if (available < 4) return 4
    const magic = bytes.readUInt32BE(at)
    if (magic === Magic.SIMPLE_REPLY && !this.#isExtended) return SIMPLE_REPLY_SIZE
    if (magic !== (this.#isExtended ? Magic.EXTENDED_REPLY : Magic.STRUCTURED_REPLY) || !this.#structured.upstream) {
      throw new ProtocolError('BAD_MAGIC', `reply magic 0x${magic.toString(16)}`)
    }
    const size = this.#chunkSize
    if (available < size) return size
    return size + fixedPayload(bytes.readUInt16BE(at + ChunkField.TYPE), this.#lengthAt(bytes, at), this.#isExtended)
  }

  judge(bytes: Buffer, at: number): Verdict {
    const slot = this.#pending.find(bytes, at + SimpleReplyField.COOKIE)
    if (slot < 0) throw new ProtocolError('UNKNOWN_COOKIE', 'a reply to no request')
    const simple = bytes.readUInt32BE(at) === Magic.SIMPLE_REPLY
    return simple ? this.#judgeSimple(slot, bytes, at) : this.#judgeChunk(slot, bytes, at)
  }

  #judgeSimple(slot: number, bytes: Buffer, at: number): Verdict {
    const pending = this.#pending
    const isRead = pending.typeOf(slot) === Cmd.READ
    // proto.md, "Structured reply chunk message": READ MUST be answered by chunks once they are negotiated.
    if (isRead && this.#structured.upstream) throw new ProtocolError('BAD_REPLY', 'a simple reply to READ')
    // proto.md, "Metadata querying": the reply MUST be sent as a structured reply.
    if (pending.typeOf(slot) === Cmd.BLOCK_STATUS) {
      throw new ProtocolError('BAD_REPLY', 'a simple reply to BLOCK_STATUS')
    }
    const error = portable(bytes, at + SimpleReplyField.ERROR)
    this.payloadBytes = isRead && error === 0 ? pending.lengthOf(slot) : 0
    let verdict: Verdict = Verdict.KEEP
    // proto.md, "Structured reply chunk message": errors SHOULD be chunks too.
    if (this.#structured.client && (isRead || error !== 0)) {
      this.replacement = error === 0 ? liftData(pending, slot) : liftError(pending, slot, error)
      verdict = Verdict.SWAP
    } else pending.restoreCookie(slot, bytes, at + SimpleReplyField.COOKIE)
    this.#passes(slot, 0, this.payloadBytes)
    if (error !== 0) pending.markFailed(slot)
    this.#answered(slot)
    return verdict
  }

  #judgeChunk(slot: number, bytes: Buffer, at: number): Verdict {
    const pending = this.#pending
    const type = bytes.readUInt16BE(at + ChunkField.TYPE)
    const length = this.#lengthAt(bytes, at)
    const flags = bytes.readUInt16BE(at + ChunkField.FLAGS)
    // "Extended reply chunk message": the offset MUST match the request.
    if (this.#isExtended && pending.distanceTo(slot, bytes, at + ExtendedChunkField.OFFSET) !== 0) {
      throw new ProtocolError('BAD_REPLY', 'a reply with the offset of another request')
    }
    const done = (flags & ReplyFlag.DONE) !== 0
    // proto.md, "Structured reply flags": clients MUST ignore unrecognized flags, servers MUST NOT set them.
    if ((flags & ~ReplyFlag.DONE) !== 0) bytes.writeUInt16BE(flags & ReplyFlag.DONE, at + ChunkField.FLAGS)
    this.payloadBytes = length - fixedPayload(type, length, this.#isExtended)
    const isNews = this.#checkChunk(slot, type, length, bytes, at)
    if (type === ReplyType.NONE && !done) throw new ProtocolError('BAD_REPLY', 'a NONE chunk that is not the last')
    if (done && !pending.hasFailed(slot) && pending.missingOf(slot) !== 0)
      return this.#askForMore(slot, type, bytes, at)
    if (done && pending.typeOf(slot) === Cmd.BLOCK_STATUS) this.#status?.done(slot, pending.hasFailed(slot))
    pending.restoreCookie(slot, bytes, at + ChunkField.COOKIE)
    if (!isNews && done) this.replacement = encodeLastChunk(this.#structured, pending, slot)
    if (done) this.#answered(slot)
    return isNews ? Verdict.KEEP : done ? Verdict.SWAP : Verdict.DROP
  }

  /** @throws ProtocolError BAD_LENGTH */
  #lengthAt(bytes: Buffer, at: number): number {
    if (!this.#isExtended) return bytes.readUInt32BE(at + ChunkField.LENGTH)
    if (bytes.readUInt32BE(at + ExtendedChunkField.LENGTH) !== 0) {
      throw new ProtocolError('BAD_LENGTH', 'a chunk of more than 4 GiB')
    }
    return bytes.readUInt32BE(at + ExtendedChunkField.LENGTH + 4)
  }

  /** A READ whose former connection had answered here and there is asked for gap by gap; any other has ended short. */
  #askForMore(slot: number, type: number, bytes: Buffer, at: number): Verdict {
    if (this.#keep?.asksForMore(slot) !== true) {
      throw new ProtocolError('BAD_REPLY', `a READ that ended ${this.#pending.missingOf(slot)} bytes short`)
    }
    this.#pending.restoreCookie(slot, bytes, at + ChunkField.COOKIE)
    bytes.writeUInt16BE(bytes.readUInt16BE(at + ChunkField.FLAGS) & ~ReplyFlag.DONE, at + ChunkField.FLAGS)
    return type === ReplyType.NONE ? Verdict.DROP : Verdict.KEEP
  }

  #answered(slot: number): void {
    this.#keep?.answered(slot)
    this.#pending.remove(slot)
  }

  /** Data of a slot's request passes, from its byte `from` on. */
  #passes(slot: number, from: number, dataBytes: number): void {
    this.#offsetHigh = this.#pending.offsetHighOf(slot)
    this.#offsetLow = this.#pending.offsetLowOf(slot)
    this.#end = from + dataBytes
  }

  /** Whether the client has not been told already, over a former connection. */
  #checkChunk(slot: number, type: number, length: number, bytes: Buffer, at: number): boolean {
    const payload = at + this.#chunkSize
    switch (type) {
      case ReplyType.NONE:
        break
      case ReplyType.OFFSET_DATA:
        this.#deliver(slot, length - 8, bytes, payload)
        break
      case ReplyType.OFFSET_HOLE:
        this.#deliver(slot, bytes.readUInt32BE(payload + 8), bytes, payload)
        break
      case ReplyType.BLOCK_STATUS:
      case ReplyType.BLOCK_STATUS_EXT:
        if (this.#status === undefined) throw new ProtocolError('BAD_REPLY', 'block status, never negotiated')
        if ((type === ReplyType.BLOCK_STATUS_EXT) !== this.#isExtended) {
          throw new ProtocolError('BAD_REPLY', `chunk type ${type}`)
        }
        return this.#status.judge(slot, bytes.subarray(payload, payload + length))
      default:
        // proto.md, "Structured reply types": an unknown error type fails the request, any other ends the connection.
        if ((type & REPLY_TYPE_IS_ERROR) === 0) throw new ProtocolError('BAD_REPLY', `chunk type ${type}`)
        this.#checkError(slot, type, length, bytes, payload)
    }
    return true
  }

  /** Checks that an error chunk adds up, and that the offset it names lies in its request. */
  #checkError(slot: number, type: number, length: number, bytes: Buffer, payload: number): void {
    const messageBytes = bytes.readUInt16BE(payload + 4)
    const end = ERROR_PAYLOAD + messageBytes
    const tail = type === ReplyType.ERROR ? 0 : type === ReplyType.ERROR_OFFSET ? 8 : length - end
    const fits = messageBytes <= MAX_STRING_BYTES && tail >= 0 && end + tail === length
    if (!fits || portable(bytes, payload) === 0) {
      throw new ProtocolError('BAD_REPLY', 'an error chunk that does not add up')
    }
    if (type === ReplyType.ERROR_OFFSET) {
      const from = this.#pending.distanceTo(slot, bytes, payload + end)
      if (from < 0 || from >= this.#pending.lengthOf(slot)) {
        throw new ProtocolError('BAD_REPLY', 'an error outside its request')
      }
    }
    this.#pending.markFailed(slot)
  }

  /** Checks that a data or hole chunk lies inside its READ, and counts what it brings. */
  #deliver(slot: number, dataBytes: number, bytes: Buffer, payload: number): void {
    const pending = this.#pending
    if (pending.typeOf(slot) !== Cmd.READ) throw new ProtocolError('BAD_REPLY', 'data for a command that is no READ')
    const from = pending.distanceTo(slot, bytes, payload)
    const outside = from < 0 || dataBytes <= 0 || from + dataBytes > pending.lengthOf(slot)
    if (outside || dataBytes > pending.missingOf(slot)) {
      throw new ProtocolError('BAD_REPLY', 'a chunk outside its request')
    }
    pending.deliver(slot, from, dataBytes)
    this.#passes(slot, from, dataBytes)
  }
}

/**
 * How many payload bytes belong to the head of a chunk of this type: none of data, all of an error's, and all of a status,
 * of which a half could not be completed by another connection. @throws ProtocolError BAD_LENGTH */
function fixedPayload(type: number, length: number, isExtended: boolean): number {
  const isError = (type & REPLY_TYPE_IS_ERROR) !== 0
  // "NBD_REPLY_TYPE_BLOCK_STATUS_EXT": with extended headers, and only with them.
  const statusType = isExtended ? ReplyType.BLOCK_STATUS_EXT : ReplyType.BLOCK_STATUS
  const known =
    type === ReplyType.OFFSET_DATA
      ? length > 8
      : type === ReplyType.OFFSET_HOLE
        ? length === HOLE_PAYLOAD
        : isError
          ? length >= ERROR_PAYLOAD && length <= MAX_ERROR_PAYLOAD
          : type === statusType
            ? isStatusLength(length, isExtended)
            : type !== ReplyType.NONE || length === 0
  if (!known) throw new ProtocolError('BAD_LENGTH', `chunk type ${type} of ${length} bytes`)
  if (type === ReplyType.OFFSET_DATA) return 8
  if (type === ReplyType.OFFSET_HOLE) return HOLE_PAYLOAD
  return isError || type === statusType ? length : 0
}

/** The error value at `at`, made one of the spec's in place. */
function portable(bytes: Buffer, at: number): number {
  const sent = bytes.readUInt32BE(at)
  if (sent === 0) return 0
  const error = portableError(sent)
  if (error !== sent) bytes.writeUInt32BE(error, at)
  return error
}

/** What a refusal says to the person at the client. */
const REFUSAL_TEXT: Readonly<Partial<Record<Err, string>>> = {
  [Err.PERM]: 'not permitted on this export',
  [Err.IO]: 'the server behind this export was lost',
  [Err.INVAL]: 'no such command, flag or range on this export',
  [Err.NOSPC]: 'beyond the end of this export',
  [Err.OVERFLOW]: 'more than can be done in one request',
  [Err.SHUTDOWN]: 'the gateway is shutting down',
}

/** An error of our own in answer to a request, in the kind of reply that the client expects. */
export function encodeRefusal({ client, extended }: ReplyKinds, error: Err, cookie: bigint, offset: bigint): Buffer {
  if (extended === true) return encodeExtendedError({ cookie, offset }, error, REFUSAL_TEXT[error] ?? '')
  return client ? encodeErrorChunk(cookie, error, REFUSAL_TEXT[error] ?? '') : encodeSimpleReply({ error, cookie })
}

/** The same, to the request whose head stands at `at`. */
export function encodeRefusalOf(kinds: ReplyKinds, error: Err, head: Buffer, at: number): Buffer {
  const cookie = head.readBigUInt64BE(at + RequestField.COOKIE)
  return encodeRefusal(kinds, error, cookie, head.readBigUInt64BE(at + RequestField.OFFSET))
}

/** Head of the one OFFSET_DATA chunk that answers a READ whose upstream answered with a simple reply. */
function liftData(pending: Pending, slot: number): Buffer {
  const head = Buffer.allocUnsafe(DATA_CHUNK_SIZE)
  writeChunkHead(head, ReplyType.OFFSET_DATA, 8 + pending.lengthOf(slot))
  pending.restoreCookie(slot, head, ChunkField.COOKIE)
  pending.writeOffset(slot, head, ChunkField.PAYLOAD)
  return head
}

function liftError(pending: Pending, slot: number, error: number): Buffer {
  const head = Buffer.alloc(CHUNK_SIZE + ERROR_PAYLOAD)
  writeChunkHead(head, ReplyType.ERROR, ERROR_PAYLOAD)
  pending.restoreCookie(slot, head, ChunkField.COOKIE)
  head.writeUInt32BE(error, ChunkField.PAYLOAD)
  return head
}

/** A chunk that says no more than that its reply is over. */
export function encodeLastChunk({ extended }: ReplyKinds, pending: Pending, slot: number): Buffer {
  if (extended === true) {
    const [cookie, offset] = [pending.cookieOf(slot), pending.exactOffsetOf(slot)]
    return encodeExtendedChunk({ flags: ReplyFlag.DONE, type: ReplyType.NONE, cookie, offset, lengthBytes: 0 })
  }
  const chunk = Buffer.alloc(CHUNK_SIZE)
  writeChunkHead(chunk, ReplyType.NONE, 0)
  pending.restoreCookie(slot, chunk, ChunkField.COOKIE)
  return chunk
}

function writeChunkHead(head: Buffer, type: ReplyType, length: number): void {
  head.writeUInt32BE(Magic.STRUCTURED_REPLY, ChunkField.MAGIC)
  head.writeUInt16BE(ReplyFlag.DONE, ChunkField.FLAGS)
  head.writeUInt16BE(type, ChunkField.TYPE)
  head.writeUInt32BE(length, ChunkField.LENGTH)
}
