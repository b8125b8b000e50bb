import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { everySplit, hex, inRoom, nextTurn, overlaps, settled } from '../../support/bytes.ts'
import { FLUSH, READ, request, simpleReply, WRITE } from './messages.ts'
import { clientSends, cookieAt, type RelaySession, relaying, upstreamSends } from './session.ts'

const MiB = 1 << 20

/** A READ, and its reply of zeroes from the upstream. */
async function reads(session: RelaySession, length: number): Promise<void> {
  const at = session.upstream.output.length
  await clientSends(session, request({ type: READ, length }))
  await upstreamSends(session, Buffer.concat([simpleReply(cookieAt(session, at)), Buffer.alloc(length)]))
}

describe('requests and replies', () => {
  it('go both ways, the client’s cookies intact', async () => {
    const session = relaying()
    const cookie = 0xffff_ffff_ffff_ffffn
    await clientSends(session, request({ type: WRITE, cookie, offset: 3n, length: 2, payload: '6869' }))
    expect(session.upstream.output.subarray(16)).toEqual(hex('0000000000000003 00000002 6869'))
    expect(session.relay.inFlight).toBe(1)
    await upstreamSends(session, simpleReply(cookieAt(session, 0)))
    expect(session.client.output).toEqual(hex('67446698 00000000 ffffffffffffffff'))
    expect(session.relay.inFlight).toBe(0)
  })

  it('that the client sent ahead of the answer to GO come first', async () => {
    const early = request({ type: READ, cookie: 1n, offset: 1n, length: 1 })
    const session = relaying({ early: Buffer.from(early.subarray(0, 20)) })
    await clientSends(session, Buffer.from(early.subarray(20)), request({ type: READ, offset: 2n, length: 1 }))
    const offsets = [16, 44].map(at => session.upstream.output.readBigUInt64BE(at))
    expect(offsets).toEqual([1n, 2n])
  })

  it('of one tick leave for the upstream in one write, a lone one goes ahead of them', async () => {
    const session = relaying()
    const read = (): Buffer => request({ type: READ, length: 1 })
    session.client.deliver(read(), read(), read())
    await settled()
    expect(session.upstream.calls).toEqual(['write 28', 'cork', 'write 28', 'write 28'])
    await nextTurn()
    expect(session.upstream.calls).toEqual(['write 28', 'cork', 'write 28', 'write 28', 'uncork'])
  })

  it('of one chunk leave for the client in one write', async () => {
    const session = relaying({ structured: { client: true, upstream: false } })
    await clientSends(session, request({ type: READ, length: 4 }), request({ type: READ, length: 4 }))
    const replies = [0, 28].map(at => simpleReply(cookieAt(session, at), 0, '61626364'))
    await upstreamSends(session, Buffer.concat(replies))
    expect(session.client.calls).toEqual(['write 64'])
  })

  it('let a lifted head grow into the headroom of its chunk, and the payload stays where it is', async () => {
    const session = relaying({ structured: { client: true, upstream: false }, headroomBytes: 32 })
    await clientSends(session, request({ type: READ, cookie: 7n, offset: 3n, length: 4 }))
    const arrived = inRoom(simpleReply(cookieAt(session, 0), 0, '61626364'), 32)
    await upstreamSends(session, arrived)
    expect(session.client.output).toEqual(hex('668e33ef 0001 0001 0000000000000007 0000000c 0000000000000003 61626364'))
    expect(session.client.writes).toHaveLength(1)
    expect(session.client.writes.some(piece => overlaps(piece, arrived))).toBe(true)
    expect(Buffer.from(arrived.buffer, 0, 20)).toEqual(Buffer.alloc(20, 0xee))
  })

  it('tell the upstream’s stream how much is still to come: nothing, or all of it with the heads', async () => {
    const session = relaying()
    await settled()
    expect(session.upstream.expectedBytes()).toBe(0)
    await clientSends(session, request({ type: READ, length: 1000 }), request({ type: READ, length: 24 }))
    expect(session.upstream.expectedBytes()).toBeGreaterThanOrEqual(1024 + 2 * 16)
    await upstreamSends(session, simpleReply(cookieAt(session, 0), 0, '61'.repeat(100)))
    expect(session.upstream.expectedBytes()).toBeGreaterThanOrEqual(924 + 16)
    expect(session.upstream.expectedBytes()).toBeLessThan(1024)
    await upstreamSends(session, Buffer.alloc(900), simpleReply(cookieAt(session, 28), 0, '61'.repeat(24)))
    expect(session.upstream.expectedBytes()).toBe(0)
  })

  it('expect small replies together where they are lifted, and a large one up to its end', async () => {
    const small = relaying({ structured: { client: true, upstream: false } })
    await clientSends(small, request({ type: READ, length: 1000 }), request({ type: READ, length: 1000 }))
    await upstreamSends(small, simpleReply(cookieAt(small, 0), 0, '61'.repeat(100)))
    expect(small.upstream.expectedBytes()).toBeGreaterThanOrEqual(1900 + 16)
    const large = relaying({ structured: { client: true, upstream: false }, sizeBytes: 1n << 20n })
    await clientSends(large, request({ type: READ, length: 65_536 }), request({ type: READ, length: 65_536 }))
    expect(large.upstream.expectedBytes()).toBe(16 + 65_536)
    await upstreamSends(large, simpleReply(cookieAt(large, 0), 0, '61'.repeat(100)))
    expect(large.upstream.expectedBytes()).toBe(65_436)
  })
})

