import { expect, it, vi } from 'vitest'
import type { ByteSink } from '../../../src/stream/byte-stream.ts'
import type { GatedStream } from '../../../src/stream/write-gate.ts'
import { Spread } from '../../../src/upstreams/spread.ts'
import { FakeStream, hex, settled } from '../../support/bytes.ts'

const READ = 0
const WRITE = 1
const DISC = 2
const FLUSH = 3

class GatedFake extends FakeStream implements GatedStream {
  mayWrite: () => boolean = () => true

  gate(mayWrite: () => boolean): void {
    this.mayWrite = mayWrite
  }

  /** As a channel of SSH does: what its connection holds may not go either. */
  override destroy(): void {
    this.mayWrite()
    super.destroy()
  }
}

function request(type: number, cookie: number, length: number, payload = type === WRITE ? length : 0): Buffer {
  const bytes = Buffer.alloc(28 + payload, cookie)
  bytes.fill(0, 0, 28)
  bytes.writeUInt32BE(0x2560_9513, 0)
  bytes.writeUInt16BE(type, 6)
  bytes.writeUInt32BE(5, 8)
  bytes.writeUInt32BE(cookie, 12)
  bytes.writeUInt32BE(length, 24)
  return bytes
}

function reply(cookie: number, data = 0, error = 0): Buffer {
  const bytes = Buffer.alloc(16 + data, cookie)
  bytes.writeUInt32BE(0x6744_6698, 0)
  bytes.writeUInt32BE(error, 4)
  bytes.writeUInt32BE(5, 8)
  bytes.writeUInt32BE(cookie, 12)
  return bytes
}

function opened(count: number) {
  const streams = Array.from({ length: count }, () => new GatedFake())
  const spread = new Spread(streams, false)
  const received: Buffer[] = []
  const sink = {
    data: vi.fn((chunk: Buffer) => void received.push(Buffer.from(chunk))),
    ended: vi.fn(),
    closed: vi.fn(),
    drained: vi.fn(),
  } satisfies ByteSink
  spread.start(sink)
  const [first = new GatedFake(), second = new GatedFake(), third = new GatedFake()] = streams
  return { spread, streams, first, second, third, sink, all: () => Buffer.concat(received) }
}

it('sends each request whole, by the connection that has least to do, without copying its payload', () => {
  const { spread, first, second } = opened(2)
  const requests = [request(WRITE, 1, 100), request(WRITE, 2, 300), request(READ, 3, 50), request(READ, 4, 10)]
  const chunk = Buffer.concat(requests)
  spread.write(chunk)
  expect(first.output).toEqual(Buffer.concat([request(WRITE, 1, 100), request(READ, 3, 50), request(READ, 4, 10)]))
  expect(second.output).toEqual(request(WRITE, 2, 300))
  expect([...first.writes, ...second.writes].every(piece => piece.buffer === chunk.buffer)).toBe(true)
})

it('sends the same requests, whole, however they are cut', () => {
  const requests = [
    request(WRITE, 1, 5),
    request(READ, 2, 50),
    request(WRITE, 3, 7),
    request(FLUSH, 4, 0),
    request(READ, 5, 1),
  ]
  const chunk = Buffer.concat(requests)
  const whole = opened(2)
  whole.spread.write(chunk)
  for (let cut = 1; cut < chunk.length; cut++) {
    const { spread, first, second } = opened(2)
    spread.write(Buffer.from(chunk.subarray(0, cut)))
    spread.write(Buffer.from(chunk.subarray(cut)))
    expect(first.output, `cut at ${cut}`).toEqual(whole.first.output)
    expect(second.output, `cut at ${cut}`).toEqual(whole.second.output)
  }
})

it('tells that bytes have left in the order of the writes, and not before all of them have', async () => {
  const { spread, first, second } = opened(2)
  first.held = second.held = true
  const told: number[] = []
  spread.write(Buffer.concat([request(WRITE, 1, 10), request(WRITE, 2, 10)]), () => told.push(1))
  spread.write(request(READ, 3, 10), () => told.push(2))
  first.flush()
  await settled()
  expect(told).toEqual([])
  second.flush()
  await settled()
  expect(told).toEqual([1, 2])
})

