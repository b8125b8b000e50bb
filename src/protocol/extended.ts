import { Cmd, type Err, Magic, ReplyFlag, ReplyType } from './constants.ts'
import { encodeRequest, type Request } from './request.ts'

/** An extended request's head, 32 bytes; its payload follows where PAYLOAD_LEN is set, and is `length` long. */
export const EXTENDED_REQUEST_SIZE = 32

/**
 * Where each field of an extended request stands (doc/proto.md with extended headers, "Request message").
 *
 *     0  u32  magic 0x21e41c71
 *     4  u16  command flags
 *     6  u16  type
 *     8  u64  cookie
 *    16  u64  offset
 *    24  u64  length of the payload or of the effect
 */
export const ExtendedField = { MAGIC: 0, FLAGS: 4, TYPE: 6, COOKIE: 8, OFFSET: 16, LENGTH: 24 } as const

/** An extended request's head, without the flag that says that a payload follows. */
export function encodeExtendedRequest({ flags, type, cookie, offset, length }: Request): Buffer {
  const bytes = Buffer.allocUnsafe(EXTENDED_REQUEST_SIZE)
  bytes.writeUInt32BE(Magic.EXTENDED_REQUEST, ExtendedField.MAGIC)
  bytes.writeUInt16BE(flags, ExtendedField.FLAGS)
  bytes.writeUInt16BE(type, ExtendedField.TYPE)
  bytes.writeBigUInt64BE(cookie, ExtendedField.COOKIE)
  bytes.writeBigUInt64BE(offset, ExtendedField.OFFSET)
  bytes.writeBigUInt64BE(BigInt(length), ExtendedField.LENGTH)
  return bytes
}

/** DISC, with the head that requests have. */
export function encodeDisconnect(isExtended: boolean): Buffer {
  const disconnect = { flags: 0, type: Cmd.DISC, cookie: 0n, offset: 0n, length: 0 }
  return isExtended ? encodeExtendedRequest(disconnect) : encodeRequest(disconnect)
}

/** Of which contexts BLOCK_STATUS is to report, and on how much. */
export interface StatusFilter {
  readonly lengthBytes: bigint
  readonly ids: ReadonlySet<number>
}

/** How long the payload of BLOCK_STATUS is that names so many contexts. */
export function statusFilterSize(count: number): number {
  return 8 + 4 * count
}

/** The payload of BLOCK_STATUS: u64 effect length, then u32 for each context id. Undefined: none, one twice, or cut short. */
export function decodeStatusFilter(payload: Buffer): StatusFilter | undefined {
  const count = (payload.length - 8) / 4
  if (!Number.isInteger(count) || count < 1) return undefined
  const ids = new Set(Array.from({ length: count }, (_, at) => payload.readUInt32BE(8 + 4 * at)))
  return ids.size === count ? { lengthBytes: payload.readBigUInt64BE(0), ids } : undefined
}

/** The same made bytes. */
export function encodeStatusFilter({ lengthBytes, ids }: StatusFilter): Buffer {
  const payload = Buffer.alloc(statusFilterSize(ids.size))
  payload.writeBigUInt64BE(lengthBytes)
  let at = 8
  for (const id of ids) at = payload.writeUInt32BE(id, at)
  return payload
}

/** The head of a chunk of an extended reply, 32 bytes. */
export const EXTENDED_CHUNK_SIZE = 32

/** Where each field of it stands that does not stand where a structured chunk has it. */
export const ExtendedChunkField = { OFFSET: 16, LENGTH: 24, PAYLOAD: 32 } as const

/** Head of one chunk of an extended reply. */
export interface ExtendedChunk {
  readonly flags: number
  readonly type: number
  readonly cookie: bigint
  /** Of the request. */
  readonly offset: bigint
  readonly lengthBytes: number
}

/**
 * A chunk's head, 32 bytes.
 *
 *     0  u32  magic 0x6e8a278c
 *     4  u16  flags
 *     6  u16  type
 *     8  u64  cookie
 *    16  u64  offset
 *    24  u64  length of payload
 */
export function encodeExtendedChunk({ flags, type, cookie, offset, lengthBytes }: ExtendedChunk): Buffer {
  const bytes = Buffer.allocUnsafe(EXTENDED_CHUNK_SIZE)
  bytes.writeUInt32BE(Magic.EXTENDED_REPLY, 0)
  bytes.writeUInt16BE(flags, 4)
  bytes.writeUInt16BE(type, 6)
  bytes.writeBigUInt64BE(cookie, 8)
  bytes.writeBigUInt64BE(offset, 16)
  bytes.writeBigUInt64BE(BigInt(lengthBytes), 24)
  return bytes
}

/** An ERROR chunk that ends an extended reply: u32 error, u16 length of message, message. */
export function encodeExtendedError(
  { cookie, offset }: Pick<ExtendedChunk, 'cookie' | 'offset'>,
  error: Err,
  message: string,
): Buffer {
  const text = Buffer.from(message)
  const body = Buffer.allocUnsafe(6)
  body.writeUInt32BE(error, 0)
  body.writeUInt16BE(text.length, 4)
  const head = { flags: ReplyFlag.DONE, type: ReplyType.ERROR, cookie, offset, lengthBytes: 6 + text.length }
  return Buffer.concat([encodeExtendedChunk(head), body, text])
}

/**
 * The payload of BLOCK_STATUS made that of BLOCK_STATUS_EXT: a context id, then a u32 count, and each extent's length and
 * flags as u64.
 */
export function extendStatus(payload: Buffer): Buffer {
  const count = (payload.length - 4) / 8
  const extended = Buffer.alloc(8 + 16 * count)
  payload.copy(extended, 0, 0, 4)
  extended.writeUInt32BE(count, 4)
  for (let n = 0; n < count; n++) {
    payload.copy(extended, 8 + 16 * n + 4, 4 + 8 * n, 8 + 8 * n)
    payload.copy(extended, 8 + 16 * n + 12, 8 + 8 * n, 12 + 8 * n)
  }
  return extended
}
