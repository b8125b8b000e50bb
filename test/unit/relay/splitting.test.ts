/** Requests that are too long for the upstream: they go out in parts, and what comes back is what one request would have brought. */
import fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import { ProtocolError } from '../../../src/protocol/errors.ts'
import { Relay } from '../../../src/relay/relay.ts'
import { SessionMemory } from '../../../src/relay/session-memory.ts'
import { splittingStream } from '../../../src/relay/splitting-stream.ts'
import { Throttle } from '../../../src/relay/throttle.ts'
import { Memory } from '../../../src/stream/memory.ts'
import type { GatedStream } from '../../../src/stream/write-gate.ts'
import { FakeStream, hex, nextTurn, settled } from '../../support/bytes.ts'
import { ALL_FLAGS, chunk, FLUSH, READ, request, simpleReply, WRITE } from './messages.ts'

const PART = 16
const DF = 4
const DATA = 1
const HOLE = 2
const NONE = 0
const ERROR = 0x8001
const DONE = 1

class Gated extends FakeStream {
  gate(): void {}
}

interface Seen {
  readonly stream: GatedStream
  readonly inner: Gated
  readonly got: () => Buffer
  readonly end: () => Error | undefined | 'none'
}

function splitting(structured = false, partBytes = PART, memory = new SessionMemory().joined): Seen {
  const inner = new Gated()
  const stream = splittingStream(inner, { partBytes, structured, memory })
  const pieces: Buffer[] = []
  let end: Error | undefined | 'none' = 'none'
  stream.start({
    data: piece => {
      pieces.push(Buffer.from(piece))
      stream.release(piece)
    },
    ended: () => {},
    closed: error => {
      end = error
    },
    drained: () => {},
  })
  return { stream, inner, got: () => Buffer.concat(pieces), end: () => end }
}

interface Asked {
  readonly type: number
  readonly flags: number
  readonly cookie: bigint
  readonly offset: bigint
  readonly length: number
  readonly payload: Buffer
}

/** The requests in what was sent. */
function requestsIn(bytes: Buffer): Asked[] {
  const all: Asked[] = []
  for (let at = 0; at < bytes.length; ) {
    expect(bytes.subarray(at, at + 4)).toEqual(hex('25609513'))
    const [type, length] = [bytes.readUInt16BE(at + 6), bytes.readUInt32BE(at + 24)]
    const size = type === WRITE ? length : 0
    const head = { type, flags: bytes.readUInt16BE(at + 4), cookie: bytes.readBigUInt64BE(at + 8), length }
    all.push({ ...head, offset: bytes.readBigUInt64BE(at + 16), payload: bytes.subarray(at + 28, at + 28 + size) })
    at += 28 + size
  }
  return all
}

const disk = Buffer.from(Array.from({ length: 512 }, (_, at) => (at * 7 + 3) & 0xff))
const dataAt = ({ offset, length }: Asked): string =>
  disk.subarray(Number(offset), Number(offset) + length).toString('hex')
const place = (offset: bigint): string => offset.toString(16).padStart(16, '0')

async function answered(seen: Seen, ...replies: readonly Buffer[]): Promise<Buffer> {
  seen.inner.deliver(...replies)
  await settled()
  return seen.got()
}

describe('requests that the upstream takes', () => {
  it('pass whole, and their replies as the memory that they came in', async () => {
    const seen = splitting()
    seen.stream.write(request({ type: READ, cookie: 77n, length: PART }))
    const [asked] = requestsIn(seen.inner.output)
    const reply = simpleReply(asked?.cookie ?? 0n, 0, '61'.repeat(PART))
    expect(await answered(seen, reply)).toEqual(simpleReply(77n, 0, '61'.repeat(PART)))
    expect(seen.inner.released).toEqual([reply])
  })

  it('tell of what was written that it has left, also when nothing goes out', async () => {
    const seen = splitting(false)
    let told = 0
    for (let n = 0; n < 80; n++) seen.stream.write(request({ type: READ, length: 100_000 }), () => told++)
    seen.inner.flush()
    await settled()
    expect(told).toBe(80)
  })
})

