import { Cmd, Magic, REPLY_TYPE_IS_ERROR, ReplyFlag, ReplyType } from '../protocol/constants.ts'
import { ProtocolError } from '../protocol/errors.ts'
import { EXTENDED_CHUNK_SIZE, ExtendedChunkField, encodeExtendedRequest } from '../protocol/extended.ts'
import { encodeRequest } from '../protocol/request.ts'
import { SIMPLE_REPLY_SIZE, SimpleReplyField } from '../protocol/simple-reply.ts'
import { CHUNK_SIZE, ChunkField } from '../protocol/structured-reply.ts'
import type { Wire } from '../stream/wire.ts'
import type { ReplyKinds } from './replies.ts'

/** Bytes that one READ asks for: every server takes that. */
const PIECE_BYTES = 64 * 1024

/** Longest chunk beside the data: an error with its message. */
const MAX_CHUNK_BYTES = PIECE_BYTES + 8 * 1024

/**
 * Reads from an upstream in transmission phase, for ourselves, before anything is relayed. `replies`: what it speaks. @throws ProtocolError, also for an error of the disk; StreamError
 */
export async function readFirst(
  wire: Wire,
  offset: number | bigint,
  length: number,
  replies: ReplyKinds,
): Promise<Buffer> {
  const encode = replies.extended === true ? encodeExtendedRequest : encodeRequest
  const data = Buffer.alloc(length)
  for (let from = 0; from < length; from += PIECE_BYTES) {
    const piece = data.subarray(from, Math.min(from + PIECE_BYTES, length))
    const at = BigInt(offset) + BigInt(from)
    await wire.write(encode({ flags: 0, type: Cmd.READ, cookie: at, offset: at, length: piece.length }))
    if (replies.upstream) await readChunks(wire, at, piece, replies.extended === true)
    else await readSimple(wire, at, piece)
  }
  return data
}

async function readSimple(wire: Wire, cookie: bigint, piece: Buffer): Promise<void> {
  const head = await wire.read(SIMPLE_REPLY_SIZE)
  const isReply = head.readUInt32BE(0) === Magic.SIMPLE_REPLY
  if (!isReply || head.readBigUInt64BE(SimpleReplyField.COOKIE) !== cookie) throw wrong('another reply than to READ')
  const error = head.readUInt32BE(SimpleReplyField.ERROR)
  if (error !== 0) throw wrong(`READ failed with ${error}`)
  ;(await wire.read(piece.length)).copy(piece)
}

async function readChunks(wire: Wire, cookie: bigint, piece: Buffer, isExtended: boolean): Promise<void> {
  const [size, magic] = isExtended ? [EXTENDED_CHUNK_SIZE, Magic.EXTENDED_REPLY] : [CHUNK_SIZE, Magic.STRUCTURED_REPLY]
  let missing = piece.length
  for (let isLast = false; !isLast; ) {
    const head = await wire.read(size)
    const isChunk = head.readUInt32BE(0) === magic
    if (!isChunk || head.readBigUInt64BE(ChunkField.COOKIE) !== cookie) throw wrong('another reply than to READ')
    const length = isExtended
      ? Number(head.readBigUInt64BE(ExtendedChunkField.LENGTH))
      : head.readUInt32BE(ChunkField.LENGTH)
    if (length > MAX_CHUNK_BYTES) throw wrong(`a chunk of ${length} bytes`)
    const type = head.readUInt16BE(ChunkField.TYPE)
    missing -= place(type, await wire.read(length), cookie, piece)
    isLast = (head.readUInt16BE(ChunkField.FLAGS) & ReplyFlag.DONE) !== 0
  }
  if (missing !== 0) throw wrong('a READ that ended short')
}

/** Puts the data of a chunk where it belongs; how many bytes it brought. */
function place(type: number, payload: Buffer, offset: bigint, piece: Buffer): number {
  if (type === ReplyType.NONE && payload.length === 0) return 0
  if ((type & REPLY_TYPE_IS_ERROR) !== 0) throw wrong('READ failed')
  const isData = type === ReplyType.OFFSET_DATA
  if (payload.length < 12 && !(isData && payload.length > 8)) throw wrong('a chunk that is too short')
  const bytes = isData ? payload.length - 8 : payload.readUInt32BE(8)
  const from = Number(payload.readBigUInt64BE(0) - offset)
  if ((!isData && type !== ReplyType.OFFSET_HOLE) || from < 0 || from + bytes > piece.length) {
    throw wrong('a chunk outside its READ')
  }
  if (isData) payload.copy(piece, from, 8)
  return bytes
}

function wrong(message: string): ProtocolError {
  return new ProtocolError('BAD_REPLY', message)
}
