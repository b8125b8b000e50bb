import { aligningStream } from '../relay/aligning-stream.ts'
import type { Room } from '../stream/memory.ts'
import { UpstreamError } from '../upstreams/errors.ts'
import type { OpenExport } from './open-export.ts'

/** An open export that takes requests for any bytes, where that was asked for and its upstream does not. What is read for that takes `memory`. */
export function alignExport(opened: OpenExport, memory: Room): OpenExport {
  const { stream, alignBytes, sizeBytes, structured } = opened
  if (alignBytes === 1) return opened
  if (sizeBytes > BigInt(Number.MAX_SAFE_INTEGER)) {
    stream.destroy()
    throw new UpstreamError('REFUSED', 'an export that is too large for align')
  }
  const options = { blockBytes: alignBytes, sizeBytes: Number(sizeBytes), structured: structured.upstream, memory }
  return { ...opened, stream: aligningStream(stream, options) }
}
