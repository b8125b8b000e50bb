import type { ListedUpstream } from '../config/config.ts'
import { greet, listExports } from '../negotiation/client.ts'
import type { ListEntry } from '../negotiation/host.ts'
import { encodeProxyV2 } from '../protocol/proxy-v2.ts'
import { Wire } from '../stream/wire.ts'
import { connectUpstream } from '../upstreams/connect.ts'
import { UpstreamError } from '../upstreams/errors.ts'
import { bidFarewell } from './farewell.ts'

/** How long an upstream may take for all of it. */
const LIST_MS = 5000

/**
 * Asks an upstream which exports it has, on a connection of its own.
 * @throws UpstreamError, ProtocolError, StreamError, OptionRefused
 */
export async function listUpstream(from: ListedUpstream): Promise<readonly ListEntry[]> {
  const signal = AbortSignal.timeout(LIST_MS)
  const link = await connectUpstream(from, { readOnly: true }, signal)
  let { stream } = link
  const end = (): void => stream.destroy()
  signal.addEventListener('abort', end)
  try {
    const header = from.proxyProtocol === undefined ? undefined : encodeProxyV2({})
    if (header !== undefined) stream.write(header)
    const { secure = undefined, acknowledge = undefined } = link.kind === 'server' ? link : {}
    const upgrade =
      secure &&
      (async () => {
        stream = await secure()
        return new Wire(stream, LIST_MS, acknowledge)
      })
    const { wire, fixed } = await greet(new Wire(stream, LIST_MS, acknowledge), upgrade)
    if (!fixed) throw new UpstreamError('REFUSED', 'this server knows no LIST')
    return await listExports(wire)
  } finally {
    signal.removeEventListener('abort', end)
    bidFarewell(stream, 'haggling')
  }
}
