/** Extended headers on both sides of a relay: nothing is split, merged or rewritten beyond cookies and context ids. */
import { afterEach, describe, expect, it, vi } from 'vitest'
import { Relay } from '../../../src/relay/relay.ts'
import { SessionMemory } from '../../../src/relay/session-memory.ts'
import { Throttle } from '../../../src/relay/throttle.ts'
import { everySplit, FakeStream, hex, nextTurn, settled } from '../../support/bytes.ts'
import {
  type ExtendedFields,
  field,
  PAYLOAD_LEN,
  extendedReply as reply,
  extendedRequest as request,
} from './extended-messages.ts'
import { ALL_FLAGS, CACHE, chunk, DISC, FLUSH, READ, simpleReply, TRIM, WRITE, WRITE_ZEROES } from './messages.ts'
import { clientSends, relaying } from './session.ts'

const DONE = 1
const BLOCK_STATUS = 7
const [NONE, DATA, HOLE, STATUS, STATUS_EXT, ERROR, ERROR_OFFSET] = [0, 1, 2, 5, 6, 0x8001, 0x8002]
const GIB = 1n << 30n
const TIB = 1n << 40n
const EXTENDED = { structured: { client: true, upstream: true, extended: true } }

afterEach(() => {
  vi.useRealTimers()
})

function through(sizeBytes = 4n * TIB, contextIds = new Map([[7, 0]])) {
  return relaying({ ...EXTENDED, sizeBytes, contextIds })
}

type Session = ReturnType<typeof through>

/** The requests that went out, as bytes but for their cookies, which come apart. */
function asked({ upstream: { output } }: Pick<Session, 'upstream'>): { cookie: bigint; text: string }[] {
  const all: { cookie: bigint; text: string }[] = []
  for (let at = 0; at < output.length; ) {
    const hasPayload = (output.readUInt16BE(at + 4) & PAYLOAD_LEN) !== 0
    const end = at + 32 + (hasPayload ? Number(output.readBigUInt64BE(at + 24)) : 0)
    const bytes = Buffer.from(output.subarray(at, end))
    all.push({ cookie: bytes.readBigUInt64BE(8), text: bytes.fill(0, 8, 16).toString('hex') })
    at = end
  }
  return all
}

const sent = (fields: ExtendedFields): string => request({ ...fields, cookie: 0n }).toString('hex')

/** Lets the upstream send and the relay act on it. */
async function answers(session: Session, ...chunks: readonly Buffer[]): Promise<void> {
  session.upstream.deliver(...chunks)
  await settled()
  await nextTurn()
}

/** The cookie of the only request that is out. */
async function asks(session: Session, fields: ExtendedFields): Promise<bigint> {
  const before = asked(session).length
  await clientSends(session, request(fields))
  return asked(session)[before]?.cookie ?? -1n
}

