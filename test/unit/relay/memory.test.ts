/** Sessions that have one memory together, between streams in the hands of a test. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { SessionMemory } from '../../../src/relay/session-memory.ts'
import { Memory, SURE_BYTES } from '../../../src/stream/memory.ts'
import { nextTurn, settled } from '../../support/bytes.ts'
import { READ, request, simpleReply, WRITE } from './messages.ts'
import { clientSends, cookieAt, type RelaySession, relaying, upstreamSends } from './session.ts'

const MiB = 1024 * 1024
const PIECE = 64 * 1024
const RESUME = {
  limitMs: 60_000,
  replayBytes: 0,
  dial: async () => await Promise.reject(new Error('nobody dies here')),
  tell: () => {},
}

/** A WRITE in pieces as a socket brings them. */
function write(length: number): Buffer[] {
  return cut(Buffer.concat([request({ type: WRITE, length }), Buffer.alloc(length)]))
}

function cut(bytes: Buffer): Buffer[] {
  const count = Math.ceil(bytes.length / PIECE)
  return Array.from({ length: count }, (_, at) => Buffer.from(bytes.subarray(at * PIECE, (at + 1) * PIECE)))
}

/** What has been written to the upstream, request by request; its replies, when it gives them. */
class FakeServer {
  readonly #session: RelaySession
  #taken = 0
  #rest: Buffer = Buffer.alloc(0)
  readonly #replies: Buffer[] = []

  constructor(session: RelaySession) {
    this.#session = session
  }

