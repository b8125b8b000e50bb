import { Cmd, Opt } from '../protocol/constants.ts'
import { encodeOption } from '../protocol/option.ts'
import { encodeRequest } from '../protocol/request.ts'
import type { ByteStream } from '../stream/byte-stream.ts'

/** How long an upstream has to close after it was told goodbye. */
const FAREWELL_MS = 2000

/**
 * Leaves an upstream as a client must (proto.md, "Termination of the session during option haggling" and "Terminating
 * the transmission phase"): with a word, our end, and what still comes passed over until it closes. Nothing is said on a
 * stream that has ended. Returns at once.
 */
export function bidFarewell(stream: ByteStream, phase: 'haggling' | 'transmission'): void {
  const disconnect = { flags: 0, type: Cmd.DISC, cookie: 0n, offset: 0n, length: 0 }
  stream.write(phase === 'haggling' ? encodeOption(Opt.ABORT) : encodeRequest(disconnect))
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