describe('extended headers on both sides', () => {
  it('pass requests and replies as they are, wherever the streams are cut', async () => {
    const all = [
      { type: WRITE, flags: PAYLOAD_LEN | 1, cookie: 0xa1n, offset: 5n, length: 3n, payload: '616263' },
      { type: READ, cookie: 0xa2n, offset: TIB, length: 4n },
      { type: FLUSH, cookie: 0xa3n },
      { type: BLOCK_STATUS, cookie: 0xa4n, offset: 4096n, length: TIB },
    ]
    await everySplit(Buffer.concat(all.map(request)), async (chunks, how) => {
      const session = through()
      await clientSends(session, ...chunks.filter(({ length }) => length > 0))
      const out = asked(session)
      expect(
        out.map(({ text }) => text),
        how,
      ).toEqual(all.map(sent))
      const [write = 0n, read = 0n, flush = 0n, status = 0n] = out.map(({ cookie }) => cookie)
      const extents = '00000002 0000008000000000 0000000000000000 0000020000000000 0000000100000003'
      const replies = (cookies: readonly (readonly [bigint, bigint])[], context: string): Buffer => {
        const [w = [0n, 0n], r = [0n, 0n], f = [0n, 0n], s = [0n, 0n]] = cookies
        return Buffer.concat([
          reply(DATA, r[0], r[1], `${field(TIB, 8)} 7172`, 0),
          reply(HOLE, r[0], r[1], `${field(TIB + 2n, 8)} 00000002`),
          reply(NONE, w[0], w[1]),
          reply(ERROR_OFFSET, s[0], s[1], `00000005 0002 6e6f ${field(4097n, 8)}`, 0),
          reply(STATUS_EXT, s[0], s[1], `${context} ${extents}`, 0),
          reply(NONE, s[0], s[1]),
          reply(ERROR, f[0], f[1], '00000005 0002 6e6f'),
        ])
      }
      const offsets = [5n, TIB, 0n, 4096n] as const
      const theirs = replies(
        [write, read, flush, status].map((cookie, at) => [cookie, offsets[at] ?? 0n]),
        '00000007',
      )
      const third = Math.floor(theirs.length / 3)
      await answers(session, Buffer.from(theirs.subarray(0, third)), Buffer.from(theirs.subarray(third)))
      const ours = replies(
        [0xa1n, 0xa2n, 0xa3n, 0xa4n].map((cookie, at) => [cookie, offsets[at] ?? 0n]),
        '00000000',
      )
      expect(session.client.output.toString('hex'), how).toBe(ours.toString('hex'))
      expect(session.relay.inFlight).toBe(0)
      session.relay.stop('test')
    })
  })

  it('let an effect of 2 TiB go out as one request, and be answered as one', async () => {
    for (const type of [TRIM, WRITE_ZEROES, CACHE]) {
      const session = through()
      const fields = { type, flags: 1, cookie: 7n, offset: 4096n, length: 2n * TIB }
      const cookie = await asks(session, fields)
      const seen = type === CACHE ? { ...fields, flags: 0 } : fields
      expect(asked(session).map(({ text }) => text)).toEqual([sent(seen)])
      await answers(session, reply(NONE, cookie, 4096n))
      expect(session.client.output).toEqual(reply(NONE, 7n, 4096n))
      session.relay.stop('test')
    }
  })

  it('refuse with the offset of the request what lies beyond the export, is too long, or is no request', async () => {
    const cases: readonly (readonly [ExtendedFields, number])[] = [
      [{ type: TRIM, offset: 4n * TIB - GIB, length: 8n * GIB }, 22],
      [{ type: WRITE_ZEROES, offset: 4n * TIB - GIB, length: 8n * GIB }, 28],
      [{ type: TRIM, offset: 1n, length: (1n << 64n) - 1n }, 75],
      [{ type: READ, length: 8n * GIB }, 22],
      [{ type: READ, flags: PAYLOAD_LEN, offset: 3n, length: 4n, payload: '61626364' }, 22],
      [{ type: WRITE, offset: 3n, length: 4n }, 22],
      [{ type: FLUSH, length: 8n * GIB }, 22],
      [{ type: 99, offset: 8n, length: 1n }, 22],
      [{ type: BLOCK_STATUS, flags: PAYLOAD_LEN, length: 12n, payload: `${field(4096n, 8)} 00000000` }, 22],
    ]
    for (const [fields, error] of cases) {
      const session = through()
      await clientSends(session, request({ cookie: 7n, ...fields }), request({ type: FLUSH, cookie: 8n }))
      expect(asked(session).map(({ text }) => text)).toEqual([sent({ type: FLUSH })])
      const { output } = session.client
      expect([output.readUInt32BE(0), output.readUInt16BE(4), output.readUInt16BE(6)]).toEqual([
        0x6e8a278c,
        DONE,
        ERROR,
      ])
      expect([output.readBigUInt64BE(8), output.readBigUInt64BE(16)]).toEqual([7n, fields.offset ?? 0n])
      expect([output.readUInt32BE(32), session.relay.counters.refused]).toEqual([error, 1])
      session.relay.stop('test')
    }
  })

  it('tell exactly where an export of more than 2^53 bytes ends', async () => {
    const sizeBytes = (1n << 62n) + 1n
    const session = through(sizeBytes)
    await clientSends(session, request({ type: TRIM, offset: sizeBytes - 9n * GIB, length: 9n * GIB + 1n }))
    expect(asked(session)).toEqual([])
    const fields = { type: TRIM, offset: sizeBytes - 9n * GIB, length: 9n * GIB }
    await asks(session, fields)
    expect(asked(session).map(({ text }) => text)).toEqual([sent(fields)])
    session.relay.stop('test')
  })

  it('end the session on a payload that nobody would drain, and on compact requests', async () => {
    for (const bytes of [
      request({ type: WRITE, flags: PAYLOAD_LEN, length: 1n << 40n }),
      request({ type: READ, flags: PAYLOAD_LEN, length: 1n << 40n }),
      hex('25609513', '00'.repeat(28)),
    ]) {
      const session = through()
      await clientSends(session, bytes)
      session.client.close()
      session.upstream.close()
      expect(await session.end).toMatchObject({ kind: 'violation', side: 'client' })
    }
  })

  it('end the session on an upstream that answers otherwise than it was asked', async () => {
    const read = { type: READ, cookie: 1n, offset: 8n, length: 4n }
    const status = { type: BLOCK_STATUS, cookie: 1n, offset: 8n, length: 8n * GIB }
    const cases: readonly (readonly [ExtendedFields, (cookie: bigint) => Buffer])[] = [
      [read, cookie => reply(DATA, cookie, 9n, `${field(8n, 8)} 61626364`)],
      [read, cookie => reply(DATA, cookie + 1n, 8n, `${field(8n, 8)} 61626364`)],
      [read, cookie => reply(DATA, cookie, 8n, `${field(6n, 8)} 61626364`)],
      [read, cookie => reply(NONE, cookie, 8n)],
      [read, cookie => simpleReply(cookie, 0, '61626364')],
      [read, cookie => chunk({ type: DATA, flags: DONE, cookie, payload: `${field(8n, 8)} 61626364` })],
      [read, cookie => hex('6e8a278c 0001 0001', field(cookie, 8), field(8n, 8), '0000000100000000')],
      [status, cookie => reply(STATUS, cookie, 8n, '00000007 00000004 00000000')],
      [status, cookie => reply(STATUS_EXT, cookie, 8n, '00000007 00000002 0000000000000004 0000000000000000')],
      [status, cookie => reply(STATUS_EXT, cookie, 8n, '00000007 00000001 0000000000000000 0000000000000000')],
      [status, cookie => reply(STATUS_EXT, cookie, 8n, '00000001 00000001 0000000000000004 0000000000000000')],
      [status, cookie => reply(STATUS_EXT, cookie, 8n, '00000007 00000001 0000000000000004')],
    ]
    for (const [fields, answer] of cases) {
      const session = through()
      const cookie = await asks(session, fields)
      await answers(session, answer(cookie))
      session.client.close()
      session.upstream.close()
      expect(await session.end).toMatchObject({ kind: 'violation', side: 'upstream' })
      expect(session.client.output.includes('abcd')).toBe(false)
    }
  })

  it('have a guarded WRITE wait until it is whole, and go out as it came, or be refused', async () => {
    const guard = {
      touches: (offset: number, length: number): boolean => offset < 4096 && offset + length > 0,
      admits: (_offset: number, bytes: Buffer | number): boolean => Buffer.isBuffer(bytes) && bytes.includes('good'),
    }
    const write = (cookie: bigint, payload: string): Buffer =>
      request({ type: WRITE, flags: PAYLOAD_LEN, cookie, offset: 8n, length: 4n, payload })
    await everySplit(write(1n, '676f6f64'), async (chunks, how) => {
      const session = relaying({ ...EXTENDED, guard })
      await clientSends(session, ...chunks.filter(({ length }) => length > 0))
      expect(
        asked(session).map(({ text }) => text),
        how,
      ).toEqual([write(0n, '676f6f64').toString('hex')])
      session.relay.stop('test')
    })
    const session = relaying({ ...EXTENDED, guard })
    await clientSends(session, write(7n, '65766961'), request({ type: TRIM, cookie: 8n, offset: 0n, length: 9n }))
    expect(session.upstream.output).toHaveLength(0)
    const { output } = session.client
    expect([output.readBigUInt64BE(8), output.readBigUInt64BE(16), output.readUInt32BE(32)]).toEqual([7n, 8n, 1])
    expect(session.relay.counters.refused).toBe(2)
    session.relay.stop('test')
  })

  it('leave an upstream with an extended DISC', async () => {
    const session = through()
    await clientSends(session, request({ type: DISC }))
    expect(session.upstream.output).toEqual(request({ type: DISC, cookie: 0n }))
    session.relay.stop('test')
  })
})

