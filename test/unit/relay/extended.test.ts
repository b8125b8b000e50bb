/** A client with extended headers in front of a relay: what it asks reaches an upstream that knows compact ones alone. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { extendedStream } from '../../../src/relay/extended-stream.ts'
import { Relay } from '../../../src/relay/relay.ts'
import { SessionMemory } from '../../../src/relay/session-memory.ts'
import { Throttle } from '../../../src/relay/throttle.ts'
import { everySplit, FakeStream, hex, nextTurn, settled } from '../../support/bytes.ts'
import {
  type ExtendedFields,
  failed,
  field,
  PAYLOAD_LEN,
  extendedReply as reply,
  extendedRequest as request,
} from './extended-messages.ts'
import { ALL_FLAGS, CACHE, chunk, DISC, FLUSH, READ, simpleReply, TRIM, WRITE, WRITE_ZEROES } from './messages.ts'

const REQ_ONE = 8
const BLOCK_STATUS = 7
const DONE = 1
const [NONE, DATA, HOLE, STATUS, STATUS_EXT, ERROR] = [0, 1, 2, 5, 6, 0x8001]
const GIB = 1n << 30n
const TIB = 1n << 40n
const PART = (1n << 32n) - (1n << 16n)

interface Asked {
  readonly flags: number
  readonly type: number
  readonly cookie: bigint
  readonly offset: bigint
  readonly length: number
  readonly payload: string
}

function session(structured = true, early: Buffer = Buffer.alloc(0), contextIds?: ReadonlyMap<number, number>) {
  const [client, upstream] = [new FakeStream(), new FakeStream()]
  const relay = new Relay({
    client: extendedStream(client, { sizeBytes: 4n * TIB, contexts: contextIds?.size ?? 0 }, early),
    upstream,
    sizeBytes: 4n * TIB,
    flags: ALL_FLAGS,
    structured: { client: true, upstream: structured },
    early: Buffer.alloc(0),
    throttle: new Throttle(),
    memory: new SessionMemory(),
    contextIds: contextIds ?? new Map(structured ? [[7, 0]] : []),
  })
  const end = relay.run()
  const asked = (): Asked[] => {
    const all: Asked[] = []
    const { output } = upstream
    for (let at = 0; at < output.length; ) {
      expect(output.subarray(at, at + 4)).toEqual(hex('25609513'))
      const [type, length] = [output.readUInt16BE(at + 6), output.readUInt32BE(at + 24)]
      const size = type === WRITE ? length : 0
      all.push({
        flags: output.readUInt16BE(at + 4),
        type,
        cookie: output.readBigUInt64BE(at + 8),
        offset: output.readBigUInt64BE(at + 16),
        length,
        payload: output.toString('hex', at + 28, at + 28 + size),
      })
      at += 28 + size
    }
    return all
  }
  const turn = async (): Promise<void> => {
    for (let n = 0; n < 3; n++) {
      await settled()
      await nextTurn()
    }
  }
  return {
    client,
    upstream,
    relay,
    end,
    asked,
    sends: async (...chunks: readonly Buffer[]) => {
      client.deliver(...chunks)
      await turn()
    },
    answers: async (...chunks: readonly Buffer[]) => {
      upstream.deliver(...chunks)
      await turn()
    },
  }
}

describe('extended requests', () => {
  it('reach the upstream as compact ones, and are answered by chunks with their offset, wherever the streams are cut', async () => {
    const all = [
      request({ type: WRITE, flags: PAYLOAD_LEN | 1, cookie: 0xa1n, offset: 5n, length: 3n, payload: '616263' }),
      request({ type: READ, cookie: 0xa2n, offset: TIB, length: 4n }),
      request({ type: FLUSH, cookie: 0xa3n }),
    ]
    await everySplit(Buffer.concat(all), async (chunks, how) => {
      const each = session()
      await each.sends(...chunks.filter(({ length }) => length > 0))
      const [write, read, flush] = each.asked()
      if (write === undefined || read === undefined || flush === undefined) throw new Error(`three: ${how}`)
      expect(write).toMatchObject({ flags: 1, type: WRITE, offset: 5n, length: 3, payload: '616263' })
      expect(read).toMatchObject({ flags: 0, type: READ, offset: TIB, length: 4 })
      const replies = Buffer.concat([
        chunk({ type: DATA, cookie: read.cookie, payload: `${field(TIB, 8)} 7172` }),
        chunk({ type: HOLE, flags: DONE, cookie: read.cookie, payload: `${field(TIB + 2n, 8)} 00000002` }),
        simpleReply(write.cookie),
        chunk({ type: ERROR, flags: DONE, cookie: flush.cookie, payload: '00000005 0002 6e6f' }),
      ])
      const half = replies.length / 3
      await each.answers(Buffer.from(replies.subarray(0, half)), Buffer.from(replies.subarray(half)))
      expect(each.client.output, how).toEqual(
        Buffer.concat([
          reply(DATA, 0xa2n, TIB, `${field(TIB, 8)} 7172`, 0),
          reply(HOLE, 0xa2n, TIB, `${field(TIB + 2n, 8)} 00000002`),
          reply(NONE, 0xa1n, 5n),
          reply(ERROR, 0xa3n, 0n, '00000005 0002 6e6f'),
        ]),
      )
      each.relay.stop('test')
    })
  })

  it('are answered so too where the upstream has simple replies alone', async () => {
    const each = session(false)
    await each.sends(
      request({ type: READ, cookie: 2n, offset: 8n, length: 4n }),
      request({ type: TRIM, cookie: 3n, length: 9n }),
    )
    const [read, trim] = each.asked()
    await each.answers(simpleReply(read?.cookie ?? 0n, 0, '61626364'), simpleReply(trim?.cookie ?? 0n, 5))
    expect(each.client.output).toEqual(
      Buffer.concat([reply(DATA, 2n, 8n, `${field(8n, 8)} 61626364`), failed(5, 3n, 0n)]),
    )
    each.relay.stop('test')
  })

  it('that came ahead of the transmission phase are not lost', async () => {
    const each = session(true, request({ type: FLUSH, cookie: 9n }).subarray(0, 20))
    await each.sends(Buffer.from(request({ type: FLUSH, cookie: 9n }).subarray(20)))
    expect(each.asked()).toMatchObject([{ type: FLUSH }])
    each.relay.stop('test')
  })

  it('end with DISC, and what is behind that is not looked at', async () => {
    const each = session()
    await each.sends(Buffer.concat([request({ type: DISC }), hex('00'.repeat(64))]))
    each.client.peerEnds()
    each.upstream.peerEnds()
    expect(await each.end).toMatchObject({ kind: 'disconnected' })
  })
})

describe('an effect of 4 GiB and more', () => {
  it('goes out in parts, and is answered once, by its first error', async () => {
    for (const type of [TRIM, WRITE_ZEROES, CACHE]) {
      const each = session()
      await each.sends(request({ type, flags: 1, cookie: 7n, offset: 4096n, length: 9n * GIB }))
      const parts = each.asked()
      expect(parts.map(({ offset, length }) => [offset, BigInt(length)])).toEqual([
        [4096n, PART],
        [4096n + PART, PART],
        [4096n + 2n * PART, 9n * GIB - 2n * PART],
      ])
      const [a, b, c] = parts.map(({ cookie }) => cookie)
      await each.answers(simpleReply(c ?? 0n), simpleReply(a ?? 0n))
      expect(each.client.output).toHaveLength(0)
      await each.answers(simpleReply(b ?? 0n, type === TRIM ? 5 : 0))
      expect(each.client.output).toEqual(type === TRIM ? failed(5, 7n, 4096n) : reply(NONE, 7n, 4096n))
      each.relay.stop('test')
    }
  })

  it('that is too much for one request, or lies beyond the export, is refused before any of it is done', async () => {
    for (const [fields, error] of [
      [{ type: TRIM, length: TIB }, 75],
      [{ type: TRIM, offset: 4n * TIB - GIB, length: 8n * GIB }, 22],
      [{ type: WRITE_ZEROES, offset: 4n * TIB - GIB, length: 8n * GIB }, 28],
      [{ type: TRIM, offset: 1n, length: (1n << 64n) - 1n }, 22],
      [{ type: READ, length: 8n * GIB }, 22],
      [{ type: FLUSH, length: 8n * GIB }, 22],
      [{ type: BLOCK_STATUS, offset: 4n * TIB - GIB, length: 8n * GIB }, 22],
    ] as const) {
      const each = session()
      await each.sends(request({ cookie: 7n, ...fields }))
      expect(each.asked()).toEqual([])
      expect(each.client.output).toEqual(failed(error, 7n, 'offset' in fields ? fields.offset : 0n))
      expect(each.relay.counters.refused).toBe(1)
      each.relay.stop('test')
    }
  })
})

describe('BLOCK_STATUS', () => {
  it('is answered in 64 bits, in part where more was asked for than a compact request can say', async () => {
    const each = session()
    await each.sends(request({ type: BLOCK_STATUS, flags: REQ_ONE, cookie: 7n, offset: 4096n, length: TIB }))
    const [asked] = each.asked()
    expect(asked).toMatchObject({ type: BLOCK_STATUS, flags: REQ_ONE, offset: 4096n, length: Number(PART) })
    await each.answers(
      chunk({ type: STATUS, flags: DONE, cookie: asked?.cookie ?? 0n, payload: '00000007 fff00000 00000003' }),
    )
    expect(each.client.output).toEqual(
      reply(STATUS_EXT, 7n, 4096n, '00000000 00000001 00000000fff00000 0000000000000003'),
    )
    each.relay.stop('test')
  })
})

describe('BLOCK_STATUS for some of the contexts', () => {
  const CONTEXTS = new Map([
    [7, 0],
    [3, 1],
    [9, 2],
  ])
  const filter = (length: bigint, ...ids: readonly number[]): Partial<ExtendedFields> => ({
    flags: PAYLOAD_LEN,
    length: BigInt(8 + 4 * ids.length),
    payload: [field(length, 8), ...ids.map(id => field(id, 4))].join(''),
  })
  const status = (cookie: bigint, id: number, flags = 0): Buffer =>
    chunk({ type: STATUS, flags, cookie, payload: `${field(id, 4)} 00001000 0000000${id}` })
  const extended = (id: number, theirs: number, flags = 0): Buffer =>
    reply(STATUS_EXT, 5n, 4096n, `${field(id, 4)} 00000001 0000000000001000 000000000000000${theirs}`, flags)

  it('asks for all of them, and passes on what was asked for, wherever the streams are cut', async () => {
    const all = Buffer.concat([
      request({ type: BLOCK_STATUS, cookie: 5n, offset: 4096n, ...filter(TIB, 2, 0) }),
      request({ type: FLUSH, cookie: 6n }),
    ])
    await everySplit(all, async (chunks, how) => {
      const each = session(true, undefined, CONTEXTS)
      await each.sends(...chunks.filter(({ length }) => length > 0))
      const [asked, flush] = each.asked()
      expect(asked, how).toMatchObject({ type: BLOCK_STATUS, flags: 0, offset: 4096n, length: Number(PART) })
      expect(flush).toMatchObject({ type: FLUSH })
      const cookie = asked?.cookie ?? 0n
      await each.answers(status(cookie, 7), status(cookie, 9), status(cookie, 3, DONE))
      expect(each.client.output).toEqual(Buffer.concat([extended(0, 7), extended(2, 9), reply(NONE, 5n, 4096n)]))
      each.relay.stop('test')
    })
  })

  it('ends with the last chunk where that was asked for', async () => {
    const each = session(true, undefined, CONTEXTS)
    await each.sends(request({ type: BLOCK_STATUS, cookie: 5n, offset: 4096n, ...filter(4096n, 1) }))
    const cookie = each.asked()[0]?.cookie ?? 0n
    await each.answers(status(cookie, 7), status(cookie, 9), status(cookie, 3, DONE))
    expect(each.client.output).toEqual(extended(1, 3, DONE))
    each.relay.stop('test')
  })

  it('is EINVAL for an id that is not there, one twice, none, a payload cut short or too long, and beyond the export', async () => {
    const cases: readonly Partial<ExtendedFields>[] = [
      filter(4096n, 3),
      filter(4096n, 1, 1),
      filter(4096n),
      filter(4096n, 0, 1, 2, 3),
      filter(5n * TIB, 0),
      filter(0n, 0),
      { flags: PAYLOAD_LEN, length: 7n, payload: '00'.repeat(7) },
      { flags: PAYLOAD_LEN, length: 14n, payload: '00'.repeat(14) },
      { flags: PAYLOAD_LEN },
    ]
    for (const fields of cases) {
      const each = session(true, undefined, CONTEXTS)
      await each.sends(request({ type: BLOCK_STATUS, cookie: 5n, ...fields }), request({ type: FLUSH, cookie: 6n }))
      expect(each.asked()).toMatchObject([{ type: FLUSH }])
      expect(each.client.output.subarray(0, 24)).toEqual(failed(22, 5n, 0n).subarray(0, 24))
      expect(each.client.output.readUInt32BE(32)).toBe(22)
      expect(each.relay.counters.refused).toBe(1)
      each.relay.stop('test')
    }
  })
})

describe('PAYLOAD_LEN', () => {
  it('has to be there for WRITE and for nothing else: EINVAL, with the payload passed over', async () => {
    const each = session()
    await each.sends(
      request({ type: WRITE, cookie: 1n, length: 4n }),
      request({ type: READ, flags: PAYLOAD_LEN, cookie: 2n, offset: 3n, length: 4n, payload: '61626364' }),
      request({
        type: BLOCK_STATUS,
        flags: PAYLOAD_LEN,
        cookie: 3n,
        length: 12n,
        payload: `${field(4096n, 8)} 00000000`,
      }),
      request({ type: FLUSH, flags: PAYLOAD_LEN, cookie: 4n }),
      request({ type: FLUSH, cookie: 5n }),
    )
    expect(each.asked()).toMatchObject([{ type: FLUSH }])
    expect(each.client.output).toEqual(
      Buffer.concat([failed(22, 1n, 0n), failed(22, 2n, 3n), failed(22, 3n, 0n), failed(22, 4n, 0n)]),
    )
    each.relay.stop('test')
  })

  it('of more than anybody would drain, and a compact request, end the session as the client’s fault', async () => {
    for (const bytes of [
      request({ type: WRITE, flags: PAYLOAD_LEN, length: 1n << 40n }),
      hex('25609513', '00'.repeat(28)),
    ]) {
      const each = session()
      await each.sends(bytes)
      each.upstream.peerEnds()
      each.upstream.close()
      expect(await each.end).toMatchObject({ kind: 'violation', side: 'client' })
    }
  })
})

describe('whatever a client with extended headers sends', () => {
  const fields = fc.record({
    type: fc.nat(9),
    flags: fc.constantFrom(0, 0, PAYLOAD_LEN, PAYLOAD_LEN, 1, 4),
    cookie: fc.bigInt({ min: 0n, max: 3n }),
    offset: fc.oneof(fc.bigInt({ min: 0n, max: 5n * TIB }), fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })),
    length: fc.oneof(fc.bigInt({ min: 0n, max: 40n }), fc.bigInt({ min: 0n, max: 40n * GIB })),
  })

  it('is answered once for each request, by its cookie and its offset, by an upstream that answers all', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fields, { maxLength: 12 }), fc.boolean(), async (all, structured) => {
        const sent = all
          .filter(({ type }) => type !== DISC)
          .map(each => ((each.flags & PAYLOAD_LEN) === 0 ? each : { ...each, length: each.length & 0x3fn }))
        const each = session(structured)
        await each.sends(
          ...sent.map(one =>
            request({ ...one, payload: (one.flags & PAYLOAD_LEN) === 0 ? '' : '61'.repeat(Number(one.length)) }),
          ),
        )
        const status = (cookie: bigint): Buffer =>
          chunk({ type: STATUS, flags: DONE, cookie, payload: '00000007 00000001 00000000' })
        for (const { type, cookie, offset, length } of each.asked()) {
          if (type !== READ) await each.answers(type === BLOCK_STATUS ? status(cookie) : simpleReply(cookie))
          else if (!structured) await each.answers(simpleReply(cookie, 0, '61'.repeat(length)))
          else
            await each.answers(
              chunk({ type: HOLE, flags: DONE, cookie, payload: `${field(offset, 8)}${field(length, 4)}` }),
            )
        }
        const got: string[] = []
        const { output } = each.client
        for (let at = 0; at < output.length; ) {
          expect(output.subarray(at, at + 4)).toEqual(hex('6e8a278c'))
          expect(output.readUInt16BE(at + 4)).toBe(DONE)
          got.push(`${output.readBigUInt64BE(at + 8)} ${output.readBigUInt64BE(at + 16)}`)
          at += 32 + Number(output.readBigUInt64BE(at + 24))
        }
        expect(got.sort()).toEqual(sent.map(({ cookie, offset }) => `${cookie} ${offset}`).sort())
        expect(each.relay.inFlight).toBe(0)
        expect(each.client.released.length).toBe(each.client.taken.length)
        each.relay.stop('test')
      }),
      { numRuns: 200 },
    )
  })
})
