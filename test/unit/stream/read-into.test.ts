// Accepted sockets and TLS read into the pool's buffers: that they do, on the Node that runs, and that nothing is lost by it.
import { once } from 'node:events'
import { afterEach, describe, expect, it } from 'vitest'
import { giveBuffer, MEDIUM_BYTES, SMALL_BYTES, takeWhole } from '../../../src/stream/buffer-pool.ts'
import { DuplexStream } from '../../../src/stream/duplex-stream.ts'
import { readInto } from '../../../src/stream/read-into.ts'
import { nextTurn } from '../../support/bytes.ts'
import { type SocketPair, tcpPair, tlsPair } from '../../support/socket-pairs.ts'

const open: { destroy(): void }[] = []

afterEach(() => {
  for (const each of open.splice(0)) each.destroy()
})

/** A pair that is closed when the test is over. */
const closing = (make: () => Promise<SocketPair>) => async (): Promise<SocketPair> => {
  const pair = await make()
  open.push(pair.near, pair.far)
  return pair
}
const overTcp = closing(tcpPair)
const overTls = closing(tlsPair)

describe.each([
  ['an accepted socket', overTcp, MEDIUM_BYTES],
  ['TLS', overTls, SMALL_BYTES],
] as const)('%s', (_name, pair, payloadBytes) => {
  it('brings megabytes through the pool whole and in order, and its end behind them, however its reader pauses', async () => {
    const { near, far } = await pair()
    const stream = new DuplexStream(near)
    const sent = Buffer.alloc(3 << 20, 'abcdefghijk')
    far.end(sent)
    const parts: Buffer[] = []
    const memories = new Set<ArrayBufferLike>()
    let turns = 0
    await new Promise<void>(resolve => {
      const data = (chunk: Buffer): void => {
        parts.push(Buffer.from(chunk))
        memories.add(chunk.buffer)
        chunk.fill(0)
        stream.release(chunk)
        if (++turns % 3 !== 0) return
        stream.pause()
        setImmediate(() => stream.resume())
      }
      const sink = { data, ended: resolve, closed: () => resolve(), drained: () => {} }
      // Payloads and requests in turn.
      stream.start(sink, () => (turns % 5 === 0 ? 0 : 1000))
    })
    expect(Buffer.concat(parts).equals(sent)).toBe(true)
    stream.destroy()
    await once(near, 'close')
    const free = Array.from({ length: 128 }, () => takeWhole(payloadBytes))
    const pooled = free.filter(({ buffer }) => memories.has(buffer))
    for (const buffer of free) giveBuffer(buffer)
    // It is the same memory again and again.
    expect(pooled.length).toBeGreaterThan(0)
    expect(pooled.length).toBeLessThan(20)
  })

  it('brings first what had been read when nobody had said what to expect', async () => {
    const { near, far } = await pair()
    const stream = new DuplexStream(near)
    const words: string[] = []
    const text = (): string => words.join('')
    const closed = (): void => {}
    const sink = { data: (chunk: Buffer) => void words.push(String(chunk)), ended: closed, closed, drained: closed }
    far.write('one ')
    stream.start(sink)
    await expect.poll(text).toBe('one ')
    stream.pause()
    far.write('two ')
    await expect.poll(() => near.bytesRead >= 8 && near.readableLength > 0).toBe(true)
    stream.start(sink, () => 0)
    far.write('three')
    await expect.poll(text).toBe('one two three')
  })

  it('gives little in memory of its own, which stays as it is', async () => {
    const { near, far } = await pair()
    const stream = new DuplexStream(near)
    const chunks: Buffer[] = []
    const nothing = (): void => {}
    stream.start({ data: chunk => void chunks.push(chunk), ended: nothing, closed: nothing, drained: nothing }, () => 0)
    for (const word of ['first', 'second']) {
      far.write(word)
      await expect.poll(() => String(chunks.at(-1))).toBe(word)
    }
    expect(chunks.map(String)).toEqual(['first', 'second'])
  })

  it('ends when its peer is gone, with the buffer that waited given back', async () => {
    const { near, far } = await pair()
    const stream = new DuplexStream(near)
    const events: string[] = []
    const sink = {
      data: () => {},
      ended: () => void events.push('ended'),
      closed: () => void events.push('closed'),
      drained: () => {},
    }
    stream.start(sink, () => 0)
    far.end()
    await expect.poll(() => events).toEqual(['ended'])
    stream.end()
    await expect.poll(() => events).toEqual(['ended', 'closed'])
    stream.resume()
    await nextTurn()
    expect(events).toEqual(['ended', 'closed'])
  })
})

describe('readInto', () => {
  it('leaves alone what is not as it knows it: a socket that is gone, and one that reads into memory already', async () => {
    const { near } = await overTcp()
    const next = (): Buffer => Buffer.alloc(10)
    expect(readInto(near, next, () => true)).toBe(true)
    expect(readInto(near, next, () => true)).toBe(false)
    const { near: gone } = await overTcp()
    gone.destroy()
    expect(readInto(gone, next, () => true)).toBe(false)
  })
})