describe('BLOCK_STATUS for some of the contexts, on both sides', () => {
  const contextIds = new Map([
    [7, 0],
    [3, 1],
    [9, 2],
  ])
  const choosing = (flags = ALL_FLAGS | 0x1000) => relaying({ ...EXTENDED, sizeBytes: 4n * TIB, contextIds, flags })
  const filter = (length: bigint, ...ids: readonly number[]): ExtendedFields => ({
    type: BLOCK_STATUS,
    cookie: 5n,
    offset: 4096n,
    flags: PAYLOAD_LEN,
    length: BigInt(8 + 4 * ids.length),
    payload: [field(length, 8), ...ids.map(id => field(id, 4))].join(''),
  })
  const status = (cookie: bigint, id: number, flags = 0): Buffer =>
    reply(STATUS_EXT, cookie, 4096n, `${field(id, 4)} 00000001 0000000000001000 0000000000000003`, flags)

  it('goes out with the ids of the upstream, and brings back those of the client', async () => {
    await everySplit(request(filter(TIB, 2, 0)), async (chunks, how) => {
      const session = choosing()
      await clientSends(session, ...chunks.filter(({ length }) => length > 0))
      const [out] = asked(session)
      expect(out?.text, how).toBe(sent(filter(TIB, 7, 9)))
      const cookie = out?.cookie ?? 0n
      await answers(session, status(cookie, 9), status(cookie, 7, DONE))
      expect(session.client.output).toEqual(Buffer.concat([status(5n, 2), status(5n, 0, DONE)]))
      expect(session.relay.inFlight).toBe(0)
      session.relay.stop('test')
    })
  })

  it('ends the session where the answer is for others, or for fewer', async () => {
    for (const ids of [[7, 3], [7]]) {
      const session = choosing()
      const cookie = await asks(session, filter(TIB, 2, 0))
      await answers(session, ...ids.map((id, at) => status(cookie, id, at === ids.length - 1 ? DONE : 0)))
      session.client.close()
      session.upstream.close()
      expect(await session.end).toMatchObject({ kind: 'violation', side: 'upstream' })
    }
  })

  it('is EINVAL for wrong ids and counts, beyond the export, and where it was not offered', async () => {
    const cases: readonly (readonly [ExtendedFields, number?])[] = [
      [filter(4096n, 3)],
      [filter(4096n, 1, 1)],
      [filter(4096n)],
      [filter(4096n, 0, 1, 2, 2)],
      [filter(4n * TIB, 0)],
      [filter(0n, 0)],
      [{ ...filter(4096n), length: 14n, payload: '00'.repeat(14) }],
      [filter(4096n, 0), ALL_FLAGS],
    ]
    for (const [fields, flags] of cases) {
      const session = choosing(flags)
      await clientSends(session, request(fields), request({ type: FLUSH, cookie: 8n }))
      expect(asked(session).map(({ text }) => text)).toEqual([sent({ type: FLUSH })])
      const { output } = session.client
      expect([output.readBigUInt64BE(8), output.readUInt32BE(32)]).toEqual([5n, 22])
      session.relay.stop('test')
    }
  })
})

