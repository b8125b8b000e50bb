/** A relay whose upstream dies, between streams in the hands of a test. */
import { afterEach, describe, expect, it, vi } from 'vitest'
import type { FlushTimes } from '../../../src/relay/keep.ts'
import type { RelayEnd } from '../../../src/relay/relay-end.ts'
import type { RelayOptions } from '../../../src/relay/relay-options.ts'
import type { ResumeEvent, Way } from '../../../src/relay/resumer.ts'
import { UpstreamError } from '../../../src/upstreams/errors.ts'
import { everySplit, FakeStream, hex, nextTurn, settled } from '../../support/bytes.ts'
import { ALL_FLAGS, chunk, FLUSH, READ, request, simpleReply, TRIM, WRITE } from './messages.ts'
import { clientSends, cookieAt, type RelaySession, relaying, upstreamSends } from './session.ts'

const MULTI = 0x0100
const DONE = 1
const [DATA, NONE, STATUS, ERROR] = [1, 0, 5, 0x8001]
const BLOCK_STATUS = 7
const EIO = 5
const STRUCTURED = { structured: { client: true, upstream: true } }

interface Resumed extends RelaySession {
  readonly events: ResumeEvent[]
  /** What is dialled next; an error: nobody is there. */
  next: Way | Error
  dials: number
}

afterEach(() => {
  vi.useRealTimers()
})

const gone = (): Error => new UpstreamError('DIAL', 'no connection')

function resuming(
  options: Partial<RelayOptions> & { others?: readonly FlushTimes[]; replayBytes?: number } = {},
): Resumed {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
  const events: ResumeEvent[] = []
  const { others = [], replayBytes = 0, ...rest } = options
  const resume = {
    limitMs: 60_000,
    replayBytes,
    dial: async (): Promise<Way> => {
      session.dials++
      if (session.next instanceof Error) throw session.next
      return session.next
    },
    others: async () => others,
    tell: (event: ResumeEvent) => void events.push(event),
  }
  const session: Resumed = Object.assign(relaying({ ...rest, resume }), { events, next: gone(), dials: 0 })
  return session
}

/** The upstream dies; another is there at once. */
async function dies(session: Resumed, contextIds = new Map<number, number>()): Promise<FakeStream> {
  const stream = new FakeStream()
  session.next = { stream, contextIds }
  session.upstream.close(new Error('ECONNRESET'))
  await vi.advanceTimersByTimeAsync(1)
  await settled()
  await nextTurn()
  return stream
}

/** The new stream answers. */
async function sends(stream: FakeStream, ...chunks: readonly Buffer[]): Promise<void> {
  stream.deliver(...chunks)
  await settled()
  await nextTurn()
}

const write = (cookie: bigint, offset = 0n, flags = 0): Buffer =>
  request({ type: WRITE, cookie, offset, flags, length: 4, payload: '61626364' })
const flush = (cookie: bigint): Buffer => request({ type: FLUSH, cookie })
const ok = (cookie: string): Buffer => hex('67446698 00000000', cookie)
const kinds = ({ events }: Resumed): readonly string[] => events.map(({ kind }) => kind)

/** A WRITE of the client is acknowledged. */
async function writes(session: Resumed, stream: FakeStream, cookie: bigint, offset = 0n): Promise<void> {
  const at = stream.output.length
  await clientSends(session, write(cookie, offset))
  await sends(stream, simpleReply(stream.output.readBigUInt64BE(at + 8)))
}

