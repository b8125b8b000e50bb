import type { GatedStream } from '../stream/write-gate.ts'
import { Aligning, type AligningOptions } from './aligning.ts'
import { AligningReplies } from './aligning-replies.ts'
import { AligningRequests } from './aligning-requests.ts'
import { Framer } from './framer.ts'
import { rewrittenUpstream } from './rewritten-stream.ts'

/**
 * A connection to an upstream that takes whole blocks alone, as one that takes requests for any bytes. Only where that is
 * wanted: a request costs an entry of a map, and a write that is not whole blocks a read, and copies.
 */
export function aligningStream(inner: GatedStream, options: AligningOptions): GatedStream {
  return rewrittenUpstream(inner, ({ toPeer, toSink }) => {
    const aligning = new Aligning(options, {
      ask: request => requests.inject(request),
      answer: reply => replies.inject(reply),
    })
    const requests: Framer = new Framer(new AligningRequests(aligning), toPeer)
    const replies: Framer = new Framer(new AligningReplies(aligning, options.structured), toSink)
    return {
      out: bytes => requests.feed(bytes),
      in: chunk => replies.feed(chunk),
      over: () => aligning.close(),
      closed: () => aligning.end(),
      heldBytes: () => aligning.heldBytes,
    }
  })
}
