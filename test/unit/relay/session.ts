/** A relay between two streams in the hands of a test. */
import { Relay } from '../../../src/relay/relay.ts'
import type { RelayEnd } from '../../../src/relay/relay-end.ts'
import type { RelayOptions } from '../../../src/relay/relay-options.ts'
import { SessionMemory } from '../../../src/relay/session-memory.ts'
import { Throttle } from '../../../src/relay/throttle.ts'
import { FakeStream, nextTurn, settled } from '../../support/bytes.ts'
import { ALL_FLAGS } from './messages.ts'

export interface RelaySession {
  readonly client: FakeStream
  readonly upstream: FakeStream
  readonly relay: Relay
  readonly end: Promise<RelayEnd>
}

/** Starts relaying an export of 1 MiB with everything allowed, simple replies on both sides. */
export function relaying(
  options: Partial<Omit<RelayOptions, 'client' | 'upstream'>> & { readonly headroomBytes?: number } = {},
): RelaySession {
  const [client, upstream] = [new FakeStream(), new FakeStream(options.headroomBytes)]
  const relay = new Relay({
    client,
    upstream,
    sizeBytes: 1n << 20n,
    flags: ALL_FLAGS,
    structured: { client: false, upstream: false },
    early: Buffer.alloc(0),
    throttle: new Throttle(),
    memory: new SessionMemory(),
    ...options,
  })
  return { client, upstream, relay, end: relay.run() }
}

/** Lets the client send and the relay act on it. */
export async function clientSends(session: RelaySession, ...chunks: readonly Buffer[]): Promise<void> {
  session.client.deliver(...chunks)
  await settled()
  await nextTurn()
}

/** Lets the upstream send and the relay act on it. */
export async function upstreamSends(session: RelaySession, ...chunks: readonly Buffer[]): Promise<void> {
  session.upstream.deliver(...chunks)
  await settled()
}

/** The cookie under which the request whose head begins at `at` of the upstream's input went out. */
export function cookieAt(session: RelaySession, at: number): bigint {
  return session.upstream.output.readBigUInt64BE(at + 8)
}