describe('what was in flight', () => {
  it('is sent again in the order of the client, with its payloads, and answered once', async () => {
    const session = resuming()
    const all = [
      write(1n, 8n),
      request({ type: READ, cookie: 2n, length: 4 }),
      request({ type: TRIM, cookie: 3n, length: 9 }),
    ]
    await clientSends(session, ...all, flush(4n))
    await upstreamSends(session, simpleReply(cookieAt(session, 32), 0, '71727374'))
    const first = session.upstream.output
    const stream = await dies(session)
    expect(stream.output).toEqual(Buffer.concat([first.subarray(0, 32), first.subarray(60)]))
    await sends(stream, ...[0, 32, 60].map(at => simpleReply(stream.output.readBigUInt64BE(at + 8))))
    const answers = ['02', '01', '03', '04'].map(cookie => ok(`00000000000000${cookie}`))
    answers[0] = Buffer.concat([answers[0] ?? ok(''), hex('71727374')])
    expect(session.client.output).toEqual(Buffer.concat(answers))
    expect(session.events).toMatchObject([
      { kind: 'lost', inFlight: 3 },
      { kind: 'back', again: 3 },
    ])
  })

  it('has its chunk until it is answered, and gives it back then', async () => {
    const session = resuming()
    const bytes = Buffer.concat([write(1n), write(2n)])
    await clientSends(session, bytes)
    expect(session.client.released).toEqual([])
    const stream = await dies(session)
    expect(stream.output).toHaveLength(64)
    await sends(stream, simpleReply(stream.output.readBigUInt64BE(8)))
    expect(session.client.released).toEqual([])
    await sends(stream, simpleReply(stream.output.readBigUInt64BE(40)))
    expect(session.client.released).toEqual([bytes])
  })

  it('may be a WRITE that is half there, wherever it is cut: it goes on where it was', async () => {
    await everySplit(write(1n), async ([first, ...rest], how) => {
      if (first === undefined) return
      const session = resuming()
      await clientSends(session, first)
      const stream = await dies(session)
      await clientSends(session, ...rest)
      const { output } = stream
      expect(output.length, how).toBe(32)
      expect(output.subarray(28), how).toEqual(hex('61626364'))
      await sends(stream, simpleReply(output.readBigUInt64BE(8)))
      expect(session.client.output, how).toEqual(ok('0000000000000001'))
    })
  })

  it('is joined by what comes meanwhile', async () => {
    const session = resuming()
    session.upstream.close()
    await clientSends(session, write(1n), flush(2n))
    await vi.advanceTimersByTimeAsync(1)
    expect([session.dials, session.client.paused]).toEqual([1, false])
    const stream = new FakeStream()
    session.next = { stream, contextIds: new Map() }
    await vi.advanceTimersByTimeAsync(150)
    await settled()
    expect(stream.output).toHaveLength(60)
    expect(stream.output.subarray(28, 32)).toEqual(hex('61626364'))
  })

  it('is dropped where its payload is refused while the upstream is away', async () => {
    const session = resuming()
    await clientSends(session, write(1n), write(2n, 1n << 30n).subarray(0, 30))
    const stream = await dies(session)
    await clientSends(session, write(2n, 1n << 30n).subarray(30), flush(3n))
    expect(stream.output).toHaveLength(60)
    expect(stream.output.readUInt16BE(38)).toBe(FLUSH)
  })

  it('holds the client back above 8 MiB of what is whole, and never in the middle of one', async () => {
    const session = resuming({ sizeBytes: 1n << 30n })
    const piece = 1 << 20
    const large = (cookie: bigint, length: number) =>
      Buffer.concat([request({ type: WRITE, cookie, length }), Buffer.alloc(length)])
    await clientSends(session, large(1n, 8 * piece))
    expect(session.client.paused).toBe(true)
    await upstreamSends(session, simpleReply(cookieAt(session, 0)))
    expect(session.client.paused).toBe(false)
    const longest = large(2n, 32 * piece)
    const pieces = Array.from({ length: 33 }, (_, index) => longest.subarray(index * piece, (index + 1) * piece))
    for (const each of pieces) {
      expect(session.client.paused).toBe(false)
      await clientSends(session, each)
    }
    expect(session.client.paused).toBe(true)
    await upstreamSends(session, simpleReply(cookieAt(session, 28 + 8 * piece)))
    expect(session.client.paused).toBe(false)
  })
})