describe('an upstream with extended headers that dies', () => {
  it('is followed by one that is sent the same, in the same heads', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
    const stream = new FakeStream()
    const resume = {
      limitMs: 60_000,
      replayBytes: 0,
      dial: async () => ({ stream, contextIds: new Map([[9, 0]]) }),
      tell: () => {},
    }
    const [client, upstream] = [new FakeStream(), new FakeStream()]
    const contextIds = new Map([[7, 0]])
    const options = {
      ...EXTENDED,
      sizeBytes: 4n * TIB,
      flags: ALL_FLAGS | 0x1000,
      contextIds,
      resume,
      memory: new SessionMemory(),
    }
    const relay = new Relay({ ...options, client, upstream, early: Buffer.alloc(0), throttle: new Throttle() })
    const session = { client, upstream, relay, end: relay.run() }
    const all = [
      { type: WRITE, flags: PAYLOAD_LEN, cookie: 1n, offset: 5n, length: 3n, payload: '616263' },
      { type: READ, cookie: 2n, offset: TIB, length: 4n },
      { type: TRIM, cookie: 3n, offset: 8n, length: 2n * TIB },
      { type: BLOCK_STATUS, cookie: 4n, offset: 4096n, length: TIB },
      { type: BLOCK_STATUS, flags: PAYLOAD_LEN, cookie: 5n, length: 12n, payload: `${field(TIB, 8)} 00000000` },
    ]
    await clientSends(session, ...all.map(request))
    const read = asked(session)[1]?.cookie ?? 0n
    // Half of the READ has been answered, in the middle of a chunk.
    await answers(session, reply(DATA, read, TIB, `${field(TIB, 8)} 7172 7374`).subarray(0, 42))
    upstream.close(new Error('ECONNRESET'))
    await vi.advanceTimersByTimeAsync(1)
    await settled()
    // First the rest of the chunk that was cut, for ourselves.
    const [rest] = asked({ upstream: stream })
    expect(rest?.text).toBe(sent({ type: READ, offset: TIB + 2n, length: 2n }))
    stream.deliver(reply(DATA, rest?.cookie ?? 0n, TIB + 2n, `${field(TIB + 2n, 8)} 7374`))
    await settled()
    await nextTurn()
    const again = asked({ upstream: stream }).slice(1)
    const filtered = { type: BLOCK_STATUS, flags: PAYLOAD_LEN, length: 12n, payload: `${field(TIB, 8)} 00000009` }
    const expected = [0, 2, 3].map(at => sent(all[at] ?? { type: DISC }))
    expect(again.map(({ text }) => text)).toEqual([...expected, sent(filtered)])
    const [write = 0n, trim = 0n, status = 0n] = again.map(({ cookie }) => cookie)
    stream.deliver(
      reply(NONE, write, 5n),
      reply(STATUS_EXT, status, 4096n, '00000009 00000001 0000010000000000 0000000000000003'),
      reply(NONE, trim, 8n),
    )
    await settled()
    await nextTurn()
    const got = client.output.toString('hex')
    expect(got).toBe(
      Buffer.concat([
        reply(DATA, 2n, TIB, `${field(TIB, 8)} 7172 7374`),
        reply(NONE, 1n, 5n),
        reply(STATUS_EXT, 4n, 4096n, '00000000 00000001 0000010000000000 0000000000000003'),
        reply(NONE, 3n, 8n),
      ]).toString('hex'),
    )
    relay.stop('test')
  })
})
