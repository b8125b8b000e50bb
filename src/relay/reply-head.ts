import { Magic } from '../protocol/constants.ts'
import { ProtocolError } from '../protocol/errors.ts'
import { SIMPLE_REPLY_SIZE } from '../protocol/simple-reply.ts'
import { CHUNK_SIZE } from '../protocol/structured-reply.ts'

/**
 * How long the head of a compact reply is, as far as `available` bytes tell: that of a simple reply, or of a chunk where the
 * upstream speaks structured replies. @throws ProtocolError BAD_MAGIC
 */
export function replyHeadBytes(bytes: Buffer, at: number, available: number, structured: boolean): number {
  if (available < 4) return 4
  const magic = bytes.readUInt32BE(at)
  if (magic === Magic.SIMPLE_REPLY) return SIMPLE_REPLY_SIZE
  if (magic === Magic.STRUCTURED_REPLY && structured) return CHUNK_SIZE
  throw new ProtocolError('BAD_MAGIC', `reply magic 0x${magic.toString(16)}`)
}