  /** Takes what has come, and answers so many requests. */
  answer(count: number): number {
    const { writes } = this.#session.upstream
    this.#rest = Buffer.concat([this.#rest, ...writes.slice(this.#taken)])
    this.#taken = writes.length
    while (this.#rest.length >= 28) {
      const length = this.#rest.readUInt32BE(24)
      const isWrite = this.#rest.readUInt16BE(6) === WRITE
      const end = 28 + (isWrite ? length : 0)
      if (this.#rest.length < end) break
      const reply = simpleReply(this.#rest.readBigUInt64BE(8))
      this.#replies.push(isWrite ? reply : Buffer.concat([reply, Buffer.alloc(length)]))
      this.#rest = this.#rest.subarray(end)
    }
    const given = this.#replies.splice(0, count)
    for (const reply of given) this.#session.upstream.deliver(...cut(reply))
    return given.length
  }
}

describe('a session whose WRITEs wait for their replies', () => {
  it('is read no further above an eighth of what it may have, and again below three quarters of that', async () => {
    const memory = new SessionMemory(new Memory(), 8 * MiB)
    const session = relaying({ sizeBytes: 1n << 30n, resume: RESUME, memory })
    await clientSends(session, ...Array.from({ length: 15 }, () => write(PIECE - 28)).flat())
    expect([memory.requests.bytes, session.client.paused]).toEqual([15 * PIECE, false])
    await clientSends(session, ...write(2 * PIECE - 28))
    expect([memory.requests.bytes, session.client.paused]).toEqual([17 * PIECE, true])
    const replies = Array.from({ length: 16 }, (_, at) => simpleReply(cookieAt(session, at * PIECE)))
    await upstreamSends(session, ...replies.slice(0, 4))
    expect([memory.requests.bytes, session.client.paused]).toEqual([13 * PIECE, true])
    await upstreamSends(session, ...replies.slice(4, 5))
    expect([memory.requests.bytes, session.client.paused]).toEqual([12 * PIECE, false])
    memory.end()
    await upstreamSends(session, ...replies.slice(5))
    expect(memory.requests.bytes).toBe(0)
  })

  it('has a single one through that is larger than all that it may have', async () => {
    const all = new Memory(MiB)
    const memory = new SessionMemory(all, MiB)
    const session = relaying({ sizeBytes: 1n << 30n, resume: RESUME, memory })
    await clientSends(session, ...write(4 * MiB))
    expect(all.heldBytes).toBeGreaterThan(4 * MiB)
    expect(session.upstream.output).toHaveLength(4 * MiB + 28)
    await upstreamSends(session, simpleReply(cookieAt(session, 0)))
    expect([all.heldBytes, session.client.paused]).toEqual([0, false])
  })

  it('has less while others have much', async () => {
    const all = new Memory(2 * MiB)
    const memory = new SessionMemory(all)
    const session = relaying({ sizeBytes: 1n << 30n, resume: RESUME, memory })
    new SessionMemory(all).requests.hold(2 * MiB)
    await clientSends(session, ...write(PIECE - 28), ...write(PIECE - 28))
    expect(session.client.paused).toBe(false)
    await clientSends(session, ...write(PIECE - 28))
    expect(session.client.paused).toBe(true)
    await upstreamSends(session, ...[0, 1].map(at => simpleReply(cookieAt(session, at * PIECE))))
    expect(session.client.paused).toBe(false)
  })
})

describe('a session whose upstream takes nothing', () => {
  it('is read no further above what is sure while others have much, and again when all has left', async () => {
    const all = new Memory(MiB)
    const session = relaying({ sizeBytes: 1n << 30n, memory: new SessionMemory(all) })
    new SessionMemory(all).requests.hold(2 * MiB)
    session.upstream.held = true
    await clientSends(session, ...write(MiB).slice(0, 2))
    expect(session.client.paused).toBe(false)
    await clientSends(session, ...write(MiB).slice(2, 3))
    expect([session.client.paused, all.heldBytes]).toEqual([true, 2 * MiB + 3 * PIECE])
    session.upstream.flush()
    await settled()
    expect([session.client.paused, all.heldBytes]).toEqual([false, 2 * MiB])
  })
})

describe('a session whose client takes nothing', () => {
  it('has its upstream read no further, and in small chunks, while others have much', async () => {
    const all = new Memory(MiB)
    const session = relaying({ sizeBytes: 1n << 30n, memory: new SessionMemory(all) })
    await clientSends(session, request({ type: READ, length: MiB }))
    expect(session.upstream.expectedBytes()).toBeGreaterThan(SURE_BYTES)
    new SessionMemory(all).requests.hold(2 * MiB)
    expect(session.upstream.expectedBytes()).toBeLessThan(PIECE)
    session.client.held = true
    const reply = Buffer.concat([simpleReply(cookieAt(session, 0)), Buffer.alloc(MiB)])
    await upstreamSends(session, ...cut(reply))
    expect([session.upstream.paused, session.client.unsentBytes]).toEqual([true, 2 * PIECE])
    expect(all.heldBytes).toBe(2 * MiB + 2 * PIECE)
    session.client.held = false
    session.client.flush()
    await settled()
    await nextTurn()
    expect([session.upstream.paused, session.client.output.length]).toEqual([false, MiB + 16])
    expect(all.heldBytes).toBe(2 * MiB)
  })
})

describe('sessions with one memory', () => {
  const LIMIT = MiB
  const LONGEST = 400_000
  const SESSIONS = 5
  const step = fc.record({
    session: fc.nat(SESSIONS - 1),
    kind: fc.constantFrom('write', 'write', 'read', 'answer', 'take', 'hold'),
    length: fc.integer({ min: 1, max: LONGEST }),
  })
  const plan = fc.record({ resume: fc.boolean(), steps: fc.array(step, { maxLength: 60 }) })

  it('never hold more than it, but for what is sure and a request of each; all is answered; nothing is left', async () => {
    const run = async ({ resume, steps }: PlanOf<typeof plan>): Promise<void> => {
      const all = new Memory(LIMIT)
      const sessions = Array.from({ length: SESSIONS }, () => {
        const memory = new SessionMemory(all)
        const session = relaying({ sizeBytes: 1n << 30n, memory, ...(resume && { resume: RESUME }) })
        return { ...session, memory, server: new FakeServer(session), asked: 0 }
      })
      for (const { session: at, kind, length } of steps) {
        const each = sessions[at]
        if (each === undefined) continue
        const { client, upstream, server } = each
        if (kind === 'write') client.deliver(...write(length))
        else if (kind === 'read') client.deliver(request({ type: READ, length }))
        else if (kind === 'answer') server.answer(2)
        else if (kind === 'hold') client.held = upstream.held = true
        else {
          client.flush(1)
          upstream.flush(1)
        }
        if (kind === 'write') each.asked += 16
        if (kind === 'read') each.asked += 16 + length
        await settled()
        await nextTurn()
        const most = LIMIT + SESSIONS * (2 * SURE_BYTES + 2 * PIECE + LONGEST)
        expect(all.heldBytes).toBeLessThanOrEqual(most)
        // Nor do they say that it is less than it is.
        const unsent = sessions.reduce((sum, { client }) => sum + client.unsentBytes, 0)
        expect(all.heldBytes).toBeGreaterThanOrEqual(unsent)
      }
      for (let turn = 0; sessions.some(({ client, asked }) => client.output.length < asked); turn++) {
        expect(turn, 'somebody stands still').toBeLessThan(2000)
        for (const { client, upstream, server } of sessions) {
          client.held = upstream.held = false
          client.flush()
          upstream.flush()
          server.answer(1)
        }
        await settled()
        await nextTurn()
      }
      for (const { client, upstream } of sessions) {
        client.flush()
        upstream.flush()
      }
      await settled()
      expect(all.heldBytes).toBe(0)
      for (const { relay } of sessions) relay.stop('test')
    }
    await fc.assert(fc.asyncProperty(plan, run), { numRuns: 40 })
  })
})

type PlanOf<Plan> = Plan extends fc.Arbitrary<infer Value> ? Value : never
