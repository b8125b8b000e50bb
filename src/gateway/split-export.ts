import { splittingStream } from '../relay/splitting-stream.ts'
import type { OpenExport } from './open-export.ts'

/**
 * An open export that takes requests of any length: where its upstream does not, they go out in parts, by all of its
 * connections.
 */
export function splitExport(opened: OpenExport): OpenExport {
  const { stream, partBytes, structured } = opened
  if (partBytes === undefined) return opened
  return { ...opened, stream: splittingStream(stream, { partBytes, structured: structured.upstream }) }
}