describe('refusals', () => {
  it('come between two replies of the upstream, never inside one', async () => {
    const reply = simpleReply(0x1_0000_0000n, 0, '61626364')
    await everySplit(reply, async ([first, second], how) => {
      if (first === undefined || second === undefined || first.length === 1) return
      const session = relaying()
      await clientSends(session, request({ type: READ, cookie: 7n, length: 4 }))
      await upstreamSends(session, first)
      await clientSends(session, request({ type: 99, cookie: 8n }))
      await upstreamSends(session, second)
      const refusal = hex('67446698 00000016 0000000000000008')
      const passed = hex('67446698 00000000 0000000000000007 61626364')
      const inside = first.length >= 16 && first.length < 20
      const ahead = first.length < 16
      const order = ahead ? [refusal, passed] : [passed, refusal]
      expect(session.client.output, `${how}${inside ? ', inside the payload' : ''}`).toEqual(Buffer.concat(order))
    })
  })

  it('are chunks with a text for clients with structured replies, and simple ones for all others', async () => {
    const session = relaying({ structured: { client: true, upstream: true } })
    await clientSends(
      session,
      request({ type: READ, cookie: 1n, offset: 1n << 50n, length: 1 }),
      request({ type: WRITE, cookie: 2n, offset: 1n << 50n, length: 1, payload: '00' }),
    )
    expect(session.client.output).toEqual(
      hex(
        '668e33ef 0001 8001 0000000000000001 00000033 00000016 002d',
        '6e6f207375636820636f6d6d616e642c20666c6167206f722072616e6765206f6e2074686973206578706f7274', // no such command, flag or range on this export
        '668e33ef 0001 8001 0000000000000002 00000023 0000001c 001d',
        '6265796f6e642074686520656e64206f662074686973206578706f7274', // beyond the end of this export
      ),
    )
    expect(session.relay.counters.refused).toBe(2)
    const plain = relaying({ structured: { client: false, upstream: false } })
    await clientSends(plain, request({ type: READ, cookie: 1n, offset: 1n << 50n, length: 1 }))
    expect(plain.client.output).toEqual(hex('67446698 00000016 0000000000000001'))
  })
})

