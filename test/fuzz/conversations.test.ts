// Whole conversations that went well until somebody touched them: a client that haggles, an upstream that answers, and both in the
// transmission phase. Each ends in an export, a goodbye, a refusal, a ProtocolError or a StreamError; the relay in order.

import fc from 'fast-check'
import { expect, it } from 'vitest'
import { enter, greet, listExports, OptionRefused } from '../../src/negotiation/client.ts'
import { ProtocolError } from '../../src/protocol/errors.ts'
import { StreamError } from '../../src/stream/errors.ts'
import { Wire } from '../../src/stream/wire.ts'
import { FakeStream, nextTurn, settled } from '../support/bytes.ts'
import { FakeHost, haggle } from '../unit/negotiation/haggle.ts'
import { relaying } from '../unit/relay/session.ts'
import { corpus, mutants, SETTINGS } from './corpus.ts'

function isInOrder(end: unknown): boolean {
  if (!(end instanceof Error)) return typeof end === 'object' && end !== null
  return end instanceof ProtocolError || end instanceof StreamError || end instanceof OptionRefused
}

it('of a client that haggles', async () => {
  const tls = fc.constantFrom('none' as const, 'selective' as const, 'forced' as const)
  await fc.assert(
    fc.asyncProperty(mutants(corpus('client')), tls, async (bytes, mode) => {
      const { end } = await haggle(Object.assign(new FakeHost(), { tls: mode }), bytes)
      expect(isInOrder(end), String(end)).toBe(true)
    }),
    SETTINGS,
  )
})

it('of an upstream that answers', async () => {
  await fc.assert(
    fc.asyncProperty(mutants(corpus('upstream')), fc.boolean(), fc.boolean(), async (bytes, structured, list) => {
      const stream = new FakeStream()
      const wire = new Wire(stream, 1000)
      stream.deliver(bytes)
      stream.peerEnds()
      const end = await greet(wire)
        .then<unknown>(met => (list ? listExports(wire) : enter(met, 'disk', { structuredReplies: structured })))
        .catch((error: unknown) => error)
      expect(isInOrder(end), String(end)).toBe(true)
    }),
    SETTINGS,
  )
})

it('of both, once there is an export', async () => {
  const sides = fc.record({ client: fc.boolean(), upstream: fc.boolean() })
  const [asked, answered] = [mutants(corpus('requests')), mutants(corpus('replies'))]
  await fc.assert(
    fc.asyncProperty(asked, answered, sides, async (requests, replies, structured) => {
      const session = relaying({ structured })
      session.client.deliver(requests)
      await settled()
      session.upstream.deliver(replies)
      await settled()
      await nextTurn()
      session.client.close()
      session.upstream.close()
      expect(['disconnected', 'client gone', 'upstream gone', 'violation']).toContain((await session.end).kind)
      expect(session.upstream.released).toEqual(session.upstream.taken)
    }),
    SETTINGS,
  )
})
