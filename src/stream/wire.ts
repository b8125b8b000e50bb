/**
 * Exact reads from a ByteStream for option haggling: `await wire.read(n)`, straight code. Not for the transmission
 * phase, which is pushed through a parser without a promise a message.
 *
 * The time that a peer may keep us waiting is one budget for all reads and writes of a Wire, so that a byte every nine
 * seconds does not keep a connection for ever. Only waiting for the peer counts, not our own work between two reads.
 */
import { ProtocolError } from '../protocol/errors.ts'
import type { ByteSink, ByteStream } from './byte-stream.ts'
import { StreamError } from './errors.ts'

/** More than this read ahead, and the stream is paused until it is asked for. */
const READ_AHEAD_BYTES = 64 * 1024

/** More than this unsent, and a write waits. */
const WRITE_AHEAD_BYTES = 64 * 1024

/** Why `gone` is aborted; one for all, since each would hold a stack. */
const GONE = new StreamError('CLOSED', 'the peer has gone')

export class Wire implements ByteSink {
  readonly #stream: ByteStream
  readonly #arrived: () => void
  #budgetMs: number
  #chunks: Buffer[] = []
  #length = 0
  #paused = false
  #ended = false
  #failure: StreamError | undefined
  #wake: (() => void) | undefined
  /** Made when somebody asks for it. */
  #gone: AbortController | undefined

  /** Starts reading. `budgetMs` is how long the peer may keep us waiting, all in all; `arrived` is called when bytes have come. */
  constructor(stream: ByteStream, budgetMs: number, arrived: () => void = nothing) {
    this.#stream = stream
    this.#arrived = arrived
    this.#budgetMs = budgetMs
    stream.start(this)
  }

  /** Aborted when the peer sends nothing more: nobody waits for an answer. */
  get gone(): AbortSignal {
    this.#gone ??= new AbortController()
    if (this.#ended || this.#failure !== undefined) this.#gone.abort(GONE)
    return this.#gone.signal
  }

  /** Bytes that the peer sent and nobody has read. */
  get bufferedBytes(): number {
    return this.#length
  }

  /**
   * The next `size` bytes.
   * @throws ProtocolError TRUNCATED when the peer ends before; StreamError CLOSED or TIMEOUT
   */
  async read(size: number): Promise<Buffer> {
    const bytes = await this.readOrEnd(size)
    if (bytes === null) throw new ProtocolError('TRUNCATED', 'the peer ended in the middle of a message')
    return bytes
  }

  /** The next `size` bytes, or null when the peer ended before the first of them. Throws as read does. */
  async readOrEnd(size: number): Promise<Buffer | null> {
    while (this.#length < size) {
      if (this.#failure !== undefined) throw this.#failure
      if (this.#ended) {
        if (this.#length === 0) return null
        throw new ProtocolError('TRUNCATED', `the peer ended after ${this.#length} of ${size} bytes`)
      }
      if (this.#paused) {
        this.#paused = false
        this.#stream.resume()
      }
      await this.#event()
    }
    return this.#take(size)
  }

  /** All that was read ahead; for whoever reads the stream after this Wire. */
  rest(): Buffer {
    return this.#take(this.#length)
  }

  /** Reads and forgets `size` bytes, in pieces. Throws as read does. */
  async drain(size: number): Promise<void> {
    for (let rest = size; rest > 0; rest -= READ_AHEAD_BYTES) await this.read(Math.min(rest, READ_AHEAD_BYTES))
  }

  /** Writes; waits only for a peer that does not read. @throws StreamError CLOSED or TIMEOUT */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    this.#stream.write(bytes)
    while (this.#stream.unsentBytes > WRITE_AHEAD_BYTES) {
      await this.#event()
      if (this.#failure !== undefined) throw this.#failure
    }
  }

  data(chunk: Buffer): void {
    // A copy: haggling is small, and the stream wants its buffer back.
    this.#chunks.push(Buffer.from(chunk))
    this.#length += chunk.length
    this.#stream.release(chunk)
    this.#arrived()
    if (this.#length > READ_AHEAD_BYTES) {
      this.#paused = true
      this.#stream.pause()
    }
    this.#wake?.()
  }

  ended(): void {
    this.#ended = true
    this.#gone?.abort(GONE)
    this.#wake?.()
  }

  closed(error?: Error): void {
    this.#failure ??= new StreamError('CLOSED', 'the peer closed the connection', { cause: error })
    this.#gone?.abort(GONE)
    this.#wake?.()
  }

  drained(): void {
    this.#wake?.()
  }

  #take(size: number): Buffer {
    const joined = this.#chunks.length === 1 ? this.#chunks[0] : Buffer.concat(this.#chunks)
    if (joined === undefined) return Buffer.alloc(0)
    this.#length -= size
    this.#chunks = this.#length === 0 ? [] : [joined.subarray(size)]
    return joined.subarray(0, size)
  }

  /** Waits until something happens on the stream, at most for what is left of the budget. */
  async #event(): Promise<void> {
    const before = performance.now()
    // A timer of 0 ms is one of 1 ms, and a peer could come ahead of each of them for ever.
    if (this.#budgetMs <= 0) this.#failure ??= new StreamError('TIMEOUT', 'the peer took too long')
    if (this.#failure !== undefined) return
    await new Promise<void>(resolve => {
      const timer = setTimeout(() => {
        this.#failure ??= new StreamError('TIMEOUT', 'the peer took too long')
        resolve()
      }, this.#budgetMs)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    this.#wake = undefined
    this.#budgetMs = Math.max(0, this.#budgetMs - (performance.now() - before))
  }
}

function nothing(): void {}
