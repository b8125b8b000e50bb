import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Framer, type Grammar, Verdict } from '../../../src/relay/framer.ts'
import { Bucket, Throttle } from '../../../src/relay/throttle.ts'
import { everySplit, settled } from '../../support/bytes.ts'
import { DISC, READ, request, simpleReply, TRIM, WRITE } from './messages.ts'
import { cookieAt, relaying } from './session.ts'

const TEN_SECONDS_MS = 10_000

describe('a budget', () => {
  it.each([
    ['many small requests', 4096, 1_000_000],
    ['requests that are larger than what a second brings', 3_000_000, 1_000_000],
    ['a rate of a few a second', 1, 7],
  ])('over ten seconds gives out its rate, for %s', (_title, size, perSecond) => {
    const bucket = new Bucket(perSecond, 0)
    let [taken, nowMs] = [0, 0]
    while (nowMs < TEN_SECONDS_MS) {
      const waitMs = bucket.waitMs(nowMs)
      nowMs += waitMs
      if (waitMs > 0 || nowMs >= TEN_SECONDS_MS) continue
      bucket.take(size)
      taken += size
    }
    const most = perSecond * 10 * 1.05
    expect(taken).toBeLessThanOrEqual(most + size)
    expect(taken).toBeGreaterThanOrEqual(perSecond * 10 * 0.95 - size)
  })

  it('that was not used for long gives out no more than a moment’s worth at once', () => {
    const bucket = new Bucket(1000, 0)
    let taken = 0
    for (; bucket.waitMs(3_600_000) === 0; taken++) bucket.take(1)
    expect(taken).toBe(100)
  })
})

describe('a throttle', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['performance', 'setTimeout', 'clearTimeout'] }))
  afterEach(() => void vi.useRealTimers())

  const bucket = (perSecond: number): Bucket => new Bucket(perSecond, performance.now())

  it('asks the budgets that a request is about, and takes from all of them or none', () => {
    const throttle = new Throttle()
    const [read, iops, both] = [bucket(1000), bucket(20), bucket(1000)]
    throttle.use([{ read, iops }, { read: both }])
    expect(throttle.admits(READ, 150)).toBe(true)
    expect(throttle.admits(READ, 1)).toBe(false)
    // 50 of each overdrawn at 1000 a second.
    expect(throttle.waitMs).toBeCloseTo(50)
    expect(throttle.admits(WRITE, 1 << 20)).toBe(true)
    expect(throttle.admits(TRIM, 1)).toBe(false)
    vi.advanceTimersByTime(60)
    expect(throttle.admits(READ, 1)).toBe(true)
    throttle.use([])
    for (let i = 0; i < 100; i++) expect(throttle.admits(READ, 1 << 20)).toBe(true)
  })

  it('lets requests pass one by one as their budget comes, in order, and DISC after them', async () => {
    const throttle = new Throttle()
    throttle.use([{ iops: bucket(10) }])
    const session = relaying({ throttle })
    const reads = [1n, 2n, 3n].map(offset => request({ type: READ, offset, length: 1 }))
    session.client.deliver(Buffer.concat([...reads, request({ type: DISC })]))
    session.client.peerEnds()
    await settled()
    const offsets = () => {
      const { output } = session.upstream
      return Array.from({ length: output.length / 28 }, (_, nth) => output.readBigUInt64BE(nth * 28 + 16))
    }
    expect(offsets()).toEqual([1n])
    expect(session.client.paused).toBe(true)
    // The second one overdraws what little there is after a moment.
    await vi.advanceTimersByTimeAsync(5)
    expect(offsets()).toEqual([1n, 2n])
    await vi.advanceTimersByTimeAsync(90)
    expect(offsets()).toEqual([1n, 2n])
    await vi.advanceTimersByTimeAsync(10)
    expect(offsets()).toEqual([1n, 2n, 3n])
    for (const at of [0, 28, 56])
      session.upstream.deliver(Buffer.concat([simpleReply(cookieAt(session, at)), Buffer.alloc(1)]))
    await settled()
    expect(session.client.ended).toBe(true)
    for (const stream of [session.client, session.upstream]) stream.close()
    expect(await session.end).toEqual({ kind: 'disconnected' })
  })

  it('holds a session that is stopped no longer', async () => {
    const throttle = new Throttle()
    throttle.use([{ write: bucket(1) }])
    const session = relaying({ throttle })
    const writes = [0, 1].map(() => request({ type: WRITE, length: 1, payload: '61' }))
    session.client.deliver(...writes)
    await settled()
    session.relay.stop('enough')
    await vi.advanceTimersByTimeAsync(6000)
    expect(await session.end).toEqual({ kind: 'stopped', reason: 'enough' })
    expect(session.upstream.output.length).toBe(29)
  })
})

describe('a message that has to wait', () => {
  /** Messages of a length byte and as many bytes; each is made to wait `times` times. */
  class Waiting implements Grammar {
    payloadBytes = 0
    readonly replacement = Buffer.alloc(0)
    #left: number
    readonly #times: number

    constructor(times: number) {
      this.#times = times
      this.#left = times
    }

    headBytes(): number {
      return 2
    }

    judge(bytes: Buffer, at: number): Verdict {
      if (this.#left > 0) {
        this.#left--
        return Verdict.WAIT
      }
      this.#left = this.#times
      this.payloadBytes = bytes.readUInt8(at + 1)
      return Verdict.KEEP
    }
  }

  it('and all behind it pass when they are fed again, at every cut', async () => {
    const bytes = Buffer.from('\x00\x03abc\x00\x00\x00\x01d', 'latin1')
    for (const times of [1, 2]) {
      await everySplit(bytes, (chunks, how) => {
        const out: Buffer[] = []
        const framer = new Framer(new Waiting(times), piece => out.push(Buffer.from(piece)))
        for (const chunk of chunks) {
          let used = framer.feed(chunk)
          while (framer.waiting) used += framer.feed(chunk.subarray(used))
          expect(used, how).toBe(chunk.length)
        }
        expect(Buffer.concat(out), how).toEqual(bytes)
        expect(framer.atBoundary, how).toBe(true)
      })
    }
  })
})
