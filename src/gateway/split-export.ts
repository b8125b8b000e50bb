import { splittingStream } from '../relay/splitting-stream.ts'
import type { Room } from '../stream/memory.ts'
import type { OpenExport } from './open-export.ts'

/**
 * An open export that takes requests of any length: where its upstream does not, they go out in parts, by all of its
 * connections. What they come back as one in takes `memory`.
 */
export function splitExport(opened: OpenExport, memory: Room): OpenExport {
  const { stream, partBytes, structured } = opened
  if (partBytes === undefined) return opened
  return { ...opened, stream: splittingStream(stream, { partBytes, structured: structured.upstream, memory }) }
}
