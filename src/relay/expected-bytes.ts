import { SIMPLE_REPLY_SIZE } from '../protocol/simple-reply.ts'
import { MAX_HEAD_BYTES } from './framer.ts'
import type { Pending } from './pending.ts'
import type { ReplyKinds } from './replies.ts'

/** READs of this length and above are read from the upstream one by one where replies are lifted. */
const LARGE_REPLY_BYTES = 32 * 1024

/**
 * How much an upstream is about to send, of whose current payload `left` bytes are missing. Where replies are lifted, no
 * more than the reply that comes next, if it is large: it then stands at the start of its chunk, where its longer head
 * fits in without moving a payload.
 */
export function expectedBytes(
  { readBytes, lastReadBytes, count }: Pending,
  left: number,
  structured: ReplyKinds,
): number {
  const lifts = structured.client && !structured.upstream
  if (lifts && (left >= LARGE_REPLY_BYTES || lastReadBytes >= LARGE_REPLY_BYTES)) {
    return left > 0 ? left : SIMPLE_REPLY_SIZE + lastReadBytes
  }
  return left + readBytes + count * MAX_HEAD_BYTES
}
