import { Magic } from './constants.ts'
import { ProtocolError } from './errors.ts'

/** The server's greeting of newstyle negotiation, 18 bytes (proto.md, "Newstyle negotiation"). */
export const GREETING_SIZE = 18

/** The client's answer to it, 4 bytes. */
export const CLIENT_FLAGS_SIZE = 4

/** Zeroes after the answer to EXPORT_NAME, unless both sides set NO_ZEROES. */
export const EXPORT_NAME_ZEROES = 124

/** The answer to EXPORT_NAME without its zeroes. */
export const EXPORT_NAME_REPLY_SIZE = 10

/**
 * Greeting of the server.
 *
 *     0  u64  NBDMAGIC
 *     8  u64  IHAVEOPT
 *    16  u16  handshake flags
 */
export function encodeGreeting(handshakeFlags: number): Buffer {
  const bytes = Buffer.allocUnsafe(GREETING_SIZE)
  bytes.writeBigUInt64BE(Magic.NBDMAGIC, 0)
  bytes.writeBigUInt64BE(Magic.IHAVEOPT, 8)
  bytes.writeUInt16BE(handshakeFlags, 16)
  return bytes
}

/**
 * Handshake flags of a server's greeting.
 * @throws ProtocolError BAD_MAGIC when this is no NBD server, or one of oldstyle negotiation.
 */
export function decodeGreeting(bytes: Buffer): number {
  if (bytes.readBigUInt64BE(0) !== Magic.NBDMAGIC) throw new ProtocolError('BAD_MAGIC', 'not an NBD server')
  const second = bytes.readBigUInt64BE(8)
  if (second === Magic.CLISERV) throw new ProtocolError('BAD_MAGIC', 'the server only speaks oldstyle negotiation')
  if (second !== Magic.IHAVEOPT) throw new ProtocolError('BAD_MAGIC', 'neither newstyle nor oldstyle negotiation')
  return bytes.readUInt16BE(16)
}

/** All that an oldstyle server says before the transmission phase. */
export const OLDSTYLE_SIZE = 152

/** Whether a greeting, of which there are GREETING_SIZE bytes, is that of oldstyle negotiation. */
export function isOldstyle(bytes: Buffer): boolean {
  return bytes.readBigUInt64BE(0) === Magic.NBDMAGIC && bytes.readBigUInt64BE(8) === Magic.CLISERV
}

/**
 * The whole of oldstyle negotiation, 152 bytes; the client says nothing.
 *
 *     0  u64  NBDMAGIC
 *     8  u64  0x00420281861253
 *    16  u64  export size in bytes
 *    24  u32  flags: handshake (high 16 bits), transmission (low 16)
 *    28  124 zero bytes
 */
export function decodeOldstyle(bytes: Buffer): { readonly sizeBytes: bigint; readonly flags: number } {
  return { sizeBytes: bytes.readBigUInt64BE(16), flags: bytes.readUInt16BE(26) }
}

/** Client flags (u32). */
export function encodeClientFlags(flags: number): Buffer {
  const bytes = Buffer.allocUnsafe(CLIENT_FLAGS_SIZE)
  bytes.writeUInt32BE(flags, 0)
  return bytes
}

/**
 * The answer to EXPORT_NAME.
 *
 *     0  u64  export size in bytes
 *     8  u16  transmission flags
 *    10  124 zero bytes, unless both sides set NO_ZEROES
 */
export function encodeExportNameReply(sizeBytes: bigint, transmissionFlags: number, zeroes: boolean): Buffer {
  const bytes = Buffer.alloc(EXPORT_NAME_REPLY_SIZE + (zeroes ? EXPORT_NAME_ZEROES : 0))
  bytes.writeBigUInt64BE(sizeBytes, 0)
  bytes.writeUInt16BE(transmissionFlags, 8)
  return bytes
}

/** Size and flags out of the answer to EXPORT_NAME (its first ten bytes). */
export function decodeExportNameReply(bytes: Buffer): { readonly sizeBytes: bigint; readonly flags: number } {
  return { sizeBytes: bytes.readBigUInt64BE(0), flags: bytes.readUInt16BE(8) }
}
