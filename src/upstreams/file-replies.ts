import { ReplyFlag, ReplyType } from '../protocol/constants.ts'
import { CHUNK_SIZE, DATA_CHUNK_SIZE, encodeChunk } from '../protocol/structured-reply.ts'
import type { Extent } from './file-extents.ts'

/** The payload of an OFFSET_HOLE chunk: u64 offset, u32 length. */
const HOLE_BYTES = 12

/** The answer to a READ as chunks, and where in it the data belong. */
export interface ReadReply {
  readonly bytes: Buffer
  readonly data: readonly { readonly at: number; readonly end: number; readonly offset: number }[]
}

/** Makes room for the chunks of a READ: all heads and holes are there, what is data has to be filled in. */
export function makeReadReply(cookie: bigint, extents: readonly Extent[]): ReadReply {
  const size = extents.reduce(
    (sum, { length, isHole }) => sum + (isHole ? CHUNK_SIZE + HOLE_BYTES : DATA_CHUNK_SIZE + length),
    0,
  )
  const bytes = Buffer.allocUnsafe(size)
  const data: { at: number; end: number; offset: number }[] = []
  let at = 0
  for (const [index, { offset, length, isHole }] of extents.entries()) {
    const flags = index === extents.length - 1 ? ReplyFlag.DONE : 0
    const type = isHole ? ReplyType.OFFSET_HOLE : ReplyType.OFFSET_DATA
    encodeChunk({ flags, type, cookie, lengthBytes: isHole ? HOLE_BYTES : 8 + length }).copy(bytes, at)
    bytes.writeBigUInt64BE(BigInt(offset), at + CHUNK_SIZE)
    if (isHole) bytes.writeUInt32BE(length, at + DATA_CHUNK_SIZE)
    else data.push({ at: at + DATA_CHUNK_SIZE, end: at + DATA_CHUNK_SIZE + length, offset })
    at += isHole ? CHUNK_SIZE + HOLE_BYTES : DATA_CHUNK_SIZE + length
  }
  return { bytes, data }
}
