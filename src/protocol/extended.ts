import { Magic } from './constants.ts'

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
  const bytes = Buffer.allocUnsafe(32)
  bytes.writeUInt32BE(Magic.EXTENDED_REPLY, 0)
  bytes.writeUInt16BE(flags, 4)
  bytes.writeUInt16BE(type, 6)
  bytes.writeBigUInt64BE(cookie, 8)
  bytes.writeBigUInt64BE(offset, 16)
  bytes.writeBigUInt64BE(BigInt(lengthBytes), 24)
  return bytes
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