describe('a reply that was cut', () => {
  const whole = simpleReply(1n, 0, '6162636465666768')

  it('as a simple one is completed to the byte from another connection, before anything else', async () => {
    for (let cut = 17; cut < 24; cut++) {
      const session = resuming()
      await clientSends(session, request({ type: READ, cookie: 1n, offset: 100n, length: 8 }), flush(2n))
      const reply = simpleReply(cookieAt(session, 0), 0, '6162636465666768')
      await upstreamSends(session, reply.subarray(0, cut))
      const stream = await dies(session)
      expect(stream.output.readBigUInt64BE(16), `cut at ${cut}`).toBe(100n + BigInt(cut - 16))
      expect(stream.output.readUInt32BE(24)).toBe(24 - cut)
      await sends(stream, Buffer.concat([simpleReply(stream.output.readBigUInt64BE(8)), whole.subarray(cut)]))
      expect(session.client.output, `cut at ${cut}`).toEqual(whole)
      await sends(stream, simpleReply(stream.output.readBigUInt64BE(36)))
      expect(session.client.output.subarray(24)).toEqual(ok('0000000000000002'))
    }
  })

  it('in its head is not there yet', async () => {
    const session = resuming()
    await clientSends(session, request({ type: READ, cookie: 1n, length: 8 }))
    const reply = simpleReply(cookieAt(session, 0), 0, '6162636465666768')
    await upstreamSends(session, reply.subarray(0, 10))
    const stream = await dies(session)
    await sends(stream, reply)
    expect(session.client.output).toEqual(whole)
  })

  it('is tried again where the rest can not be read', async () => {
    const session = resuming()
    await clientSends(session, request({ type: READ, cookie: 1n, length: 8 }))
    await upstreamSends(session, simpleReply(cookieAt(session, 0), 0, '6162636465666768').subarray(0, 20))
    const broken = await dies(session)
    await sends(broken, simpleReply(broken.output.readBigUInt64BE(8), EIO))
    expect([broken.destroyed, kinds(session)]).toEqual([true, ['lost', 'failed']])
    const stream = new FakeStream()
    session.next = { stream, contextIds: new Map() }
    await vi.advanceTimersByTimeAsync(200)
    await sends(stream, Buffer.concat([simpleReply(4n, 0, '65666768')]))
    expect(session.client.output).toEqual(whole)
  })
})

describe('structured replies', () => {
  const data = (cookie: bigint, offset: string, payload: string, flags = 0): Buffer =>
    chunk({ type: DATA, flags, cookie, payload: `${offset}${payload}` })
  const READ_8 = request({ type: READ, cookie: 1n, offset: 16n, length: 8 })

  it('go on at the chunk, with nothing sent twice', async () => {
    const session = resuming(STRUCTURED)
    await clientSends(session, Buffer.from(READ_8))
    const first = data(cookieAt(session, 0), '0000000000000010', '616263')
    await upstreamSends(session, Buffer.from(first))
    const stream = await dies(session)
    expect(stream.output.subarray(16)).toEqual(hex('0000000000000013 00000005'))
    const cookie = stream.output.readBigUInt64BE(8)
    await sends(stream, data(cookie, '0000000000000013', '6465666768', DONE))
    expect(session.client.output).toEqual(
      Buffer.concat([data(1n, '0000000000000010', '616263'), data(1n, '0000000000000013', '6465666768', DONE)]),
    )
    expect(session.relay.inFlight).toBe(0)
  })

  it('that came out of order are asked for gap by gap', async () => {
    const session = resuming(STRUCTURED)
    await clientSends(session, Buffer.from(READ_8))
    await upstreamSends(session, data(cookieAt(session, 0), '0000000000000012', '6363'))
    const stream = await dies(session)
    const cookie = stream.output.readBigUInt64BE(8)
    expect(stream.output.subarray(16)).toEqual(hex('0000000000000010 00000002'))
    await sends(stream, data(cookie, '0000000000000010', '6161', DONE))
    expect(stream.output.subarray(28 + 16)).toEqual(hex('0000000000000014 00000004'))
    await sends(stream, data(cookie, '0000000000000014', '65656565'), chunk({ type: NONE, flags: DONE, cookie }))
    expect(session.client.output).toEqual(
      Buffer.concat([
        data(1n, '0000000000000012', '6363'),
        data(1n, '0000000000000010', '6161'),
        data(1n, '0000000000000014', '65656565'),
        chunk({ type: NONE, flags: DONE, cookie: 1n }),
      ]),
    )
    expect(session.relay.inFlight).toBe(0)
  })

  it('are cut in a chunk: its rest has the length that its head has promised', async () => {
    const session = resuming(STRUCTURED)
    await clientSends(session, Buffer.from(READ_8))
    const passes = data(cookieAt(session, 0), '0000000000000010', '6162636465666768', DONE)
    await upstreamSends(session, passes.subarray(0, 31))
    const stream = await dies(session)
    expect(stream.output.subarray(16)).toEqual(hex('0000000000000013 00000005'))
    await sends(stream, data(0x13n, '0000000000000013', '6465666768', DONE))
    expect(session.client.output).toEqual(data(1n, '0000000000000010', '6162636465666768', DONE))
    expect(session.relay.inFlight).toBe(0)
  })

  it('of which only the end is missing are ended here', async () => {
    const ends = chunk({ type: NONE, flags: DONE, cookie: 1n })
    for (const told of [
      (cookie: bigint) => data(cookie, '0000000000000010', '6162636465666768'),
      (cookie: bigint) => chunk({ type: ERROR, cookie, payload: '00000005 0000' }),
    ]) {
      const session = resuming(STRUCTURED)
      await clientSends(session, Buffer.from(READ_8))
      await upstreamSends(session, told(cookieAt(session, 0)))
      const stream = await dies(session)
      expect(stream.output).toHaveLength(0)
      expect(session.client.output).toEqual(Buffer.concat([told(1n), ends]))
    }
  })

  it('of BLOCK_STATUS tell each context once, under the ids that the client knows', async () => {
    const before = new Map([
      [7, 0],
      [9, 1],
    ])
    const session = resuming({ ...STRUCTURED, contextIds: before })
    await clientSends(session, request({ type: BLOCK_STATUS, cookie: 1n, length: 8 }))
    const status = (cookie: bigint, id: number, flags: number): Buffer =>
      chunk({ type: STATUS, flags, cookie, payload: `0000000${id} 00000008 00000000` })
    await upstreamSends(
      session,
      status(cookieAt(session, 0), 9, 0),
      status(cookieAt(session, 0), 7, DONE).subarray(0, 27),
    )
    const stream = await dies(
      session,
      new Map([
        [3, 0],
        [4, 1],
      ]),
    )
    const cookie = stream.output.readBigUInt64BE(8)
    await sends(stream, status(cookie, 3, 0), status(cookie, 4, DONE))
    expect(session.client.output).toEqual(
      Buffer.concat([status(1n, 1, 0), status(1n, 0, 0), chunk({ type: NONE, flags: DONE, cookie: 1n })]),
    )
    expect(session.relay.inFlight).toBe(0)
  })
})