describe('a long WRITE', () => {
  it('goes out in parts with its flags, as its payload comes, and is answered once, when all parts are', async () => {
    const seen = splitting()
    const payload = disk.subarray(0, 40)
    const sent = request({
      type: WRITE,
      flags: 1,
      cookie: 9n,
      offset: 64n,
      length: 40,
      payload: payload.toString('hex'),
    })
    for (const byte of Buffer.concat([sent, request({ type: FLUSH, cookie: 10n })]))
      seen.stream.write(Buffer.from([byte]))
    const all = requestsIn(seen.inner.output)
    expect(all.map(({ type, flags, offset, length }) => [type, flags, offset, length])).toEqual([
      [WRITE, 1, 64n, 16],
      [WRITE, 1, 80n, 16],
      [WRITE, 1, 96n, 8],
      [FLUSH, 0, 0n, 0],
    ])
    expect(Buffer.concat(all.map(each => each.payload))).toEqual(payload)
    const [first, second, third, flush] = all.map(each => simpleReply(each.cookie))
    if (first === undefined || second === undefined || third === undefined || flush === undefined)
      throw new Error('four')
    expect(await answered(seen, third, first)).toHaveLength(0)
    expect(await answered(seen, flush)).toEqual(simpleReply(10n))
    expect(await answered(seen, second)).toEqual(Buffer.concat([simpleReply(10n), simpleReply(9n)]))
  })

  it('has failed when one of its parts has, with the error that came first', async () => {
    for (const structured of [false, true]) {
      const seen = splitting(structured)
      seen.stream.write(request({ type: WRITE, cookie: 9n, length: 40, payload: '61'.repeat(40) }))
      const [a, b, c] = requestsIn(seen.inner.output).map(({ cookie }) => cookie)
      const no = (cookie = 0n, error = '0000001c') =>
        structured
          ? chunk({ type: ERROR, flags: DONE, cookie, payload: `${error} 0002 6e6f` })
          : simpleReply(cookie, Number(`0x${error}`))
      expect(await answered(seen, no(b), simpleReply(a ?? 0n), no(c, '00000005'))).toEqual(simpleReply(9n, 28))
    }
  })
})

