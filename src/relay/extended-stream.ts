import { ProtocolError } from '../protocol/errors.ts'
import type { ByteStream } from '../stream/byte-stream.ts'
import { ExtendedReplies } from './extended-replies.ts'
import { type Extended, ExtendedRequests, type ExtendedRules } from './extended-requests.ts'
import { Framer } from './framer.ts'
import { RewrittenStream } from './rewritten-stream.ts'

/**
 * The stream of a client with extended headers, as one of a client with compact headers and structured replies. There only
 * for such clients: it costs an entry of a map for each request, and the copy of what a chunk has beside heads. `early`
 * came ahead of the transmission phase.
 */
export function extendedStream(inner: ByteStream, rules: ExtendedRules, early: Buffer): ByteStream {
  const out = new Map<bigint, Extended>()
  return new RewrittenStream(
    inner,
    ({ toPeer, toSink }) => {
      const grammar = new ExtendedRequests(out, rules, request => requests.inject(request))
      const requests: Framer = new Framer(grammar, toSink)
      const replies = new Framer(new ExtendedReplies(out), toPeer)
      return {
        out: bytes => replies.feed(bytes),
        in: chunk => requests.feed(chunk),
        ended: () => {
          if (!requests.atBoundary) throw new ProtocolError('TRUNCATED', 'the client ended in the middle of a request')
        },
      }
    },
    early,
  )
}