it('joins replies unit by unit, whatever way they arrive in', async () => {
  let seed = 1
  const random = (below: number): number => {
    seed = (seed * 48_271) % 0x7fff_ffff
    return seed % below
  }
  for (let round = 0; round < 20; round++) {
    const { spread, streams, all, sink } = opened(3)
    const lengths = Array.from({ length: 60 }, () => 1 + random(200))
    for (const [cookie, length] of lengths.entries()) spread.write(request(READ, cookie + 1, length))
    const arriving = streams.map(({ output }) => {
      const heads = Array.from({ length: output.length / 28 }, (_, at) => output.subarray(at * 28, at * 28 + 28))
      return Buffer.concat(heads.map(head => reply(head.readUInt32BE(12), head.readUInt32BE(24))))
    })
    const ats = arriving.map(() => 0)
    while (arriving.some((bytes, lane) => (ats[lane] ?? 0) < bytes.length)) {
      const lane = random(3)
      const at = ats[lane] ?? 0
      ats[lane] = at + 1 + random(300)
      const piece = Buffer.from(arriving[lane]?.subarray(at, ats[lane]) ?? [])
      if (piece.length > 0) streams[lane]?.deliver(piece)
      if (random(4) === 0) spread.pause()
      if (random(3) === 0) spread.resume()
      await Promise.resolve()
    }
    spread.resume()
    await settled()
    const joined = all()
    const seen = new Set<number>()
    for (let at = 0; at < joined.length; ) {
      const cookie = joined.readUInt32BE(at + 12)
      const length = lengths[cookie - 1] ?? 0
      expect(joined.subarray(at, at + 16 + length).equals(reply(cookie, length))).toBe(true)
      seen.add(cookie)
      at += 16 + length
    }
    expect(seen.size).toBe(60)
    expect(sink.closed).not.toHaveBeenCalled()
  }
})

it('reads a connection no further than half a MiB ahead of the others, and passes on a large reply all the same', async () => {
  const { spread, first, second, all } = opened(2)
  const large = 1024 * 1024
  spread.write(Buffer.concat([request(READ, 1, large), request(READ, 2, large)]))
  const [one, other] = [reply(1, large), reply(2, large)]
  first.deliver(Buffer.from(one.subarray(0, 600_000)))
  await settled()
  expect(all().length).toBe(600_000)
  second.deliver(Buffer.from(other.subarray(0, 600_000)))
  await settled()
  expect([first.paused, second.paused]).toEqual([false, true])
  second.deliver(Buffer.from(other.subarray(600_000)))
  first.deliver(Buffer.from(one.subarray(600_000)))
  await settled()
  expect(all().equals(Buffer.concat([one, other]))).toBe(true)
  expect(second.paused).toBe(false)
})

it('holds what arrives while nobody takes it, up to a limit, and delivers it later', async () => {
  const { spread, first, all } = opened(2)
  const large = 1024 * 1024
  spread.write(request(READ, 1, large))
  await settled()
  spread.pause()
  const bytes = reply(1, large)
  for (let at = 0; at < bytes.length; at += 65_536) first.deliver(Buffer.from(bytes.subarray(at, at + 65_536)))
  await settled()
  expect(all()).toHaveLength(0)
  expect(first.paused).toBe(true)
  spread.resume()
  await settled()
  expect(all().equals(bytes)).toBe(true)
})

it('flushes by all connections, and answers when all have, with the error of one', async () => {
  const { spread, first, second, third, all } = opened(3)
  spread.write(request(FLUSH, 7, 0))
  for (const stream of [first, second, third]) expect(stream.output).toEqual(request(FLUSH, 7, 0))
  first.deliver(reply(7))
  third.deliver(reply(7, 0, 28))
  await settled()
  expect(all()).toHaveLength(0)
  second.deliver(reply(7))
  await settled()
  expect(all()).toEqual(hex('67446698 0000001c 00000005 00000007'))
})

