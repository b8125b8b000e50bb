/** BLOCK_STATUS on its way through a relay: who may ask, and which answers get through. */
import { describe, expect, it } from 'vitest'
import { hex } from '../../support/bytes.ts'
import { chunk, READ, request } from './messages.ts'
import { clientSends, cookieAt, type RelaySession, relaying, upstreamSends } from './session.ts'

const BLOCK_STATUS = 7
const STATUS = 5
const NONE = 0
const ERROR = 0x8001
const DONE = 1
const REQ_ONE = 8
const STRUCTURED = { client: true, upstream: true }
const ASK = { type: BLOCK_STATUS, cookie: 0xaan, offset: 4096n, length: 0x3000 }

/** The upstream's ids 7 and 9 are 0 and 1 to the client. */
const CONTEXTS = new Map([
  [7, 0],
  [9, 1],
])
const ONE = new Map([[7, 0]])

const asking = async (contextIds = ONE, flags = 0): Promise<RelaySession> => {
  const session = relaying({ structured: STRUCTURED, contextIds })
  await clientSends(session, request({ ...ASK, flags }))
  return session
}
const status = (session: RelaySession, payload: string, flags = DONE): Buffer =>
  chunk({ type: STATUS, flags, cookie: cookieAt(session, 0), payload })

/** The session ends as the upstream's fault, and nothing of the chunk has reached the client. */
async function ends(payload: string, contextIds = ONE, flags = 0): Promise<void> {
  const session = await asking(contextIds, flags)
  await upstreamSends(session, status(session, payload))
  session.client.peerEnds()
  expect(await session.end, payload).toMatchObject({ kind: 'violation', side: 'upstream' })
  expect(session.client.output, payload).toHaveLength(0)
}

describe('BLOCK_STATUS', () => {
  it('is passed on once a context is negotiated, with REQ_ONE', async () => {
    const session = await asking(ONE, REQ_ONE)
    expect(session.upstream.output.subarray(4, 8)).toEqual(hex('0008 0007'))
  })

  it('is answered EINVAL by an error chunk where none is negotiated, beyond the export, of nothing, or with other flags', async () => {
    for (const [contextIds, fields] of [
      [new Map(), {}],
      [ONE, { offset: (1n << 20n) - 0x1000n }],
      [ONE, { length: 0 }],
      [ONE, { flags: 4 }],
    ] as const) {
      const session = relaying({ structured: STRUCTURED, contextIds })
      await clientSends(session, request({ ...ASK, ...fields }))
      expect(session.upstream.output).toHaveLength(0)
      const text = '6e6f207375636820636f6d6d616e642c20666c6167206f722072616e6765206f6e2074686973206578706f7274' // no such command, flag or range on this export
      expect(session.client.output).toEqual(hex('668e33ef 0001 8001 00000000000000aa 00000033 00000016 002d', text))
    }
  })

  it('is answered with the ids and the cookie of the client, wherever the stream is cut', async () => {
    for (let cut = 1; cut < 84; cut++) {
      const session = await asking(CONTEXTS)
      const stream = Buffer.concat([
        status(session, '00000009 00001000 00000001', 0),
        status(session, '00000007 00001000 00000000 00001fff 00000003 00010000 00000000', DONE),
      ])
      expect(stream).toHaveLength(80)
      await upstreamSends(session, Buffer.from(stream.subarray(0, cut)), Buffer.from(stream.subarray(cut)))
      expect(session.client.output, `cut at ${cut}`).toEqual(
        hex(
          '668e33ef 0000 0005 00000000000000aa 0000000c 00000001 00001000 00000001',
          '668e33ef 0001 0005 00000000000000aa 0000001c 00000000 00001000 00000000 00001fff 00000003 00010000 00000000',
        ),
      )
      session.relay.stop('test')
    }
  })

  it('may be done by a NONE chunk, and by an error before all contexts are told', async () => {
    for (const last of [
      { type: NONE, flags: DONE },
      { type: ERROR, flags: DONE, payload: '00000005 0000' },
    ]) {
      const session = await asking()
      const stream = [
        status(session, '00000007 00001000 00000001', 0),
        chunk({ ...last, cookie: cookieAt(session, 0) }),
      ]
      await upstreamSends(session, ...(last.type === NONE ? stream : stream.slice(1)))
      expect(session.relay.inFlight).toBe(0)
      session.relay.stop('test')
    }
  })

  it('ends the session when the answer is of a context that was never negotiated, twice of one, or lacks one', async () => {
    await ends('00000008 00001000 00000000')
    await ends('00000007 00001000 00000000', CONTEXTS)
    const session = await asking(CONTEXTS)
    await upstreamSends(session, status(session, '00000007 00001000 00000000', 0))
    await upstreamSends(session, status(session, '00000007 00001000 00000000'))
    session.client.peerEnds()
    expect(await session.end).toMatchObject({ kind: 'violation', side: 'upstream' })
  })

  it('ends the session when extents are of nothing, go on behind the request, or are not whole', async () => {
    await ends('00000007 00000000 00000000')
    await ends('00000007 00003000 00000000 00001000 00000000')
    await ends('00000007 00001000 00000000 ffffffff 00000000 00001000 00000000')
    await ends('00000007')
    await ends('00000007 00001000 0000')
  })

  it('ends the session when REQ_ONE is answered with more than one extent, or a longer one', async () => {
    await ends('00000007 00001000 00000000 00001000 00000000', ONE, REQ_ONE)
    await ends('00000007 00003001 00000000', ONE, REQ_ONE)
    const session = await asking(ONE, REQ_ONE)
    await upstreamSends(session, status(session, '00000007 00003000 00000000'))
    expect(session.relay.inFlight).toBe(0)
  })

  it('ends the session with more than 2^20 extents, at the head of the chunk', async () => {
    const session = await asking()
    const head = chunk({
      type: STATUS,
      cookie: cookieAt(session, 0),
      payload: '00000007',
      length: 4 + 8 * (2 ** 20 + 1),
    })
    await upstreamSends(session, head)
    session.client.peerEnds()
    expect(await session.end).toMatchObject({ kind: 'violation', error: { code: 'BAD_LENGTH' } })
  })

  it('ends the session when it is answered with data, with a simple reply, or when it answers a READ', async () => {
    const session = await asking()
    await upstreamSends(session, chunk({ type: 1, cookie: cookieAt(session, 0), payload: '0000000000001000 61' }))
    session.client.peerEnds()
    expect(await session.end).toMatchObject({ kind: 'violation' })
    for (const error of ['00000000', '00000005']) {
      const simple = await asking()
      await upstreamSends(simple, hex('67446698', error, cookieAt(simple, 0).toString(16).padStart(16, '0')))
      simple.client.peerEnds()
      expect(await simple.end).toMatchObject({ kind: 'violation' })
    }
    const read = relaying({ structured: STRUCTURED, contextIds: ONE })
    await clientSends(read, request({ type: READ, length: 512 }))
    await upstreamSends(read, status(read, '00000007 00001000 00000000'))
    read.client.peerEnds()
    expect(await read.end).toMatchObject({ kind: 'violation' })
  })
})
