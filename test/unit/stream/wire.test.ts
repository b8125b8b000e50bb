import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Wire } from '../../../src/stream/wire.ts'
import { everySplit, FakeStream, hex, settled } from '../../support/bytes.ts'

const KiB64 = 64 * 1024

/** What a promise ends in: its value as text, or the code of its error. */
function outcome(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    value => (value instanceof Buffer ? value.toString('latin1') : value),
    (error: unknown) => (error instanceof Error && 'code' in error ? error.code : error),
  )
}

function wired(budgetMs = 1000): { stream: FakeStream; wire: Wire } {
  const stream = new FakeStream()
  return { stream, wire: new Wire(stream, budgetMs) }
}

describe('reads of a Wire', () => {
  it('are exact, however the bytes come', async () => {
    await everySplit(Buffer.from('abcdefghij'), async (chunks, how) => {
      const { stream, wire } = wired()
      stream.deliver(...chunks)
      const sizes = [1, 0, 4, 3]
      const read: string[] = []
      for (const size of sizes) read.push((await wire.read(size)).toString())
      expect(read, how).toEqual(['a', '', 'bcde', 'fgh'])
      await settled()
      expect(wire.bufferedBytes, how).toBe(2)
      expect(wire.rest().toString(), how).toBe('ij')
      expect([wire.bufferedBytes, wire.rest().length], how).toEqual([0, 0])
    })
  })

  it('wait for bytes that come later', async () => {
    const { stream, wire } = wired()
    const read = outcome(wire.read(4))
    for (const byte of ['a', 'b', 'c', 'd']) {
      await settled()
      stream.deliver(Buffer.from(byte))
    }
    expect(await read).toBe('abcd')
  })

  it('keep nothing of the stream’s memory, and give it back', async () => {
    const { stream, wire } = wired()
    const chunk = Buffer.from('abcd')
    stream.deliver(chunk)
    await settled()
    expect(stream.released).toEqual([chunk])
    chunk.fill(0)
    expect(await outcome(wire.read(4))).toBe('abcd')
  })

  it('end in null when the peer ends between two messages, and in TRUNCATED inside one, at every cut', async () => {
    for (let size = 0; size <= 4; size++) {
      const { stream, wire } = wired()
      stream.deliver(Buffer.from('abcd'.slice(0, size)))
      stream.peerEnds()
      await settled()
      const expected = size === 0 ? null : size === 4 ? 'abcd' : 'TRUNCATED'
      expect(await outcome(wire.readOrEnd(4))).toBe(expected)
      if (size === 0) expect(await outcome(wire.read(4))).toBe('TRUNCATED')
    }
  })

  it('end in CLOSED when the stream is lost, with the reason', async () => {
    const { stream, wire } = wired()
    const reset = new Error('ECONNRESET')
    const read = wire.read(4).catch((error: unknown) => error)
    await settled()
    stream.close(reset)
    expect(await read).toMatchObject({ name: 'StreamError', code: 'CLOSED', cause: reset })
    expect(await outcome(wire.read(1))).toBe('CLOSED')
    expect(await outcome(wire.write(hex('00')))).toBe('CLOSED')
  })

  it('still give what came before the stream was lost', async () => {
    const { stream, wire } = wired()
    stream.deliver(Buffer.from('ab'))
    await settled()
    stream.close()
    expect(await outcome(wire.read(2))).toBe('ab')
    expect(await outcome(wire.read(1))).toBe('CLOSED')
  })
})