it('says goodbye by all connections, and is closed when all are', async () => {
  const { spread, streams, first, second, sink } = opened(2)
  spread.write(request(DISC, 0, 0))
  spread.end()
  for (const stream of streams) expect(stream.output).toEqual(request(DISC, 0, 0))
  first.peerEnds()
  await settled()
  expect(sink.closed).not.toHaveBeenCalled()
  second.peerEnds()
  await settled()
  expect(sink.ended).toHaveBeenCalledOnce()
  expect(sink.closed).toHaveBeenCalledOnce()
  expect(sink.closed).toHaveBeenCalledWith(undefined)
})

it('ends when one connection dies, after the others have done what they were asked for, with nothing more sent', async () => {
  const { spread, first, second, sink, all } = opened(2)
  spread.write(Buffer.concat([request(WRITE, 1, 10), request(WRITE, 2, 10)]))
  await settled()
  const error = new Error('reset')
  first.close(error)
  await settled()
  expect(second.destroyed).toBe(false)
  expect(sink.closed).not.toHaveBeenCalled()
  const sent = vi.fn()
  spread.write(request(WRITE, 3, 10), sent)
  await settled()
  expect(second.output).toEqual(request(WRITE, 2, 10))
  expect(sent).toHaveBeenCalledOnce()
  second.deliver(reply(2))
  await settled()
  expect(all()).toEqual(reply(2))
  expect(second.destroyed).toBe(true)
  expect(sink.closed).toHaveBeenCalledExactlyOnceWith(error)
})

it('does not wait for ever for the others', async () => {
  vi.useFakeTimers()
  try {
    const { spread, first, second } = opened(2)
    spread.write(Buffer.concat([request(WRITE, 1, 10), request(WRITE, 2, 10)]))
    first.close()
    await vi.advanceTimersByTimeAsync(4999)
    expect(second.destroyed).toBe(false)
    await vi.advanceTimersByTimeAsync(1)
    expect(second.destroyed).toBe(true)
  } finally {
    vi.useRealTimers()
  }
})

it('passes on nothing behind a reply that was cut off', async () => {
  const { spread, first, second, sink, all } = opened(2)
  spread.write(Buffer.concat([request(READ, 1, 100), request(READ, 2, 10)]))
  second.deliver(reply(2, 10))
  await settled()
  first.deliver(reply(1, 100).subarray(0, 50))
  await settled()
  spread.write(request(READ, 3, 10))
  first.close()
  second.deliver(reply(3, 10))
  await settled()
  expect(all()).toEqual(Buffer.concat([reply(2, 10), reply(1, 100).subarray(0, 50)]))
  expect(sink.closed).toHaveBeenCalledOnce()
})

it('ends all connections when one of them answers what nobody asked', async () => {
  const { first, second, sink, all } = opened(2)
  first.deliver(reply(9))
  await settled()
  expect([first.destroyed, second.destroyed]).toEqual([true, true])
  expect(all()).toHaveLength(0)
  expect(sink.closed).toHaveBeenCalledExactlyOnceWith(expect.objectContaining({ code: 'UNKNOWN_COOKIE' }))
})

it('ends all connections when the time to write is over', async () => {
  const { spread, streams, sink } = opened(3)
  let isOpen = true
  spread.gate(() => isOpen)
  expect(streams.map(stream => stream.mayWrite())).toEqual([true, true, true])
  isOpen = false
  expect(streams[1]?.mayWrite()).toBe(false)
  expect(streams.map(stream => stream.destroyed)).toEqual([true, true, true])
  await settled()
  expect(sink.closed).toHaveBeenCalledOnce()
})

it('asks for more when little is left to send in all, though no connection has sent all', () => {
  const { spread, first, second, sink } = opened(2)
  first.held = second.held = true
  for (const [cookie, length] of [2_000_000, 2_000_000, 100, 100].entries())
    spread.write(request(WRITE, cookie, length))
  first.flush(1)
  expect(sink.drained).not.toHaveBeenCalled()
  second.flush(1)
  expect([first.unsentBytes, second.unsentBytes]).toEqual([128, 128])
  expect(sink.drained).toHaveBeenCalledOnce()
  first.flush()
  second.flush()
  expect(sink.drained).toHaveBeenCalledTimes(2)
})
