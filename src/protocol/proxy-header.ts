/**
 * The PROXY protocol's header as a receiver reads it, in either version: what a balancer says in front of a connection
 * about where it comes from. The rules are those of HAProxy's doc/proxy-protocol.txt.
 *
 * Not here: whether whoever sends it is to be believed.
 */
import { ProtocolError } from './errors.ts'
import type { DecodedProxyHeader } from './proxy-facts.ts'
import { decodeProxyV1, V1_PREFIX } from './proxy-v1.ts'
import { decodeProxyV2, V2_SIGNATURE } from './proxy-v2.ts'

/**
 * Reads the header that `bytes` begin with; undefined as long as more of it has to come.
 * @throws ProtocolError as soon as it can not become a header any more: BAD_MAGIC, BAD_ADDRESS, BAD_LENGTH, BAD_FLAGS,
 * BAD_CHECKSUM, TOO_LONG
 */
export function decodeProxyHeader(bytes: Buffer): DecodedProxyHeader | undefined {
  if (begins(bytes, V2_SIGNATURE)) return bytes.length < V2_SIGNATURE.length ? undefined : decodeProxyV2(bytes)
  if (begins(bytes, V1_PREFIX)) return bytes.length < V1_PREFIX.length ? undefined : decodeProxyV1(bytes)
  throw new ProtocolError('BAD_MAGIC', 'no PROXY header')
}

/** Whether what is there of `bytes` is the beginning of `magic`, or all of it. */
function begins(bytes: Buffer, magic: Buffer): boolean {
  const size = Math.min(bytes.length, magic.length)
  return bytes.subarray(0, size).equals(magic.subarray(0, size))
}