describe('a long READ', () => {
  const asks = (seen: Seen, flags = 0): readonly Asked[] => {
    seen.stream.write(request({ type: READ, flags, cookie: 9n, offset: 32n, length: 40 }))
    return requestsIn(seen.inner.output)
  }
  const whole = disk.subarray(32, 72).toString('hex')

  it('is one simple reply, in whatever order its parts are answered', async () => {
    const seen = splitting()
    const parts = asks(seen)
    expect(parts.map(({ offset, length }) => [offset, length])).toEqual([
      [32n, 16],
      [48n, 16],
      [64n, 8],
    ])
    const replies = [...parts].reverse().map(part => simpleReply(part.cookie, 0, dataAt(part)))
    expect(await answered(seen, Buffer.concat(replies))).toEqual(simpleReply(9n, 0, whole))
  })

  it('is an error without data when a part has failed, whatever the others bring', async () => {
    const seen = splitting()
    const [a, b, c] = asks(seen)
    if (a === undefined || b === undefined || c === undefined) throw new Error('three')
    await answered(seen, simpleReply(a.cookie, 0, dataAt(a)), simpleReply(b.cookie, 5))
    expect(await answered(seen, simpleReply(c.cookie, 0, dataAt(c)))).toEqual(simpleReply(9n, 5))
  })

  it('passes chunk by chunk where it may have many, with DONE on the last alone and one error at most', async () => {
    const seen = splitting(true)
    const [a, b, c] = asks(seen)
    if (a === undefined || b === undefined || c === undefined) throw new Error('three')
    const error = (cookie: bigint) => chunk({ type: ERROR, flags: DONE, cookie, payload: '00000005 0002 6e6f' })
    const got = await answered(
      seen,
      chunk({ type: DATA, cookie: b.cookie, payload: place(48n) + dataAt(b) }),
      chunk({ type: HOLE, flags: DONE, cookie: a.cookie, payload: `${place(32n)} 00000010` }),
      chunk({ type: NONE, flags: DONE, cookie: b.cookie }),
      error(c.cookie),
    )
    expect(got).toEqual(
      Buffer.concat([
        chunk({ type: DATA, cookie: 9n, payload: place(48n) + dataAt(b) }),
        chunk({ type: HOLE, cookie: 9n, payload: `${place(32n)} 00000010` }),
        error(9n),
      ]),
    )
    const twice = splitting(true)
    const cookies = asks(twice).map(({ cookie }) => cookie)
    const expected = [
      chunk({ type: ERROR, cookie: 9n, payload: '00000005 0002 6e6f' }),
      chunk({ type: NONE, flags: DONE, cookie: 9n }),
    ]
    expect(await answered(twice, ...cookies.map(error))).toEqual(Buffer.concat(expected))
  })

  it('with DF is one chunk: data, with zeroes for holes, or an error', async () => {
    const seen = splitting(true)
    const parts = asks(seen, DF)
    expect(parts.map(({ flags }) => flags)).toEqual([DF, DF, DF])
    const [a, b, c] = parts
    if (a === undefined || b === undefined || c === undefined) throw new Error('three')
    const data = (part: Asked) =>
      chunk({ type: DATA, flags: DONE, cookie: part.cookie, payload: place(part.offset) + dataAt(part) })
    const hole = chunk({ type: HOLE, flags: DONE, cookie: b.cookie, payload: `${place(48n)} 00000010` })
    const wanted = place(32n) + dataAt(a) + '00'.repeat(16) + dataAt(c)
    expect(await answered(seen, data(c), hole, data(a))).toEqual(
      chunk({ type: DATA, flags: DONE, cookie: 9n, payload: wanted }),
    )
    const bad = splitting(true)
    const [d, e, f] = asks(bad, DF)
    if (d === undefined || e === undefined || f === undefined) throw new Error('three')
    const no = chunk({ type: ERROR, flags: DONE, cookie: e.cookie, payload: '00000005 0002 6e6f' })
    expect(await answered(bad, data(d), no, data(f))).toEqual(
      chunk({ type: ERROR, flags: DONE, cookie: 9n, payload: '00000005 0000' }),
    )
  })

  it('is not asked for in more than 256 parts at once, nor put together with more than 64 MiB of others', async () => {
    const seen = splitting()
    seen.stream.write(request({ type: READ, cookie: 1n, length: 300 * PART }))
    expect(requestsIn(seen.inner.output)).toHaveLength(256)
    const first = requestsIn(seen.inner.output)[0]
    await answered(seen, simpleReply(first?.cookie ?? 0n, 0, '61'.repeat(PART)))
    expect(requestsIn(seen.inner.output)).toHaveLength(257)
    const large = splitting(false, 1 << 24)
    for (let n = 0n; n < 3n; n++) large.stream.write(request({ type: READ, cookie: n, length: 1 << 25 }))
    expect(requestsIn(large.inner.output)).toHaveLength(4)
    const two = requestsIn(large.inner.output).slice(0, 2)
    await answered(large, ...two.map(({ cookie }) => simpleReply(cookie, 5)))
    expect(requestsIn(large.inner.output)).toHaveLength(6)
  })

  it('is put together alone while the memory of all is spent, and takes none once the stream has closed', async () => {
    const all = new Memory(1 << 20)
    const seen = splitting(false, PART, new SessionMemory(all).joined)
    new SessionMemory(all).requests.hold(2 << 20)
    const lengths = [20, 9000]
    for (const length of lengths) seen.stream.write(request({ type: READ, length: length * PART }))
    expect(requestsIn(seen.inner.output)).toHaveLength(20)
    expect(all.heldBytes).toBe((2 << 20) + 20 * PART)
    const first = requestsIn(seen.inner.output).map(({ cookie }) => simpleReply(cookie, 0, '61'.repeat(PART)))
    await answered(seen, Buffer.concat(first))
    expect(all.heldBytes).toBe((2 << 20) + 9000 * PART)
    expect(requestsIn(seen.inner.output)).toHaveLength(20 + 256)
    seen.inner.close()
    expect(all.heldBytes).toBe(2 << 20)
  })
})

describe('an upstream that breaks the protocol', () => {
  it.each([
    ['answers what was not asked', false, () => simpleReply(99n)],
    ['has another magic', false, () => hex('deadbeef', '00'.repeat(12))],
    ['sends chunks that were not negotiated', false, (cookie: bigint) => chunk({ type: NONE, flags: DONE, cookie })],
    ['answers a READ by a simple reply', true, (cookie: bigint) => simpleReply(cookie, 5)],
    [
      'sends data for another part',
      true,
      (cookie: bigint) => chunk({ type: DATA, flags: DONE, cookie, payload: place(48n) + '61'.repeat(16) }),
    ],
    [
      'sends too little in its one chunk',
      true,
      (cookie: bigint) => chunk({ type: DATA, flags: DONE, cookie, payload: place(32n) + '61'.repeat(15) }),
    ],
    [
      'sends two chunks for one',
      true,
      (cookie: bigint) => chunk({ type: DATA, cookie, payload: place(32n) + '61'.repeat(16) }),
    ],
    ['ends without its chunk', true, (cookie: bigint) => chunk({ type: NONE, flags: DONE, cookie })],
    [
      'has an error that is none',
      true,
      (cookie: bigint) => chunk({ type: ERROR, flags: DONE, cookie, payload: '00000000 0000' }),
    ],
    [
      'has an error without room for one',
      true,
      (cookie: bigint) => chunk({ type: ERROR, flags: DONE, cookie, payload: '0000' }),
    ],
    ['sends status for data', true, (cookie: bigint) => chunk({ type: 5, flags: DONE, cookie, payload: '00' })],
  ] as const)('%s', async (_how, structured, reply) => {
    const seen = splitting(structured)
    seen.stream.write(request({ type: READ, flags: DF, cookie: 9n, offset: 32n, length: 40 }))
    await answered(seen, reply(requestsIn(seen.inner.output)[0]?.cookie ?? 0n))
    expect(seen.end()).toBeInstanceOf(ProtocolError)
    expect(seen.inner.destroyed).toBe(true)
    expect(seen.got()).toHaveLength(0)
  })
})

