/**
 * Whole conversations over upstreams that die anywhere: the client must not notice, and its disk must be what its writes
 * have made of it.
 */
import fc from 'fast-check'
import { afterEach, expect, it, vi } from 'vitest'
import type { Way } from '../../../src/relay/resumer.ts'
import { FakeStream, nextTurn, settled } from '../../support/bytes.ts'
import { chunk, FLUSH, READ, request, simpleReply, WRITE } from './messages.ts'
import { relaying } from './session.ts'

/** What is read is behind what is written: a read may find what a write that is under way has or has not written. */
const WRITTEN_BYTES = 32
const DISK_BYTES = 64
const CONTENT = Buffer.from(Array.from({ length: DISK_BYTES }, (_, at) => (at < WRITTEN_BYTES ? 0 : at)))
const [DATA, NONE] = [1, 0]

afterEach(() => {
  vi.useRealTimers()
})

interface Ask {
  readonly type: number
  readonly cookie: bigint
  readonly offset: number
  readonly length: number
  readonly payload: Buffer
}

/** Requests in bytes that may end in the middle of one. */
function asksIn(bytes: Buffer): readonly Ask[] {
  const asks: Ask[] = []
  for (let at = 0; at + 28 <= bytes.length; ) {
    const [type, length] = [bytes.readUInt16BE(at + 6), bytes.readUInt32BE(at + 24)]
    const end = at + 28 + (type === WRITE ? length : 0)
    if (end > bytes.length) break
    const offset = Number(bytes.readBigUInt64BE(at + 16))
    asks.push({ type, cookie: bytes.readBigUInt64BE(at + 8), offset, length, payload: bytes.subarray(at + 28, end) })
    at = end
  }
  return asks
}

/** A server over a disk that outlives it, which keeps what it has acknowledged; its replies come in pieces. */
class Server {
  readonly stream: FakeStream
  readonly #disk: Buffer
  readonly #structured: boolean
  #done = 0

  constructor(disk: Buffer, structured: boolean, stream = new FakeStream()) {
    this.stream = stream
    this.#disk = disk
    this.#structured = structured
  }

  /** Does what it has been asked for, and delivers `bytes` of what it says; all without it. */
  work(bytes?: number): void {
    const asks = asksIn(this.stream.output)
    const replies = asks.slice(this.#done).map(ask => this.#reply(ask))
    this.#done = asks.length
    const said = Buffer.concat(replies)
    const part = said.subarray(0, bytes)
    if (part.length > 0) this.stream.deliver(Buffer.from(part))
  }

  #reply({ type, cookie, offset, length, payload }: Ask): Buffer {
    if (type === WRITE) payload.copy(this.#disk, offset)
    if (type !== READ) return simpleReply(cookie)
    const data = this.#disk.subarray(offset, offset + length)
    if (!this.#structured) return simpleReply(cookie, 0, data.toString('hex'))
    const half = length >> 1
    const piece = (from: number, to: number): Buffer =>
      chunk({
        type: DATA,
        cookie,
        payload: `${(offset + from).toString(16).padStart(16, '0')}${data.subarray(from, to).toString('hex')}`,
      })
    const pieces = half === 0 ? [piece(0, length)] : [piece(0, half), piece(half, length)]
    return Buffer.concat([...pieces, chunk({ type: NONE, flags: 1, cookie })])
  }
}

/** What a client has been told of its requests: data of READs, by cookie; each reply has to come once. */
function answersIn(bytes: Buffer, asked: ReadonlyMap<bigint, Ask>): ReadonlyMap<bigint, Buffer> {
  const answers = new Map<bigint, Buffer>()
  const parts = new Map<bigint, Buffer>()
  for (let at = 0; at < bytes.length; ) {
    const cookie = bytes.readBigUInt64BE(at + 8)
    const ask = asked.get(cookie)
    if (ask === undefined || answers.has(cookie)) throw new Error(`an answer too many to ${cookie}`)
    if (bytes.readUInt32BE(at) === 0x67446698) {
      // What was acknowledged and not flushed might have been lost, for all that the gateway knows.
      if (ask.type !== FLUSH || bytes.readUInt32BE(at + 4) !== 5) expect(bytes.readUInt32BE(at + 4)).toBe(0)
      const end = at + 16 + (ask.type === READ ? ask.length : 0)
      answers.set(cookie, bytes.subarray(at + 16, end))
      at = end
      continue
    }
    const [flags, type, length] = [bytes.readUInt16BE(at + 4), bytes.readUInt16BE(at + 6), bytes.readUInt32BE(at + 16)]
    const data = parts.get(cookie) ?? Buffer.alloc(ask.length, '??')
    parts.set(cookie, data)
    if (type === DATA) bytes.copy(data, Number(bytes.readBigUInt64BE(at + 20)) - ask.offset, at + 28, at + 20 + length)
    if ((flags & 1) !== 0) answers.set(cookie, data)
    at += 20 + length
  }
  return answers
}

const op = fc.record({
  type: fc.constantFrom(READ, WRITE, FLUSH),
  at: fc.nat(WRITTEN_BYTES - 8),
  length: fc.integer({ min: 1, max: 8 }),
  fill: fc.nat(255),
})
const step = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('ask' as const),
      ops: fc.array(op, { minLength: 1, maxLength: 4 }),
      cut: fc.nat(200),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('work' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('die' as const), bytes: fc.nat(120) }) },
)

