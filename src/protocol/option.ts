import { Magic, type Opt, Rep } from './constants.ts'
import { ProtocolError } from './errors.ts'

/** Head of an option, 16 bytes. */
export const OPTION_HEADER_SIZE = 16

/** Head of an option reply, 20 bytes. */
export const OPTION_REPLY_HEADER_SIZE = 20

/** An option's head: its number as sent (perhaps unknown) and the length of the data that follow, in bytes. */
export interface OptionHeader {
  readonly option: number
  readonly lengthBytes: number
}

/** An option reply's head. */
export interface OptionReplyHeader {
  readonly option: number
  readonly reply: number
  readonly lengthBytes: number
}

/**
 * Head of an option (proto.md, "Newstyle negotiation").
 *
 *     0  u64  IHAVEOPT
 *     8  u32  option
 *    12  u32  length of data
 *
 * @throws ProtocolError BAD_MAGIC
 */
export function decodeOptionHeader(bytes: Buffer): OptionHeader {
  if (bytes.readBigUInt64BE(0) !== Magic.IHAVEOPT) throw new ProtocolError('BAD_MAGIC', 'option without IHAVEOPT')
  return { option: bytes.readUInt32BE(8), lengthBytes: bytes.readUInt32BE(12) }
}

/** An option with its data, as a client sends it. */
export function encodeOption(option: Opt, data: Uint8Array = new Uint8Array(0)): Buffer {
  const bytes = Buffer.allocUnsafe(OPTION_HEADER_SIZE + data.length)
  bytes.writeBigUInt64BE(Magic.IHAVEOPT, 0)
  bytes.writeUInt32BE(option, 8)
  bytes.writeUInt32BE(data.length, 12)
  bytes.set(data, OPTION_HEADER_SIZE)
  return bytes
}

/**
 * Head of an option reply (proto.md, "Fixed newstyle negotiation").
 *
 *     0  u64  0x3e889045565a9
 *     8  u32  option, as the client sent it
 *    12  u32  reply type
 *    16  u32  length of data
 *
 * @throws ProtocolError BAD_MAGIC
 */
export function decodeOptionReplyHeader(bytes: Buffer): OptionReplyHeader {
  if (bytes.readBigUInt64BE(0) !== Magic.OPTION_REPLY) throw new ProtocolError('BAD_MAGIC', 'no option reply')
  return { option: bytes.readUInt32BE(8), reply: bytes.readUInt32BE(12), lengthBytes: bytes.readUInt32BE(16) }
}

/** An option reply with its data; `option` is echoed as it came, known or not. */
export function encodeOptionReply(option: number, reply: Rep, data: Uint8Array = new Uint8Array(0)): Buffer {
  const bytes = Buffer.allocUnsafe(OPTION_REPLY_HEADER_SIZE + data.length)
  bytes.writeBigUInt64BE(Magic.OPTION_REPLY, 0)
  bytes.writeUInt32BE(option, 8)
  bytes.writeUInt32BE(reply, 12)
  bytes.writeUInt32BE(data.length, 16)
  bytes.set(data, OPTION_REPLY_HEADER_SIZE)
  return bytes
}

/** Whether an option reply type is one of NBD_REP_ERR_* (bit 31). */
export function isErrorReply(reply: number): boolean {
  return reply >>> 31 === 1
}

/**
 * Data of NBD_REP_SERVER: one entry of LIST. The description is free text for people.
 *
 *     0  u32  length of name
 *     4       name
 *     …       description, to the end
 */
export function encodeServerEntry(name: string, description = ''): Buffer {
  const nameBytes = Buffer.from(name)
  const head = Buffer.allocUnsafe(4)
  head.writeUInt32BE(nameBytes.length, 0)
  return Buffer.concat([head, nameBytes, Buffer.from(description)])
}

/**
 * One entry of LIST as a client reads it.
 * @throws ProtocolError BAD_LENGTH when the name does not fit into the data
 */
export function decodeServerEntry(data: Buffer): { readonly name: string; readonly description: string } {
  if (data.length < 4) throw new ProtocolError('BAD_LENGTH', `${Rep.SERVER} reply of ${data.length} bytes`)
  const nameLength = data.readUInt32BE(0)
  if (nameLength > data.length - 4) throw new ProtocolError('BAD_LENGTH', 'name longer than its reply')
  return { name: data.toString('utf8', 4, 4 + nameLength), description: data.toString('utf8', 4 + nameLength) }
}
