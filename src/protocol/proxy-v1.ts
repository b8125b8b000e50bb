import { ProtocolError } from './errors.ts'
import { addressBytes, addressText } from './ip-text.ts'
import type { DecodedProxyHeader, IpEndpoint } from './proxy-facts.ts'

/** What a header of version 1 begins with. */
export const V1_PREFIX = Buffer.from('PROXY ')

/** Longest line, CRLF and all (proxy-protocol.txt, 2.1). */
const MAX_LINE_BYTES = 107

/**
 * A header of version 1, one line of text (proxy-protocol.txt, 2.1). One space between words, no leading zeros.
 *
 *     PROXY TCP4 192.0.2.7 192.0.2.1 50312 10809\r\n
 *     PROXY TCP6 2001:db8::7 2001:db8::1 50312 10809\r\n
 *     PROXY UNKNOWN\r\n                                  and whatever there is in front of the CRLF
 *
 * Undefined as long as its end has to come.
 * @throws ProtocolError TOO_LONG, BAD_MAGIC or BAD_ADDRESS
 */
export function decodeProxyV1(bytes: Buffer): DecodedProxyHeader | undefined {
  const line = bytes.subarray(0, MAX_LINE_BYTES)
  const end = line.indexOf('\r\n')
  if (end < 0) {
    if (line.length < MAX_LINE_BYTES) return undefined
    throw new ProtocolError('TOO_LONG', `a PROXY line without CRLF in its first ${MAX_LINE_BYTES} bytes`)
  }
  const sizeBytes = end + 2
  const text = line.toString('latin1', V1_PREFIX.length, end)
  if (text === 'UNKNOWN' || text.startsWith('UNKNOWN ')) return { header: { kind: 'own' }, sizeBytes }
  const words = text.split(' ')
  const [family, source, destination, sourcePort, destinationPort] = words
  if (family !== 'TCP4' && family !== 'TCP6') throw new ProtocolError('BAD_MAGIC', 'a PROXY line of an unknown family')
  if (words.length !== 5) throw new ProtocolError('BAD_ADDRESS', `a PROXY line of ${words.length} words`)
  const size = family === 'TCP4' ? 4 : 16
  const header = {
    kind: 'client',
    source: endpointOf(source, sourcePort, size),
    destination: endpointOf(destination, destinationPort, size),
  } as const
  return { header, sizeBytes }
}

function endpointOf(address = '', port = '', size: number): IpEndpoint {
  const bytes = addressBytes(address)
  if (bytes?.length !== size) throw new ProtocolError('BAD_ADDRESS', 'a PROXY line with a wrong address')
  const isPort = /^(0|[1-9]\d{0,4})$/.test(port) && Number(port) <= 0xffff
  if (!isPort) throw new ProtocolError('BAD_ADDRESS', 'a PROXY line with a wrong port')
  return { address: addressText(bytes), port: Number(port) }
}