it('is not noticed by a client, wherever an upstream dies that keeps what it has acknowledged', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), fc.boolean(), async (steps, structured) => {
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
      const disk = Buffer.from(CONTENT)
      const dial = async (): Promise<Way> => {
        server = new Server(disk, structured)
        return { stream: server.stream, contextIds: new Map() }
      }
      const resume = { dial, limitMs: 60_000, replayBytes: 0, tell: () => {} }
      const kinds = { client: structured, upstream: structured }
      const session = relaying({ sizeBytes: BigInt(DISK_BYTES), structured: kinds, resume })
      let server = new Server(disk, structured, session.upstream)
      const wanted = Buffer.from(CONTENT)
      const asked = new Map<bigint, Ask>()
      const tick = async (): Promise<void> => {
        await settled()
        await vi.advanceTimersByTimeAsync(1)
        await nextTurn()
        await settled()
      }
      let rest = Buffer.alloc(0)
      let cookie = 0n
      for (const each of steps) {
        if (each.kind === 'ask') {
          const parts = each.ops.map(({ type, at, length, fill }) => {
            cookie++
            const offset = type === READ ? WRITTEN_BYTES + at : at
            const isFlush = type === FLUSH
            const payload = type === WRITE ? Buffer.alloc(length, fill) : Buffer.alloc(0)
            payload.copy(wanted, offset)
            asked.set(cookie, { type, cookie, offset, length, payload })
            const where = isFlush ? {} : { offset: BigInt(offset), length }
            return request({ type, cookie, ...where, payload: payload.toString('hex') })
          })
          const all = Buffer.concat([rest, ...parts])
          const cut = Math.min(each.cut, all.length)
          if (cut > 0) session.client.deliver(Buffer.from(all.subarray(0, cut)))
          rest = Buffer.from(all.subarray(cut))
          await tick()
        } else if (each.kind === 'work') {
          server.work()
          await tick()
        } else {
          server.work(each.bytes)
          await settled()
          server.stream.close()
          for (let turn = 0; turn < 6; turn++) {
            await tick()
            // What is asked before the session goes on is answered at once.
            server.work()
          }
          await vi.advanceTimersByTimeAsync(30_000)
        }
      }
      if (rest.length > 0) session.client.deliver(rest)
      for (let turn = 0; turn < 8; turn++) {
        await tick()
        server.work()
      }
      await tick()
      const answers = answersIn(session.client.output, asked)
      expect([...asked.keys()].filter(each => !answers.has(each))).toEqual([])
      for (const { type, cookie: each, offset, length } of asked.values()) {
        if (type === READ) expect(answers.get(each)).toEqual(CONTENT.subarray(offset, offset + length))
      }
      expect(session.relay.inFlight).toBe(0)
      expect(disk).toEqual(wanted)
      session.relay.stop('test')
      await session.end
      vi.useRealTimers()
    }),
    { numRuns: 300 },
  )
})
