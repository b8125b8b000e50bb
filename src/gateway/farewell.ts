import { Opt } from '../protocol/constants.ts'
import { encodeDisconnect } from '../protocol/extended.ts'
import { encodeOption } from '../protocol/option.ts'
import type { ReplyKinds } from '../relay/replies.ts'
import type { ByteStream } from '../stream/byte-stream.ts'

/** How long an upstream has to close after it was told goodbye. */
const FAREWELL_MS = 2000

/** Where a connection is; `phaseOf` says it of one that is open. */
type Phase = 'haggling' | 'transmission' | 'extended transmission'

/** The transmission phase of a connection. */
export function phaseOf({ structured }: { readonly structured: ReplyKinds }): Phase {
  return structured.extended === true ? 'extended transmission' : 'transmission'
}

/**
 * Leaves an upstream as a client must (proto.md, "Termination of the session during option haggling" and "Terminating
 * the transmission phase"): with a word, our end, and what still comes passed over until it closes. Nothing is said on a
 * stream that has ended. Returns at once.
 */
export function bidFarewell(stream: ByteStream, phase: Phase): void {
  stream.write(phase === 'haggling' ? encodeOption(Opt.ABORT) : encodeDisconnect(phase === 'extended transmission'))
  stream.end()
  const timer = setTimeout(() => stream.destroy(), FAREWELL_MS)
  // A gateway that stops does not wait for it.
  timer.unref()
  stream.start({
    data: chunk => stream.release(chunk),
    ended: () => stream.destroy(),
    closed: () => clearTimeout(timer),
    drained: () => {},
  })
}
