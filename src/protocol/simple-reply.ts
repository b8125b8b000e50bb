import { type Err, Magic } from './constants.ts'
import { ProtocolError } from './errors.ts'

/** A simple reply's head, 16 bytes; a successful READ is followed by as many bytes as were asked for. */
export const SIMPLE_REPLY_SIZE = 16

/**
 * Where each field of a simple reply stands.
 *
 *     0  u32  magic 0x67446698
 *     4  u32  error
 *     8  u64  cookie
 */
export const SimpleReplyField = { MAGIC: 0, ERROR: 4, COOKIE: 8 } as const

/** A simple reply (proto.md, "Simple reply message"). */
export interface SimpleReply {
  readonly error: number
  readonly cookie: bigint
}

/** @throws ProtocolError BAD_MAGIC */
export function decodeSimpleReply(bytes: Buffer): SimpleReply {
  const magic = bytes.readUInt32BE(SimpleReplyField.MAGIC)
  if (magic !== Magic.SIMPLE_REPLY) throw new ProtocolError('BAD_MAGIC', `reply magic 0x${magic.toString(16)}`)
  return { error: bytes.readUInt32BE(SimpleReplyField.ERROR), cookie: bytes.readBigUInt64BE(SimpleReplyField.COOKIE) }
}

/** A simple reply's head. */
export function encodeSimpleReply(reply: { readonly error: Err; readonly cookie: bigint }): Buffer {
  const bytes = Buffer.allocUnsafe(SIMPLE_REPLY_SIZE)
  bytes.writeUInt32BE(Magic.SIMPLE_REPLY, SimpleReplyField.MAGIC)
  bytes.writeUInt32BE(reply.error, SimpleReplyField.ERROR)
  bytes.writeBigUInt64BE(reply.cookie, SimpleReplyField.COOKIE)
  return bytes
}