describe('back-pressure', () => {
  it('stops reading the upstream while the client has more than 2 MiB to take', async () => {
    const session = relaying({ sizeBytes: 1n << 30n })
    session.client.held = true
    await reads(session, 2 * MiB - 16)
    expect(session.upstream.paused).toBe(false)
    session.client.flush()
    await reads(session, 2 * MiB - 15)
    expect(session.upstream.paused).toBe(true)
    session.client.flush()
    expect(session.upstream.paused).toBe(false)
  })

  it('stops reading the upstream while two of its chunks are on their way', async () => {
    const session = relaying()
    session.client.held = true
    await reads(session, 4)
    expect(session.upstream.paused).toBe(false)
    await reads(session, 4)
    expect(session.upstream.paused).toBe(true)
    session.client.flush(1)
    expect(session.upstream.paused).toBe(false)
    await reads(session, 4)
    expect(session.upstream.paused).toBe(true)
    session.client.flush()
    expect(session.upstream.paused).toBe(false)
  })

  it('stops reading the client while the upstream does not take its requests', async () => {
    const session = relaying({ sizeBytes: 1n << 30n })
    session.upstream.held = true
    await clientSends(session, Buffer.concat([request({ type: WRITE, length: 3 * MiB }), Buffer.alloc(2 * MiB - 28)]))
    expect(session.client.paused).toBe(false)
    await clientSends(session, Buffer.alloc(1))
    expect(session.client.paused).toBe(true)
    session.upstream.flush()
    expect(session.client.paused).toBe(false)
  })

  it('stops reading a client that reads none of its refusals', async () => {
    const session = relaying()
    session.client.held = true
    const bad = Buffer.concat(Array.from({ length: 65536 }, () => request({ type: 99 })))
    await clientSends(session, Buffer.from(bad))
    await clientSends(session, Buffer.from(bad))
    expect(session.client.paused).toBe(false)
    await clientSends(session, request({ type: 99 }))
    expect(session.client.paused).toBe(true)
    session.client.flush()
    expect(session.client.paused).toBe(false)
  })

  it('stops reading a client with more than 1024 requests out, until fewer than 512 are', async () => {
    const session = relaying()
    const many = (count: number): Buffer =>
      Buffer.concat(Array.from({ length: count }, () => request({ type: FLUSH, cookie: 1n })))
    await clientSends(session, many(1024))
    expect(session.client.paused).toBe(false)
    await clientSends(session, many(1))
    expect(session.client.paused).toBe(true)
    for (let at = 0; at < 513; at++) await upstreamSends(session, simpleReply(cookieAt(session, 28 * at)))
    expect([session.relay.inFlight, session.client.paused]).toEqual([512, true])
    await upstreamSends(session, simpleReply(cookieAt(session, 28 * 513)))
    expect([session.relay.inFlight, session.client.paused]).toEqual([511, false])
  })

  it('has the client wait until every reason to wait is gone', async () => {
    const session = relaying({ sizeBytes: 1n << 30n })
    session.upstream.held = true
    const flushes = Buffer.concat(Array.from({ length: 1025 }, () => request({ type: FLUSH })))
    await clientSends(
      session,
      Buffer.concat([flushes, request({ type: WRITE, length: 3 * MiB }), Buffer.alloc(2 * MiB)]),
    )
    expect(session.client.paused).toBe(true)
    session.upstream.flush()
    expect(session.client.paused).toBe(true)
    const { output } = session.upstream
    const answers = Array.from({ length: 515 }, (_, at) => simpleReply(output.readBigUInt64BE(28 * at + 8)))
    await upstreamSends(session, Buffer.concat(answers))
    expect(session.client.paused).toBe(false)
  })
})

