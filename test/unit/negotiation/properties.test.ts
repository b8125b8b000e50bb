import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { enter, greet, listExports, OptionRefused } from '../../../src/negotiation/client.ts'
import { negotiate } from '../../../src/negotiation/server.ts'
import { ProtocolError } from '../../../src/protocol/errors.ts'
import { StreamError } from '../../../src/stream/errors.ts'
import { Wire } from '../../../src/stream/wire.ts'
import { FakeStream, hex, memoryPair } from '../../support/bytes.ts'
import { asks, DISK, FakeHost, haggle, option, repliesOf } from './haggle.ts'

const anyBytes = fc.uint8Array({ maxLength: 200 }).map(bytes => Buffer.from(bytes))

/** Options that look like options: known and unknown numbers, right and wrong lengths, data good and bad. */
const anyOption = fc.oneof(
  fc.tuple(fc.oneof(fc.integer({ min: 1, max: 12 }), fc.nat()), anyBytes).map(([number, data]) => option(number, data)),
  fc
    .tuple(fc.constantFrom(6, 7), fc.constantFrom('disk', 'no', 'busy', ''))
    .map(([go, name]) => option(go, asks(name))),
  fc.constantFrom(option(3), option(8), option(5), option(2)),
  fc.tuple(fc.integer({ min: 1, max: 12 }), anyBytes, fc.nat(400)).map(([n, data, claim]) => option(n, data, claim)),
)

const anyClient = fc.oneof(
  anyBytes.map(bytes => [bytes]),
  fc
    .tuple(fc.constantFrom('00000000', '00000001', '00000003'), fc.array(anyOption, { maxLength: 40 }))
    .map(([flags, options]) => [hex(flags), ...options]),
)

const tls = fc.constantFrom('none' as const, 'forced' as const, 'selective' as const)

function isInOrder(end: unknown): boolean {
  if (!(end instanceof Error)) return typeof end === 'object' && end !== null
  return end instanceof ProtocolError || end instanceof StreamError || end instanceof OptionRefused
}

describe('whatever a client sends', () => {
  it('ends in the transmission phase, a goodbye, a refusal, a ProtocolError or a StreamError', async () => {
    await fc.assert(
      fc.asyncProperty(anyClient, fc.array(anyOption), tls, async (chunks, tlsInput, mode) => {
        const host = Object.assign(new FakeHost(), { tls: mode, tlsInput })
        const { end, replies } = await haggle(host, ...chunks)
        expect(isInOrder(end), String(end)).toBe(true)
        // repliesOf has read all of the output: what was answered is whole messages and nothing else.
        expect(replies.every(({ type }) => type <= 3 || type >>> 31 === 1)).toBe(true)
      }),
      { numRuns: 300 },
    )
  })

  it('is answered the same however it is cut', async () => {
    await fc.assert(
      fc.asyncProperty(anyClient, fc.array(fc.nat(64), { maxLength: 30 }), tls, async (chunks, sizes, mode) => {
        // A client that goes on after STARTTLS without waiting is a case of its own: it depends on what has come by then.
        const bytes = Buffer.concat(chunks)
        fc.pre(mode === 'none')
        const cut: Buffer[] = []
        let at = 0
        for (const size of [...sizes, bytes.length]) {
          cut.push(bytes.subarray(at, at + size))
          at += size
        }
        const [whole, pieces] = [await haggle(new FakeHost(), bytes), await haggle(new FakeHost(), ...cut)]
        expect(pieces.output).toEqual(whole.output)
        expect(String(pieces.end)).toBe(String(whole.end))
      }),
      { numRuns: 200 },
    )
  })
})

describe('whatever an upstream sends', () => {
  const u32 = (value: number): string => value.toString(16).padStart(8, '0')
  const anyReply = fc
    .tuple(
      fc.constantFrom(7, 8, 3, 5),
      fc.oneof(fc.constantFrom(1, 2, 3, 0x8000_0001, 0x8000_0006), fc.nat()),
      fc.oneof(anyBytes, fc.constantFrom(hex('0000 0000010000000000 0141'), hex('0003 00000001 00001000 02000000'))),
    )
    .map(([number, type, data]) =>
      Buffer.concat([hex('0003e889045565a9', u32(number), u32(type), u32(data.length)), data]),
    )
  const greeting = fc
    .constantFrom('0000', '0001', '0002', '0003')
    .map(flags => hex('4e42444d41474943 49484156454f5054', flags))
  const anyServer = fc.oneof(
    anyBytes,
    fc.tuple(greeting, fc.array(anyReply)).map(([head, all]) => Buffer.concat([head, ...all])),
  )

  it('ends in an export, a refusal, a ProtocolError or a StreamError', async () => {
    await fc.assert(
      fc.asyncProperty(anyServer, fc.boolean(), fc.boolean(), async (bytes, structuredReplies, list) => {
        const stream = new FakeStream()
        const wire = new Wire(stream, 1000)
        stream.deliver(Buffer.from(bytes))
        stream.peerEnds()
        const end = await greet(wire)
          .then<unknown>(connected => (list ? listExports(wire) : enter(connected, 'disk', { structuredReplies })))
          .catch((error: unknown) => error)
        expect(isInOrder(end), String(end)).toBe(true)
      }),
      { numRuns: 500 },
    )
  })
})

describe('both halves', () => {
  it('agree on the export, on structured replies, and on whose bytes come next', async () => {
    for (const structuredReplies of [true, false]) {
      const [ours, theirs] = memoryPair()
      const serving = negotiate(new Wire(theirs, 1000), new FakeHost())
      const wire = new Wire(ours, 1000)
      const entered = await enter(await greet(wire), 'disk', { structuredReplies })
      expect(entered).toMatchObject({ sizeBytes: DISK.sizeBytes, flags: DISK.flags, structuredReplies })
      expect(entered.blockSize).toMatchObject(DISK.blockSize)
      expect(await serving).toMatchObject({ kind: 'transmission', structuredReplies })
      expect(wire.bufferedBytes).toBe(0)
      expect(repliesOf(theirs.output.subarray(18)).at(-1)).toMatchObject({ option: 7, type: 1 })
    }
  })

  it('agree on what there is, and on a refusal', async () => {
    const [ours, theirs] = memoryPair()
    const serving = negotiate(new Wire(theirs, 1000), new FakeHost())
    const wire = new Wire(ours, 1000)
    const connected = await greet(wire)
    expect(await listExports(wire)).toEqual([{ name: 'disk', description: 'the lab' }])
    await expect(enter(connected, 'busy', { structuredReplies: false })).rejects.toMatchObject({
      reply: 0x8000_0002,
      message: 'GO refused with ERR_POLICY: somebody else writes',
    })
    ours.end()
    expect(await serving).toEqual({ kind: 'left' })
  })
})
