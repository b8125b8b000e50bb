import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Duplex, PassThrough } from 'node:stream'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  giveBuffer,
  HEADROOM_BYTES,
  joinWhole,
  LARGE_BYTES,
  MEDIUM_BYTES,
  SMALL_BYTES,
  TINY_BYTES,
  takeBuffer,
} from '../../../src/stream/buffer-pool.ts'

import type { ByteSink, ByteStream } from '../../../src/stream/byte-stream.ts'
import { DuplexStream } from '../../../src/stream/duplex-stream.ts'
import { PooledSocket } from '../../../src/stream/pooled-socket.ts'
import { nextTurn } from '../../support/bytes.ts'

/** Notes what a stream delivers; resolves when it says that it has ended, closed, or brought `size` bytes. */
class Notes implements ByteSink {
  text = ''
  readonly events: string[] = []
  error: Error | undefined
  readonly #stream: ByteStream
  #wake: () => void = () => {}

  constructor(stream: ByteStream) {
    this.#stream = stream
  }

  data(chunk: Buffer): void {
    this.text += chunk.toString('latin1')
    this.#stream.release(chunk)
    this.#wake()
  }

  ended(): void {
    this.#note('ended')
  }

  closed(error?: Error): void {
    this.error = error
    this.#note('closed')
  }

  drained(): void {
    this.#note('drained')
  }

  async until(done: () => boolean): Promise<void> {
    while (!done()) await new Promise<void>(resolve => (this.#wake = resolve))
  }

  #note(event: string): void {
    this.events.push(event)
    this.#wake()
  }
}

function noting(stream: ByteStream): Notes {
  const notes = new Notes(stream)
  stream.start(notes)
  return notes
}

describe('the buffer pool', () => {
  it('gives a tiny buffer for nothing, a small one for little and a large one for much, with headroom in front', () => {
    for (const [expected, size] of [
      [0, TINY_BYTES],
      [1, SMALL_BYTES],
      [SMALL_BYTES - HEADROOM_BYTES, SMALL_BYTES],
      [SMALL_BYTES - HEADROOM_BYTES + 1, LARGE_BYTES],
      [1 << 30, LARGE_BYTES],
    ] as const) {
      const buffer = takeBuffer(expected)
      expect([buffer.buffer.byteLength, buffer.byteOffset]).toEqual([size, HEADROOM_BYTES])
      expect(buffer.length).toBe(expected === 0 ? size - HEADROOM_BYTES : Math.min(expected, size - HEADROOM_BYTES))
      giveBuffer(buffer)
    }
  })

  it('gives the same memory again once any part of it was given back, and never twice at a time', () => {
    for (const expected of [0, 1, LARGE_BYTES]) {
      const first = takeBuffer(expected)
      const second = takeBuffer(expected)
      expect(second.buffer).not.toBe(first.buffer)
      giveBuffer(first.subarray(7, 9))
      giveBuffer(first)
      const third = takeBuffer(expected)
      expect(third.buffer).toBe(first.buffer)
      expect(takeBuffer(expected).buffer).not.toBe(first.buffer)
    }
  })

  it('joins buffers in memory of its own that fits, and elsewhere what is too much', () => {
    for (const [sizes, size] of [
      [[16, 4096, 20], TINY_BYTES],
      [[TINY_BYTES, 1], SMALL_BYTES],
      [[SMALL_BYTES, 1], MEDIUM_BYTES],
      [[MEDIUM_BYTES - 1, 1], MEDIUM_BYTES],
      [[MEDIUM_BYTES, 1], MEDIUM_BYTES + 1],
    ] as const) {
      const parts = sizes.map((bytes, at) => Buffer.alloc(bytes, at + 1))
      const joined = joinWhole(parts)
      expect(joined.equals(Buffer.concat(parts))).toBe(true)
      expect(joined.buffer.byteLength).toBe(size)
      expect(giveBuffer(joined)).toBe(size <= MEDIUM_BYTES)
    }
  })

  it('takes no memory that is not its own', () => {
    const foreign = Buffer.from(new ArrayBuffer(SMALL_BYTES))
    expect(giveBuffer(foreign)).toBe(false)
    expect(takeBuffer(1).buffer).not.toBe(foreign.buffer)
    expect(takeBuffer(50).buffer).not.toBe(foreign.buffer)
  })
})

describe('DuplexStream', () => {
  it('loses nothing that came before somebody took it', async () => {
    const duplex = new PassThrough()
    const stream = new DuplexStream(duplex)
    duplex.write('early ')
    await nextTurn()
    const notes = noting(stream)
    duplex.write('late')
    await notes.until(() => notes.text.length === 10)
    expect(notes.text).toBe('early late')
  })

  it('delivers nothing while it is paused', async () => {
    const duplex = new PassThrough()
    const stream = new DuplexStream(duplex)
    const notes = noting(stream)
    stream.pause()
    duplex.write('a')
    await nextTurn()
    expect(notes.text).toBe('')
    stream.resume()
    await notes.until(() => notes.text === 'a')
  })

  it('goes from one sink to the next, which is told of an end that the first has seen', async () => {
    const duplex = new PassThrough({ allowHalfOpen: true })
    const stream = new DuplexStream(duplex)
    const first = noting(stream)
    duplex.end('a')
    await first.until(() => first.events.includes('ended'))
    const second = noting(stream)
    await second.until(() => second.events.length > 0)
    expect(second.text).toBe('')
  })

  it('says once that it is closed, and why', async () => {
    const duplex = new PassThrough()
    const stream = new DuplexStream(duplex)
    const notes = noting(stream)
    const reset = new Error('ECONNRESET')
    duplex.destroy(reset)
    await notes.until(() => notes.events.includes('closed'))
    expect([notes.error, notes.events]).toEqual([reset, ['closed']])
    const late = noting(stream)
    await late.until(() => late.events.includes('closed'))
    expect(late.events).toEqual(['closed'])
  })

  it('calls `sent` in order, also when it has died', async () => {
    const stuck: (() => void)[] = []
    const duplex = new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => void stuck.push(done) })
    const stream = new DuplexStream(duplex)
    noting(stream)
    const sent: number[] = []
    for (const at of [1, 2]) stream.write(Buffer.alloc(100), () => sent.push(at))
    expect(stream.unsentBytes).toBe(200)
    stream.destroy()
    stream.write(Buffer.alloc(1), () => sent.push(3))
    stuck.shift()?.()
    await nextTurn()
    expect(sent).toEqual([1, 2, 3])
  })