describe('a relay over one', () => {
  const split = (): { inner: Gated; stream: GatedStream } => {
    const inner = new Gated()
    const memory = new SessionMemory().joined
    return { inner, stream: splittingStream(inner, { partBytes: PART, structured: false, memory }) }
  }
  const start = (next: GatedStream) => {
    const [client, first] = [new FakeStream(), split()]
    const relay = new Relay({
      client,
      upstream: first.stream,
      sizeBytes: 1n << 20n,
      flags: ALL_FLAGS,
      structured: { client: false, upstream: false },
      early: Buffer.alloc(0),
      throttle: new Throttle(),
      memory: new SessionMemory(),
      resume: {
        limitMs: 60_000,
        replayBytes: 0,
        dial: async () => ({ stream: next, contextIds: new Map() }),
        tell: () => {},
      },
    })
    return { client, first: first.inner, relay, end: relay.run() }
  }
  const turns = async (): Promise<void> => {
    for (let n = 0; n < 5; n++) {
      await settled()
      await nextTurn()
    }
  }

  it('goes on over another connection with what was half asked and half answered', async () => {
    const second = split()
    const { client, first, relay, end } = start(second.stream)
    const payload = disk.subarray(0, 40).toString('hex')
    const sent = request({ type: WRITE, cookie: 8n, length: 40, payload })
    client.deliver(request({ type: READ, cookie: 7n, offset: 32n, length: 40 }), sent.subarray(0, 50))
    await turns()
    const [read] = requestsIn(first.output.subarray(0, 28))
    if (read === undefined) throw new Error('a READ')
    first.deliver(simpleReply(read.cookie, 0, dataAt(read)))
    await turns()
    first.close(new Error('ECONNRESET'))
    await vi.waitFor(() => expect(second.inner.output.length).toBeGreaterThan(0))
    client.deliver(sent.subarray(50))
    await turns()
    const again = requestsIn(second.inner.output)
    expect(again.map(({ type, offset, length }) => [type, offset, length])).toEqual([
      [READ, 32n, 16],
      [READ, 48n, 16],
      [READ, 64n, 8],
      [WRITE, 0n, 16],
      [WRITE, 16n, 16],
      [WRITE, 32n, 8],
    ])
    expect(Buffer.concat(again.map(each => each.payload)).toString('hex')).toBe(payload)
    second.inner.deliver(...again.map(each => simpleReply(each.cookie, 0, each.type === READ ? dataAt(each) : '')))
    await turns()
    expect(client.output).toEqual(
      Buffer.concat([simpleReply(7n, 0, disk.subarray(32, 72).toString('hex')), simpleReply(8n)]),
    )
    relay.stop('test')
    await end
  })

  it('ends, and dials no more, when the upstream breaks the protocol', async () => {
    const second = split()
    const { client, first, end } = start(second.stream)
    client.deliver(request({ type: READ, cookie: 7n, offset: 32n, length: 40 }))
    await turns()
    first.deliver(simpleReply(99n))
    await turns()
    client.peerEnds()
    expect(await end).toMatchObject({ kind: 'violation', side: 'upstream', error: { code: 'UNKNOWN_COOKIE' } })
    expect(second.inner.output).toHaveLength(0)
  })
})

