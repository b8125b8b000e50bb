/**
 * Bytes for tests: hexadecimal as a person writes it, every way to cut a conversation, and streams without a socket.
 */
import type { ByteSink, ByteStream } from '../../src/stream/byte-stream.ts'

/** Bytes of hexadecimal text; blanks and line ends are for the reader. @throws Error for anything else */
export function hex(...parts: readonly string[]): Buffer {
  const digits = parts.join('').replace(/\s+/g, '')
  if (!/^([0-9a-f]{2})*$/i.test(digits)) throw new Error(`not hexadecimal: ${digits}`)
  return Buffer.from(digits, 'hex')
}

/**
 * Calls `run` with `bytes` in two chunks, cut at each of its n+1 places, and once byte by byte. Each run gets memory of
 * its own, since what is under test may rewrite it. `how` names the cut for a failure message.
 */
export async function everySplit(
  bytes: Uint8Array,
  run: (chunks: readonly Buffer[], how: string) => void | Promise<void>,
): Promise<void> {
  for (let cut = 0; cut <= bytes.length; cut++) {
    await run([Buffer.from(bytes.subarray(0, cut)), Buffer.from(bytes.subarray(cut))], `cut at ${cut}`)
  }
  await run(
    Array.from(bytes, byte => Buffer.from([byte])),
    'byte by byte',
  )
}

interface Write {
  readonly bytes: Uint8Array
  /** What the bytes were when they were written. */
  readonly copy: Buffer
  readonly sent: (() => void) | undefined
}

/**
 * A ByteStream in the hands of a test: what arrives is what the test delivers, what was written is kept to be looked at.
 * Like a socket it delivers nothing while it is paused, delivers after `start` and `resume` have returned, and is closed
 * some time after `destroy`. It holds its user to the contract: bytes must not change before they are sent.
 */
export class FakeStream implements ByteStream {
  /** Pieces in the order of `write`, the very memory. */
  readonly writes: Uint8Array[] = []
  /** Chunks that the user was given, and that it gave back. */
  readonly taken: Buffer[] = []
  readonly released: Buffer[] = []
  /** Calls in order: `write 16`, `cork`, `uncork`, `pause`, `resume`, `end`, `destroy`. */
  readonly calls: string[] = []
  /** While true, writes stay unsent until flush(). */
  held = false
  paused = true
  ended = false
  destroyed = false
  expectedBytes: () => number = () => 0
  readonly headroomBytes: number
  #sink: ByteSink | undefined
  #arrived: Buffer[] = []
  #peerEnded = false
  #toldEnd = false
  #closed = false
  #unsent: Write[] = []
  #unsentBytes = 0
  readonly #copies: Buffer[] = []

  /** `headroomBytes` must really stand in front of each chunk that is delivered: see inRoom(). */
  constructor(headroomBytes = 0) {
    this.headroomBytes = headroomBytes
  }

  get unsentBytes(): number {
    return this.#unsentBytes
  }

  /** Pieces that were written and have not left. */
  get unsent(): readonly Uint8Array[] {
    return this.#unsent.map(({ bytes }) => bytes)
  }