describe('the memory of the upstream’s chunks', () => {
  it('is given back once, and only after all of it has been sent', async () => {
    const session = relaying()
    session.client.held = true
    await clientSends(session, request({ type: READ, length: 4 }), request({ type: READ, length: 4 }))
    const one = simpleReply(cookieAt(session, 0), 0, '61626364')
    const two = simpleReply(cookieAt(session, 28), 0, '65666768')
    await upstreamSends(session, one, two)
    expect(session.upstream.released).toEqual([])
    session.client.flush(1)
    expect(session.upstream.released).toEqual([one])
    session.client.flush()
    expect([session.upstream.released[0] === one, session.upstream.released[1] === two]).toEqual([true, true])
    expect(session.upstream.released).toHaveLength(2)
  })

  it('is given back at once when nothing of it was passed on', async () => {
    const session = relaying()
    await clientSends(session, request({ type: READ, length: 4 }))
    const head = simpleReply(cookieAt(session, 0)).subarray(0, 9)
    await upstreamSends(session, head)
    expect(session.upstream.released).toEqual([head])
  })

  it('is given back also when the client is gone', async () => {
    const session = relaying()
    session.client.held = true
    await clientSends(session, request({ type: READ, length: 4 }), request({ type: FLUSH }))
    await upstreamSends(session, simpleReply(cookieAt(session, 0), 0, '61626364'))
    session.client.close()
    await upstreamSends(session, simpleReply(cookieAt(session, 28)))
    expect(session.upstream.released).toHaveLength(2)
  })

  it('is not given back before it was sent when the chunk ends in a violation', async () => {
    const session = relaying({ structured: { client: true, upstream: false } })
    session.client.held = true
    await clientSends(session, request({ type: READ, cookie: 7n, length: 4 }))
    const chunk = Buffer.concat([simpleReply(cookieAt(session, 0), 0, '61626364'), simpleReply(0xdeadn)])
    await upstreamSends(session, chunk)
    expect(early(session)).toEqual([])
    session.client.flush()
    expect(session.upstream.released).toEqual([chunk])
  })

  it('is not given back before it was sent when a refusal cut it in two and it ends in a violation', async () => {
    const session = relaying()
    await clientSends(session, request({ type: READ, cookie: 7n, length: 4 }))
    const reply = simpleReply(cookieAt(session, 0), 0, '61626364')
    await upstreamSends(session, Buffer.from(reply.subarray(0, 18)))
    await clientSends(session, request({ type: WRITE, cookie: 8n, length: 0 }))
    session.client.held = true
    await upstreamSends(session, Buffer.concat([reply.subarray(18), simpleReply(0xdeadn)]))
    expect(early(session)).toEqual([])
    session.client.flush()
    expect(session.upstream.released).toHaveLength(2)
  })

  it('is given back once each and never too early, however replies are cut, lifted, refused, sent and broken', async () => {
    const plan = fc.record({
      sizes: fc.array(fc.integer({ min: 1, max: 60 }), { maxLength: 30 }),
      lifted: fc.boolean(),
      headroomBytes: fc.constantFrom(0, 32),
      refusals: fc.array(fc.boolean(), { maxLength: 10 }),
      broken: fc.boolean(),
    })
    const run = async ({ sizes, lifted, headroomBytes, refusals, broken }: PlanOf<typeof plan>): Promise<void> => {
      const session = relaying({ structured: { client: lifted, upstream: false }, headroomBytes })
      session.client.held = true
      await clientSends(session, ...Array.from({ length: 20 }, () => request({ type: READ, length: 8 })))
      const replies = Array.from({ length: 20 }, (_, at) => simpleReply(cookieAt(session, 28 * at), 0, '61'.repeat(8)))
      if (broken) replies.splice(10, 0, simpleReply(0xdeadn))
      const chunks = cutUp(Buffer.concat(replies), sizes).map(piece => inRoom(piece, headroomBytes))
      session.upstream.deliver(...chunks)
      for (const refuse of [...refusals, ...chunks.map(() => false)]) {
        if (refuse) session.client.deliver(request({ type: 99 }))
        await settled()
        expect(early(session)).toEqual([])
        session.client.flush(1)
      }
      // Each turn gives back one chunk at least.
      for (let turn = 0; session.client.unsentBytes > 0 || session.upstream.released.length < chunks.length; turn++) {
        expect(turn).toBeLessThanOrEqual(2 * chunks.length)
        session.client.flush()
        await nextTurn()
      }
      expect(new Set(session.upstream.released)).toEqual(new Set(chunks))
      expect(session.upstream.released).toHaveLength(chunks.length)
      session.relay.stop('test')
    }
    await fc.assert(fc.asyncProperty(plan, run), { numRuns: 60 })
  })
})

type PlanOf<Plan> = Plan extends fc.Arbitrary<infer Value> ? Value : never

/** Chunks that were given back although some of their memory has not left. */
function early({ client, upstream }: RelaySession): readonly Buffer[] {
  return upstream.released.filter(chunk => client.unsent.some(piece => overlaps(piece, chunk)))
}

function cutUp(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const pieces: Buffer[] = []
  let at = 0
  for (const size of [...sizes, bytes.length]) {
    if (at < bytes.length) pieces.push(bytes.subarray(at, at + size))
    at += size
  }
  return pieces
}