describe('reading ahead', () => {
  it('stops above 64 KiB and goes on when somebody reads', async () => {
    const { stream, wire } = wired()
    stream.deliver(Buffer.alloc(KiB64))
    await settled()
    expect(stream.paused).toBe(false)
    stream.deliver(Buffer.alloc(1), Buffer.alloc(1000))
    await settled()
    expect([stream.paused, wire.bufferedBytes]).toEqual([true, KiB64 + 1])
    await wire.read(KiB64)
    expect(stream.paused).toBe(true)
    await wire.read(2)
    expect([stream.paused, wire.bufferedBytes]).toEqual([false, 999])
  })

  it('does not keep a message longer than that from being read', async () => {
    const { stream, wire } = wired()
    const read = wire.read(5 * KiB64)
    for (let at = 0; at < 5; at++) stream.deliver(Buffer.alloc(KiB64, at))
    expect((await read).at(-1)).toBe(4)
  })

  it('drains what nobody wants, in pieces, and is in step afterwards', async () => {
    const { stream, wire } = wired()
    const chunks = Array.from({ length: 17 }, () => Buffer.alloc(KiB64))
    stream.deliver(...chunks, Buffer.from('next'))
    await wire.drain(17 * KiB64)
    expect(await outcome(wire.read(4))).toBe('next')
    await wire.drain(0)
  })

  it('drains to the end and no further: TRUNCATED', async () => {
    const { stream, wire } = wired()
    stream.deliver(Buffer.alloc(100))
    stream.peerEnds()
    expect(await outcome(wire.drain(101))).toBe('TRUNCATED')
  })
})

describe('writes of a Wire', () => {
  it('wait for a peer that does not read, above 64 KiB, until it has', async () => {
    const { stream, wire } = wired()
    stream.held = true
    expect(await outcome(wire.write(Buffer.alloc(KiB64)))).toBeUndefined()
    let written = false
    const write = wire.write(hex('aa')).then(() => (written = true))
    await settled()
    expect(written).toBe(false)
    stream.flush()
    await write
    expect(stream.output).toHaveLength(KiB64 + 1)
  })

  it('end in CLOSED when the peer goes instead', async () => {
    const { stream, wire } = wired()
    stream.held = true
    const write = outcome(wire.write(Buffer.alloc(KiB64 + 1)))
    await settled()
    stream.close()
    expect(await write).toBe('CLOSED')
  })
})

describe('the budget of a Wire', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it('is one for all reads: a byte now and then does not stretch it', async () => {
    const { stream, wire } = wired(100)
    const ended: unknown[] = []
    const read = outcome(wire.read(1000)).then(end => ended.push(end))
    for (let sent = 0; sent < 9; sent++) {
      stream.deliver(hex('00'))
      await vi.advanceTimersByTimeAsync(11)
    }
    expect(ended).toEqual([])
    await vi.advanceTimersByTimeAsync(1)
    await read
    expect(ended).toEqual(['TIMEOUT'])
  })

  it('is spent by writes as well', async () => {
    const { stream, wire } = wired(100)
    stream.held = true
    const write = outcome(wire.write(Buffer.alloc(KiB64 + 1)))
    await vi.advanceTimersByTimeAsync(99)
    stream.flush()
    expect(await write).toBeUndefined()
    const read = outcome(wire.read(1))
    await vi.advanceTimersByTimeAsync(1)
    expect(await read).toBe('TIMEOUT')
  })

  it('does not count the time between two reads, which is ours', async () => {
    const { stream, wire } = wired(100)
    await vi.advanceTimersByTimeAsync(1000)
    const read = outcome(wire.read(1))
    await vi.advanceTimersByTimeAsync(99)
    stream.deliver(Buffer.from('a'))
    expect(await read).toBe('a')
  })

  it('is not spent by bytes that are there', async () => {
    const { stream, wire } = wired(0)
    stream.deliver(Buffer.from('ab'))
    await settled()
    expect(await outcome(wire.read(2))).toBe('ab')
  })

  it('allows no further wait when it is used up, also for a peer that keeps sending', async () => {
    vi.useRealTimers()
    const { stream, wire } = wired(0)
    const read = outcome(wire.read(50))
    for (let sent = 0; sent < 50; sent++) {
      stream.deliver(hex('00'))
      await settled()
    }
    expect(await read).toBe('TIMEOUT')
  })

  it('leaves no timer behind', async () => {
    const { stream, wire } = wired(100)
    const read = wire.read(1)
    await settled()
    stream.deliver(hex('00'))
    await read
    expect(vi.getTimerCount()).toBe(0)
  })
})