  /** All that was written, as it was when it was written. */
  get output(): Buffer {
    return Buffer.concat(this.#copies)
  }

  /** The peer sends bytes; each argument arrives as one chunk, this very memory. */
  deliver(...chunks: readonly Buffer[]): void {
    this.#arrived.push(...chunks)
    this.#pour()
  }

  /** The peer ends its direction after all that was delivered. */
  peerEnds(): void {
    this.#peerEnded = true
    this.#pour()
  }

  /** The stream is gone: what was not sent never will be. */
  close(error?: Error): void {
    if (this.#closed) return
    this.#closed = true
    this.#send(() => {})
    this.#sink?.closed(error)
  }

  /** What was written leaves: all of it, or the oldest `count` pieces. Tells `drained` after the last. */
  flush(count = this.#unsent.length): void {
    const before = this.#unsent.length
    this.#send(write => {
      if (!write.copy.equals(write.bytes)) throw new Error('written bytes changed before they were sent')
    }, count)
    if (before > 0 && this.#unsent.length === 0) this.#sink?.drained()
  }

  start(sink: ByteSink, expectedBytes: () => number = () => 0): void {
    this.#sink = sink
    this.expectedBytes = expectedBytes
    this.paused = false
    queueMicrotask(() => this.#pour())
  }

  pause(): void {
    this.calls.push('pause')
    this.paused = true
  }

  resume(): void {
    if (this.paused) this.calls.push('resume')
    this.paused = false
    queueMicrotask(() => this.#pour())
  }

  write(bytes: Uint8Array, sent?: () => void): void {
    if (this.ended || this.destroyed || this.#closed) {
      if (sent !== undefined) queueMicrotask(sent)
      return
    }
    this.calls.push(`write ${bytes.length}`)
    this.writes.push(bytes)
    const copy = Buffer.from(bytes)
    this.#copies.push(copy)
    if (this.held) {
      this.#unsent.push({ bytes, copy, sent })
      this.#unsentBytes += bytes.length
    } else if (sent !== undefined) queueMicrotask(sent)
  }

  cork(): void {
    this.calls.push('cork')
  }

  uncork(): void {
    this.calls.push('uncork')
  }

  release(chunk: Buffer): void {
    this.released.push(chunk)
  }

  end(): void {
    if (this.ended) return
    this.calls.push('end')
    this.ended = true
    if (this.#toldEnd) queueMicrotask(() => this.close())
  }

  destroy(): void {
    if (this.destroyed) return
    this.calls.push('destroy')
    this.destroyed = true
    queueMicrotask(() => this.close())
  }

  #pour(): void {
    while (!this.paused && !this.#closed && this.#sink !== undefined) {
      const chunk = this.#arrived.shift()
      if (chunk !== undefined) {
        this.taken.push(chunk)
        this.#sink.data(chunk)
      } else if (this.#peerEnded && !this.#toldEnd) {
        this.#toldEnd = true
        this.#sink.ended()
        if (this.ended) queueMicrotask(() => this.close())
      } else return
    }
  }

  #send(check: (write: Write) => void, count = this.#unsent.length): void {
    const leaving = this.#unsent.slice(0, count)
    this.#unsent = this.#unsent.slice(count)
    for (const write of leaving) {
      this.#unsentBytes -= write.bytes.length
      check(write)
      write.sent?.()
    }
  }
}

/** Two streams, each of which delivers what is written to the other. */
export function memoryPair(): readonly [FakeStream, FakeStream] {
  const [left, right] = [new MemoryEnd(), new MemoryEnd()]
  left.other = right
  right.other = left
  return [left, right]
}

class MemoryEnd extends FakeStream {
  other: FakeStream | undefined

  override write(bytes: Uint8Array, sent?: () => void): void {
    const copy = Buffer.from(bytes)
    const open = !this.ended && !this.destroyed
    super.write(bytes, sent)
    if (open) queueMicrotask(() => this.other?.deliver(copy))
  }

  override end(): void {
    const first = !this.ended
    super.end()
    if (first) queueMicrotask(() => this.other?.peerEnds())
  }
}

/** Lets all that is queued as microtasks happen, and what that queues; no time passes. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve()
}

/** Resolves after the current turn of the event loop, when setImmediate has run what was queued before. */
export function nextTurn(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}

/** A copy of `bytes` with `headroomBytes` of memory of its own in front, filled with 0xee. */
export function inRoom(bytes: Uint8Array, headroomBytes: number): Buffer {
  const memory = new Uint8Array(headroomBytes + bytes.length).fill(0xee)
  memory.set(bytes, headroomBytes)
  return Buffer.from(memory.buffer, headroomBytes)
}

/** Whether two views look at the same memory, at least in part; small Buffers share their ArrayBuffer, so that is not it. */
export function overlaps(one: Uint8Array, other: Uint8Array): boolean {
  if (one.buffer !== other.buffer) return false
  return one.byteOffset < other.byteOffset + other.length && other.byteOffset < one.byteOffset + one.length
}
