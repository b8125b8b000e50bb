import { type Err, Magic, ReplyFlag, ReplyType } from './constants.ts'
import { ProtocolError } from './errors.ts'

/** A structured reply chunk's head, 20 bytes. */
export const CHUNK_SIZE = 20

/** An OFFSET_DATA chunk's head with the offset that opens its payload, 28 bytes. */
export const DATA_CHUNK_SIZE = CHUNK_SIZE + 8

/**
 * Where each field of a chunk stands.
 *
 *     0  u32  magic 0x668e33ef
 *     4  u16  flags
 *     6  u16  type
 *     8  u64  cookie
 *    16  u32  length of payload
 */
export const ChunkField = { MAGIC: 0, FLAGS: 4, TYPE: 6, COOKIE: 8, LENGTH: 16, PAYLOAD: 20 } as const

/** Head of one chunk of a structured reply (proto.md, "Structured reply chunk message"). */
export interface Chunk {
  readonly flags: number
  /** As sent: it may be none of ReplyType. */
  readonly type: number
  readonly cookie: bigint
  readonly lengthBytes: number
}

/** @throws ProtocolError BAD_MAGIC */
export function decodeChunk(bytes: Buffer): Chunk {
  const magic = bytes.readUInt32BE(ChunkField.MAGIC)
  if (magic !== Magic.STRUCTURED_REPLY) throw new ProtocolError('BAD_MAGIC', `chunk magic 0x${magic.toString(16)}`)
  return {
    flags: bytes.readUInt16BE(ChunkField.FLAGS),
    type: bytes.readUInt16BE(ChunkField.TYPE),
    cookie: bytes.readBigUInt64BE(ChunkField.COOKIE),
    lengthBytes: bytes.readUInt32BE(ChunkField.LENGTH),
  }
}

/** A chunk's head. */
export function encodeChunk(chunk: Chunk & { readonly type: ReplyType }): Buffer {
  const bytes = Buffer.allocUnsafe(CHUNK_SIZE)
  bytes.writeUInt32BE(Magic.STRUCTURED_REPLY, ChunkField.MAGIC)
  bytes.writeUInt16BE(chunk.flags, ChunkField.FLAGS)
  bytes.writeUInt16BE(chunk.type, ChunkField.TYPE)
  bytes.writeBigUInt64BE(chunk.cookie, ChunkField.COOKIE)
  bytes.writeUInt32BE(chunk.lengthBytes, ChunkField.LENGTH)
  return bytes
}

/** Head of an OFFSET_DATA chunk that is the whole reply; the data follow. */
export function encodeDataChunk(cookie: bigint, offset: bigint, dataBytes: number): Buffer {
  const head = { flags: ReplyFlag.DONE, type: ReplyType.OFFSET_DATA, cookie, lengthBytes: 8 + dataBytes }
  const at = Buffer.alloc(8)
  at.writeBigUInt64BE(offset)
  return Buffer.concat([encodeChunk(head), at])
}

/**
 * An ERROR chunk that ends a reply.
 *
 *    20  u32  error
 *    24  u16  length of message
 *    26       message
 */
export function encodeErrorChunk(cookie: bigint, error: Err, message: string): Buffer {
  const text = Buffer.from(message)
  const head = encodeChunk({ flags: ReplyFlag.DONE, type: ReplyType.ERROR, cookie, lengthBytes: 6 + text.length })
  const body = Buffer.allocUnsafe(6)
  body.writeUInt32BE(error, 0)
  body.writeUInt16BE(text.length, 4)
  return Buffer.concat([head, body, text])
}
