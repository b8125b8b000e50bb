import { Magic } from './constants.ts'
import { ProtocolError } from './errors.ts'

/** A request's head, 28 bytes; a WRITE is followed by `length` bytes of payload. */
export const REQUEST_SIZE = 28

/**
 * Where each field of a request stands. The relay reads them in place, so the table is public.
 *
 *     0  u32  magic 0x25609513
 *     4  u16  command flags
 *     6  u16  type
 *     8  u64  cookie
 *    16  u64  offset
 *    24  u32  length
 */
export const RequestField = { MAGIC: 0, FLAGS: 4, TYPE: 6, COOKIE: 8, OFFSET: 16, LENGTH: 24 } as const

/** A request (proto.md, "Request message"). */
export interface Request {
  readonly flags: number
  /** As sent: it may be none of Cmd. */
  readonly type: number
  readonly cookie: bigint
  readonly offset: bigint
  readonly length: number
}

/** @throws ProtocolError BAD_MAGIC */
export function decodeRequest(bytes: Buffer): Request {
  const magic = bytes.readUInt32BE(RequestField.MAGIC)
  if (magic !== Magic.REQUEST) throw new ProtocolError('BAD_MAGIC', `request magic 0x${magic.toString(16)}`)
  return {
    flags: bytes.readUInt16BE(RequestField.FLAGS),
    type: bytes.readUInt16BE(RequestField.TYPE),
    cookie: bytes.readBigUInt64BE(RequestField.COOKIE),
    offset: bytes.readBigUInt64BE(RequestField.OFFSET),
    length: bytes.readUInt32BE(RequestField.LENGTH),
  }
}

/** A request's head. */
export function encodeRequest(request: Request): Buffer {
  const bytes = Buffer.allocUnsafe(REQUEST_SIZE)
  bytes.writeUInt32BE(Magic.REQUEST, RequestField.MAGIC)
  bytes.writeUInt16BE(request.flags, RequestField.FLAGS)
  bytes.writeUInt16BE(request.type, RequestField.TYPE)
  bytes.writeBigUInt64BE(request.cookie, RequestField.COOKIE)
  bytes.writeBigUInt64BE(request.offset, RequestField.OFFSET)
  bytes.writeUInt32BE(request.length, RequestField.LENGTH)
  return bytes
}
