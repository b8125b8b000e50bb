import { ProtocolError } from '../protocol/errors.ts'
import type { ByteSink, ByteStream } from '../stream/byte-stream.ts'
import { ExtendedReplies } from './extended-replies.ts'
import { type Extended, ExtendedRequests } from './extended-requests.ts'
import { Framer } from './framer.ts'
import { LentChunks } from './lent-chunks.ts'

const NOTHING = Buffer.alloc(0)

/**
 * The stream of a client with extended headers, as one of a client with compact headers and structured replies. There only
 * for such clients: it costs an entry of a map for each request, and the copy of what a chunk has beside heads.
 */
export class ExtendedStream implements ByteStream {
  readonly headroomBytes = 0
  readonly #inner: ByteStream
  readonly #requests: Framer
  readonly #replies: Framer
  readonly #chunks: LentChunks
  #toSink: Buffer[] = []
  #toClient: Buffer[] = []
  #sink: ByteSink | undefined
  #early: Buffer

  /** `early` came ahead of the transmission phase. */
  constructor(inner: ByteStream, sizeBytes: bigint, early: Buffer) {
    this.#inner = inner
    this.#early = early
    this.#chunks = new LentChunks(inner)
    const out = new Map<bigint, Extended>()
    this.#requests = new Framer(new ExtendedRequests(out, sizeBytes), bytes => this.#toSink.push(bytes))
    this.#replies = new Framer(new ExtendedReplies(out), bytes => this.#toClient.push(bytes))
  }

  get unsentBytes(): number {
    return this.#inner.unsentBytes
  }

  start(sink: ByteSink, expectedBytes?: () => number): void {
    this.#sink = sink
    const early = this.#early
    this.#early = NOTHING
    if (early.length > 0) this.#ear.data(early)
    this.#inner.start(this.#ear, expectedBytes)
  }

  pause(): void {
    this.#inner.pause()
  }

  resume(): void {
    this.#inner.resume()
  }

  write(bytes: Uint8Array, sent?: () => void): void {
    try {
      this.#replies.feed(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length))
    } catch (bug) {
      // Not here, in the middle of what the relay does.
      queueMicrotask(() => this.#broken(bug))
    }
    const pieces = this.#toClient
    this.#toClient = []
    // An empty write is told when all before it has left.
    const last = pieces.pop() ?? (sent === undefined ? undefined : NOTHING)
    if (last === undefined) return
    this.#inner.cork()
    for (const piece of pieces) this.#inner.write(piece)
    this.#inner.write(last, sent)
    this.#inner.uncork()
  }

  cork(): void {
    this.#inner.cork()
  }

  uncork(): void {
    this.#inner.uncork()
  }

  release(chunk: Buffer): void {
    this.#chunks.release(chunk)
  }

  end(): void {
    this.#inner.end()
  }

  destroy(): void {
    this.#inner.destroy()
  }

  readonly #ear: ByteSink = {
    data: chunk => {
      let failure: unknown
      try {
        this.#requests.feed(chunk)
      } catch (error) {
        failure = error
      }
      const pieces = this.#toSink
      this.#toSink = []
      this.#chunks.deliver(chunk, pieces, () => this.#sink)
      if (failure !== undefined) this.#broken(failure)
    },
    ended: () => {
      if (this.#requests.atBoundary) this.#sink?.ended()
      else this.#broken(new ProtocolError('TRUNCATED', 'the client ended in the middle of a request'))
    },
    closed: error => this.#close(error),
    drained: () => this.#sink?.drained(),
  }

  /** What the client sends can not be. */
  #broken(error: unknown): void {
    this.#inner.destroy()
    this.#close(error instanceof Error ? error : new Error(String(error)))
  }

  #close(error?: Error): void {
    const sink = this.#sink
    this.#sink = undefined
    sink?.closed(error)
  }
}