  it('hands its Duplex on without a byte being lost', async () => {
    const duplex = new PassThrough()
    const stream = new DuplexStream(duplex)
    const notes = noting(stream)
    expect(stream.detach()).toBe(duplex)
    duplex.write('hello')
    await nextTurn()
    expect([notes.text, duplex.read()?.toString()]).toEqual(['', 'hello'])
    expect(() => duplex.emit('error', new Error('reset'))).not.toThrow()
  })
})

describe('PooledSocket', () => {
  let folder = ''
  let path = ''
  let server: Server
  const open: { destroy(): void }[] = []

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'nbdgate-'))
    path = join(folder, 'sock')
  })

  afterEach(async () => {
    for (const socket of open.splice(0)) socket.destroy()
    await new Promise(resolve => server.close(resolve))
    await rm(folder, { recursive: true })
  })

  const connected = async (serve: (socket: Socket) => void): Promise<PooledSocket> => {
    server = createServer({ allowHalfOpen: true }, socket => {
      open.push(socket)
      serve(socket)
    })
    await new Promise<void>(resolve => server.listen(path, resolve))
    const stream = new PooledSocket({ path })
    open.push(stream)
    await stream.connected(AbortSignal.timeout(5000))
    return stream
  }

  it('loses no byte that comes between connecting and start', async () => {
    let greeted: () => void = () => {}
    const greeting = new Promise<void>(resolve => (greeted = resolve))
    const stream = await connected(socket => socket.write('greeting', () => greeted()))
    await greeting
    // Many turns of the event loop: enough for bytes in the kernel to be read by whoever reads.
    for (let turn = 0; turn < 50; turn++) await nextTurn()
    const notes = noting(stream)
    await notes.until(() => notes.text === 'greeting')
  })

  it('tells a second sink of an end that the first one has seen', async () => {
    const stream = await connected(socket => socket.end('x'))
    const first = noting(stream)
    await first.until(() => first.events.includes('ended'))
    const second = noting(stream)
    await second.until(() => second.events.includes('ended'))
    expect([first.text, second.text]).toEqual(['x', ''])
  })

  it('brings megabytes through its pooled buffers whole and in order, with pauses', async () => {
    const sent = Buffer.alloc(3 << 20, 'abcdefghijk')
    const stream = await connected(socket => socket.end(sent))
    const parts: Buffer[] = []
    await new Promise<void>(resolve => {
      stream.start(
        {
          data: chunk => {
            parts.push(Buffer.from(chunk))
            chunk.fill(0)
            stream.release(chunk)
            stream.pause()
            setImmediate(() => stream.resume())
          },
          ended: resolve,
          closed: () => resolve(),
          drained: () => {},
        },
        () => sent.length,
      )
    })
    expect(Buffer.concat(parts).equals(sent)).toBe(true)
  })

  it('echoes what is written, and half-closes', async () => {
    const stream = await connected(socket => void socket.pipe(socket))
    const notes = noting(stream)
    stream.cork()
    stream.write(Buffer.from('ab'))
    stream.write(Buffer.from('cd'))
    stream.uncork()
    stream.end()
    await notes.until(() => notes.events.includes('closed'))
    expect([notes.text, notes.events, notes.error]).toEqual(['abcd', ['ended', 'closed'], undefined])
  })

  it('rejects where nobody listens, with the system’s code', async () => {
    server = createServer()
    const stream = new PooledSocket({ path: join(folder, 'nobody') })
    await expect(stream.connected(AbortSignal.timeout(5000))).rejects.toMatchObject({ code: 'ENOENT' })
  })
})