describe('whatever is asked, and however it is cut and answered', () => {
  const asked = fc.record({
    type: fc.constantFrom(READ, WRITE, FLUSH),
    flags: fc.constantFrom(0, DF),
    offset: fc.nat(255),
    length: fc.integer({ min: 1, max: 200 }),
  })
  const cuts = fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 12 })

  const cut = (bytes: Buffer, sizes: readonly number[]): Buffer[] => {
    const pieces: Buffer[] = []
    for (let [at, n] = [0, 0]; at < bytes.length; n++) {
      const size = sizes[n % sizes.length] ?? 1
      pieces.push(Buffer.from(bytes.subarray(at, at + size)))
      at += size
    }
    return pieces
  }
  /** What a server of `disk` says; with structured replies in two chunks, unless DF is set. */
  const serve = (each: Asked, structured: boolean): Buffer[] => {
    if (each.type !== READ) return [simpleReply(each.cookie)]
    if (!structured) return [simpleReply(each.cookie, 0, dataAt(each))]
    const half = (each.flags & DF) === 0 ? Math.floor(each.length / 2) : 0
    const data = dataAt(each)
    const [first, second] = [data.slice(0, 2 * half), data.slice(2 * half)]
    const last = chunk({
      type: DATA,
      flags: DONE,
      cookie: each.cookie,
      payload: place(each.offset + BigInt(half)) + second,
    })
    return half === 0 ? [last] : [chunk({ type: DATA, cookie: each.cookie, payload: place(each.offset) + first }), last]
  }
  /** What a client has got: of each cookie the data by place, and how often it was done. */
  const understood = (bytes: Buffer, lengths: ReadonlyMap<bigint, number>) => {
    const got = new Map<bigint, { done: number; data: Map<number, number>; chunks: number }>()
    for (let at = 0; at < bytes.length; ) {
      const cookie = bytes.readBigUInt64BE(at + 8)
      const entry = got.get(cookie) ?? { done: 0, data: new Map(), chunks: 0 }
      got.set(cookie, entry)
      const isSimple = bytes.readUInt32BE(at) === 0x67446698
      if (isSimple) expect(bytes.readUInt32BE(at + 4)).toBe(0)
      const payload = isSimple
        ? bytes.subarray(at + 16, at + 16 + (lengths.get(cookie) ?? 0))
        : bytes.subarray(at + 28, at + 20 + bytes.readUInt32BE(at + 16))
      const place = isSimple ? 0 : Number(bytes.readBigUInt64BE(at + 20))
      for (const [n, byte] of payload.entries()) entry.data.set((isSimple ? 0 : place) + n, byte)
      entry.chunks++
      if (isSimple || (bytes.readUInt16BE(at + 4) & DONE) !== 0) entry.done++
      at += isSimple ? 16 + payload.length : 20 + bytes.readUInt32BE(at + 16)
    }
    return got
  }

  it('split and joined is what it is unsplit', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(asked, { minLength: 1, maxLength: 8 }),
        cuts,
        cuts,
        fc.integer({ min: 1, max: 220 }),
        fc.boolean(),
        fc.infiniteStream(fc.nat()),
        async (all, inCuts, outCuts, partBytes, structured, order) => {
          const seen = splitting(structured, partBytes)
          const requests = all.map(({ type, flags, offset, length }, n) =>
            request({
              type,
              flags: type === READ && structured ? flags : 0,
              cookie: BigInt(n) << 33n,
              offset: BigInt(type === FLUSH ? 0 : offset),
              length: type === FLUSH ? 0 : length,
              payload: type === WRITE ? dataAt({ offset: BigInt(offset), length } as Asked) : '',
            }),
          )
          for (const piece of cut(Buffer.concat(requests), inCuts)) seen.stream.write(piece)
          let served = 0
          for (let out = requestsIn(seen.inner.output); served < out.length; out = requestsIn(seen.inner.output)) {
            const now = out.slice(served)
            served = out.length
            for (const each of now) {
              expect(each.length).toBeLessThanOrEqual(partBytes)
              if (each.type === WRITE) expect(each.payload.toString('hex')).toBe(dataAt(each))
            }
            // Chunks of one reply stay in order, replies come in any.
            const shuffled = now.map(each => ({ each, key: order.next().value ?? 0 })).sort((a, b) => a.key - b.key)
            const bytes = Buffer.concat(shuffled.flatMap(({ each }) => serve(each, structured)))
            seen.inner.deliver(...cut(bytes, outCuts))
            await settled()
          }
          expect(seen.end()).toBe('none')
          const lengths = new Map(
            all.map(({ type, length }, n) => [BigInt(n) << 33n, type === READ ? length : 0] as const),
          )
          const got = understood(seen.got(), lengths)
          for (const [n, { type, flags, offset, length }] of all.entries()) {
            const entry = got.get(BigInt(n) << 33n)
            expect(entry?.done).toBe(1)
            if (type !== READ) continue
            if (structured && flags === DF) expect(entry?.chunks).toBe(1)
            const from = structured ? offset : 0
            const data = Buffer.from(Array.from({ length }, (_, at) => entry?.data.get(from + at) ?? -1))
            expect(data.toString('hex')).toBe(disk.subarray(offset, offset + length).toString('hex'))
            expect(entry?.data.size).toBe(length)
          }
          expect(seen.inner.released).toHaveLength(seen.inner.taken.length)
        },
      ),
      { numRuns: 300 },
    )
    await nextTurn()
  })
})