describe('FLUSH', () => {
  const answers = async (session: Resumed, stream: FakeStream): Promise<number> => {
    const [at, from] = [stream.output.length, session.client.output.length]
    await clientSends(session, flush(9n))
    if (stream.output.length > at) await sends(stream, simpleReply(stream.output.readBigUInt64BE(at + 8)))
    return session.client.output.readUInt32BE(from + 4)
  }

  it('fails once for what was acknowledged and not flushed', async () => {
    const session = resuming()
    await writes(session, session.upstream, 1n)
    const stream = await dies(session)
    expect([await answers(session, stream), await answers(session, stream)]).toEqual([EIO, 0])
    expect(session.events.at(-1)).toEqual({ kind: 'writes lost', bytes: 4, ranges: 1 })
  })

  it('does not fail where nothing was written, all was flushed or written through', async () => {
    const session = resuming()
    expect(await answers(session, await dies(session))).toBe(0)
    const flushed = resuming()
    await writes(flushed, flushed.upstream, 1n)
    expect(await answers(flushed, flushed.upstream)).toBe(0)
    expect(await answers(flushed, await dies(flushed))).toBe(0)
    const through = resuming()
    await clientSends(through, write(1n, 0n, 1))
    await upstreamSends(through, simpleReply(cookieAt(through, 0)))
    expect(await answers(through, await dies(through))).toBe(0)
    expect([...kinds(session), ...kinds(flushed), ...kinds(through)]).not.toContain('writes lost')
  })

  it('covers what was acknowledged before it was sent, and nothing later', async () => {
    const session = resuming()
    await writes(session, session.upstream, 1n)
    await clientSends(session, flush(2n), write(3n, 4096n))
    await upstreamSends(session, simpleReply(cookieAt(session, 60)), simpleReply(cookieAt(session, 32)))
    const stream = await dies(session)
    expect([await answers(session, stream), await answers(session, stream)]).toEqual([EIO, 0])
    expect(session.events.at(-1)).toEqual({ kind: 'writes lost', bytes: 4, ranges: 1 })
  })

  it('that was out when the upstream died fails itself, and no other', async () => {
    const session = resuming()
    await writes(session, session.upstream, 1n)
    await clientSends(session, flush(2n))
    const stream = await dies(session)
    expect(stream.output).toHaveLength(0)
    expect(session.client.output.subarray(16)).toEqual(hex('67446698 00000005 0000000000000002'))
    expect(await answers(session, stream)).toBe(0)
  })

  it('has a WRITE with FUA fail in its place, which is not sent', async () => {
    const session = resuming()
    await writes(session, session.upstream, 1n)
    const stream = await dies(session)
    await clientSends(session, write(2n, 0n, 1))
    expect(stream.output).toHaveLength(0)
    expect(session.client.output.subarray(16)).toEqual(hex('67446698 00000005 0000000000000002'))
    expect(await answers(session, stream)).toBe(0)
  })

  it('succeeds after what was kept has been written again, in order and before anything else', async () => {
    const session = resuming({ replayBytes: 1000 })
    for (const offset of [0n, 4n, 2n]) await writes(session, session.upstream, 1n, offset)
    await clientSends(session, request({ type: READ, cookie: 5n, length: 4 }))
    const stream = await dies(session)
    expect([0, 32].map(at => stream.output.readBigUInt64BE(at + 16))).toEqual([0n, 4n])
    expect(stream.output).toHaveLength(64)
    await sends(stream, simpleReply(1n), simpleReply(0n))
    expect(stream.output.readBigUInt64BE(64 + 16)).toBe(2n)
    await sends(stream, simpleReply(0n))
    expect(stream.output).toHaveLength(96 + 28)
    expect(await answers(session, stream)).toBe(0)
    expect(session.events.at(-1)).toMatchObject({ kind: 'back', again: 1, replayed: 3 })
  })

  it('fails where another connection is about to write: nothing is made again over its writes', async () => {
    const session = resuming({ replayBytes: 1000 })
    await writes(session, session.upstream, 1n)
    await session.relay.settled()
    const stream = await dies(session)
    expect([stream.output.length, await answers(session, stream)]).toEqual([0, EIO])
  })

  it('is not waited for by who stops the session: what is being made again ends with it', async () => {
    const session = resuming({ replayBytes: 1000 })
    for (const offset of [0n, 0n]) await writes(session, session.upstream, 1n, offset)
    const stream = await dies(session)
    expect(stream.output).toHaveLength(32)
    session.relay.retire('no longer allowed')
    expect(await session.end).toEqual({ kind: 'stopped', reason: 'no longer allowed' })
    await sends(stream, simpleReply(0n))
    expect([stream.destroyed, stream.output.length]).toEqual([true, 32])
  })

  it('fails where more was written than may be kept, or it can not be written again', async () => {
    const session = resuming({ replayBytes: 40 })
    for (const offset of [0n, 4n]) await writes(session, session.upstream, 1n, offset)
    expect(await answers(session, await dies(session))).toBe(EIO)
    const full = resuming({ replayBytes: 1000 })
    await writes(full, full.upstream, 1n)
    const stream = await dies(full)
    await sends(stream, simpleReply(0n, 28))
    expect(await answers(full, stream)).toBe(EIO)
  })

  it('fails for what another connection has lost that it flushes for, and not for what was flushed since', async () => {
    const now = performance.timeOrigin
    expect(now).toBeGreaterThan(0)
    const { commonMs } = await import('../../../src/relay/keep.ts')
    for (const [times, error] of [
      [{ ackedMs: 5, flushedMs: 0, backMs: -9, lostMs: 0 }, EIO],
      [{ ackedMs: 5, flushedMs: 6, backMs: -9, lostMs: 0 }, 0],
      [{ ackedMs: 0, flushedMs: 9, backMs: -9, lostMs: 5 }, EIO],
      [{ ackedMs: -5, flushedMs: 0, backMs: -9, lostMs: -5 }, 0],
      // The server has died after 10 ms: handed on later, by a process that had to wait; and told by the next server.
      [{ ackedMs: 15, flushedMs: 0, backMs: -9, lostMs: 0 }, EIO],
      [{ ackedMs: 15, flushedMs: 0, backMs: 12, lostMs: 0 }, 0],
      [{ ackedMs: 15, flushedMs: 14, backMs: 12, lostMs: 5 }, EIO],
    ] as const) {
      const others: FlushTimes[] = []
      const session = resuming({ flags: ALL_FLAGS | MULTI, others })
      const base = commonMs()
      await vi.advanceTimersByTimeAsync(10)
      const at = (ms: number): number => (ms === 0 ? 0 : base + ms)
      const { ackedMs, flushedMs, backMs, lostMs } = times
      others.push({ ackedMs: at(ackedMs), flushedMs: at(flushedMs), backMs: at(backMs), lostMs: at(lostMs) })
      const stream = await dies(session)
      expect([await answers(session, stream), await answers(session, stream)], JSON.stringify(times)).toEqual([
        error,
        0,
      ])
    }
  })
})

