import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { hex, nextTurn, settled } from '../../support/bytes.ts'
import { chunk, request, simpleReply } from './messages.ts'
import { relaying } from './session.ts'

const u64 = fc.oneof(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), fc.bigInt({ min: 0n, max: 1n << 20n }))
const anyBytes = fc.uint8Array({ maxLength: 60 }).map(bytes => Buffer.from(bytes))

const anyRequest = fc.oneof({ weight: 9, arbitrary: requests() }, { weight: 1, arbitrary: anyBytes })

function requests(): fc.Arbitrary<Buffer> {
  return fc
    .record({
      type: fc.oneof(fc.nat(7), fc.nat(0xffff)),
      flags: fc.oneof(fc.constant(0), fc.nat(0xffff)),
      cookie: u64,
      offset: u64,
      length: fc.oneof(fc.nat(64), fc.nat(0xffff_ffff)),
    })
    .map(fields => request({ ...fields, payload: fields.type === 1 ? '61'.repeat(Math.min(fields.length, 64)) : '' }))
}

/** Cookies that are likely to be out: those of the first slots in their first life. */
const ours = fc.oneof(
  fc.nat(5).map(slot => 0x1_0000_0000n + BigInt(slot)),
  u64,
)

const anyReply = fc.oneof(
  fc
    .tuple(ours, fc.constantFrom(0, 5), fc.nat(64))
    .map(([cookie, error, size]) => simpleReply(cookie, error, '61'.repeat(size))),
  fc
    .record({
      type: fc.oneof(fc.constantFrom(0, 1, 2, 5, 0x8001, 0x8002, 0x8abc), fc.nat(0xffff)),
      flags: fc.nat(1),
      cookie: ours,
      payload: fc.uint8Array({ maxLength: 40 }).map(bytes => Buffer.from(bytes).toString('hex')),
    })
    .map(chunk),
  anyBytes,
)

const step = fc.oneof(
  fc.record({ from: fc.constant('client' as const), bytes: anyRequest }),
  fc.record({ from: fc.constant('upstream' as const), bytes: anyReply }),
)

describe('whatever a client and an upstream send', () => {
  it('ends in order, with every chunk of the upstream given back, and never in a bug', async () => {
    const kinds = fc.constantFrom(
      { client: false, upstream: false },
      { client: true, upstream: true },
      { client: true, upstream: false },
    )
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), kinds, async (steps, structured) => {
        const session = relaying({ structured })
        for (const { from, bytes } of steps) {
          session[from].deliver(Buffer.from(bytes))
          await settled()
        }
        await nextTurn()
        session.client.close()
        session.upstream.close()
        const end = await session.end
        expect(['disconnected', 'client gone', 'violation']).toContain(end.kind)
        expect(session.upstream.released).toEqual(session.upstream.taken)
      }),
      { numRuns: 400 },
    )
  })

  it('reaches the upstream as whole requests that it was allowed to make, and the client as whole replies', async () => {
    const readOnly = 0x0003 | 0x0004 | 0x0008 | 0x0400
    await fc.assert(
      fc.asyncProperty(fc.array(requests(), { maxLength: 30 }), async all => {
        const session = relaying({ flags: readOnly })
        session.client.deliver(...all.map(bytes => Buffer.from(bytes)))
        await settled()
        const { output } = session.upstream
        for (let at = 0; at < output.length; at += 28) {
          expect(output.subarray(at, at + 4)).toEqual(hex('25609513'))
          const type = output.readUInt16BE(at + 6)
          expect([0, 2, 3, 5]).toContain(type)
          const end = output.readBigUInt64BE(at + 16) + BigInt(output.readUInt32BE(at + 24))
          expect(end).toBeLessThanOrEqual(1n << 20n)
        }
        const refusals = session.client.output
        for (let at = 0; at < refusals.length; at += 16) {
          expect(refusals.subarray(at, at + 4)).toEqual(hex('67446698'))
          expect([1, 22, 28]).toContain(refusals.readUInt32BE(at + 4))
        }
        session.relay.stop('test')
        await session.end
      }),
      { numRuns: 300 },
    )
  })
})