describe('an upstream that stays away', () => {
  it('is dialled at once, then after 100 ms, growing to 5 s, for as long as it was said', async () => {
    const session = resuming()
    session.upstream.close()
    await vi.advanceTimersByTimeAsync(1)
    expect(session.dials).toBe(1)
    await vi.advanceTimersByTimeAsync(98)
    expect(session.dials).toBe(1)
    await vi.advanceTimersByTimeAsync(2)
    expect(session.dials).toBe(2)
    await vi.advanceTimersByTimeAsync(59_898)
    expect(session.dials).toBeGreaterThan(20)
    expect(session.dials).toBeLessThan(40)
    expect(kinds(session)).not.toContain('given up')
    await vi.advanceTimersByTimeAsync(2)
    expect(kinds(session).at(-1)).toBe('given up')
  })

  it('has all fail with ESHUTDOWN then, what is in flight and what comes, until the end five seconds later', async () => {
    const session = resuming(STRUCTURED)
    await clientSends(session, request({ type: READ, cookie: 1n, length: 4 }), write(2n).subarray(0, 30))
    session.upstream.close()
    await vi.advanceTimersByTimeAsync(60_001)
    const text = '7468652067617465776179206973207368757474696e6720646f776e' // the gateway is shutting down
    const refused = hex(
      '668e33ef 0001 8001 0000000000000001 00000022 0000006c 001c',
      text,
      '668e33ef 0001 8001 0000000000000002 00000022 0000006c 001c',
      text,
    )
    expect(session.client.output).toEqual(refused)
    await clientSends(session, Buffer.concat([write(2n).subarray(30), flush(3n)]))
    const last = hex('668e33ef 0001 8001 0000000000000003 00000022 0000006c 001c', text)
    expect(session.client.output.subarray(refused.length)).toEqual(last)
    expect(session.client.ended).toBe(false)
    await vi.advanceTimersByTimeAsync(5000)
    expect(session.client.ended).toBe(true)
    session.client.peerEnds()
    expect(await session.end).toMatchObject({ kind: 'upstream gone' })
  })

  it('ends the session in the middle of a reply, where there is nothing to say', async () => {
    const session = resuming()
    await clientSends(session, request({ type: READ, cookie: 1n, length: 4 }))
    await upstreamSends(session, simpleReply(cookieAt(session, 0), 0, '6161'))
    session.upstream.close()
    await vi.advanceTimersByTimeAsync(60_001)
    expect([session.client.ended, session.client.output.length]).toEqual([true, 18])
  })

  it('does not keep a session that is to end, and is not dialled any more', async () => {
    for (const how of ['retire', 'stop'] as const) {
      const session = resuming()
      await clientSends(session, write(1n))
      session.upstream.close()
      await vi.advanceTimersByTimeAsync(1)
      session.relay[how]('no longer allowed')
      const end: RelayEnd = await session.end
      expect(end).toEqual({ kind: 'stopped', reason: 'no longer allowed' })
      const { dials } = session
      await vi.advanceTimersByTimeAsync(60_000)
      expect([session.dials, vi.getTimerCount()]).toEqual([dials, 0])
    }
  })

  it('is not waited for by a client that has gone, and closes what is dialled for it', async () => {
    const session = resuming()
    await clientSends(session, write(1n))
    const stream = new FakeStream()
    let dialled = (_: Way): void => {}
    session.next = gone()
    session.upstream.close()
    await vi.advanceTimersByTimeAsync(1)
    Object.defineProperty(session, 'next', { get: () => new Promise<Way>(resolve => (dialled = resolve)) })
    await vi.advanceTimersByTimeAsync(100)
    session.client.close()
    expect((await session.end).kind).toBe('client gone')
    dialled({ stream, contextIds: new Map() })
    await settled()
    expect([stream.destroyed, stream.output.length]).toEqual([true, 0])
  })

  it('keeps writes from being settled', async () => {
    const session = resuming()
    await clientSends(session, write(1n))
    let isSettled = false
    const told = session.relay.settled().then(() => (isSettled = true))
    await nextTurn()
    await nextTurn()
    const stream = await dies(session)
    await nextTurn()
    expect(isSettled).toBe(false)
    await sends(stream, simpleReply(stream.output.readBigUInt64BE(8)))
    await told
    expect(isSettled).toBe(true)
  })

  it('that dies again and again is one outage', async () => {
    const session = resuming()
    await clientSends(session, write(1n))
    session.upstream.close()
    for (let ms = 0; ms < 61_000 && !kinds(session).includes('given up'); ms += 50) {
      const stream = new FakeStream()
      session.next = { stream, contextIds: new Map() }
      await vi.advanceTimersByTimeAsync(50)
      stream.close()
      await settled()
    }
    expect(kinds(session).at(-1)).toBe('given up')
    expect(session.dials).toBeLessThan(60)
  })
})
