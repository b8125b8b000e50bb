/**
 * A stream behind something that rewrites what passes, both ways: the stream of a client that speaks otherwise than the relay,
 * or of an upstream that takes other requests. Only where it is needed: of what does not leave whole a copy is made.
 */
import type { ByteSink, ByteStream } from '../stream/byte-stream.ts'
import type { GatedStream } from '../stream/write-gate.ts'
import { LentChunks } from './lent-chunks.ts'

const NOTHING = Buffer.alloc(0)

/** What rewrites. Both ways it hands on, by `Ways`, what comes of what it is given. */
export interface Rewriter {
  /** Takes what is written to the stream, which may be rewritten in place. */
  out(bytes: Buffer): void

  /** Takes what has arrived. @throws ProtocolError */
  in(chunk: Buffer): void

  /** The peer has ended its direction. @throws ProtocolError if it may not now */
  ended?(): void

  /** Something may go out now, between two messages. */
  fill?(): void

  /** Nothing more goes out. */
  over?(): void

  /** Nothing more comes either. */
  closed?(): void

  /** Bytes that it keeps of what was written. */
  heldBytes?(): number
}

/** Where it goes. */
export interface Ways {
  readonly toPeer: (bytes: Buffer) => void
  readonly toSink: (bytes: Buffer) => void
}

export class RewrittenStream implements ByteStream {
  readonly headroomBytes = 0
  readonly #inner: ByteStream
  readonly #rewriter: Rewriter
  readonly #chunks: LentChunks
  /** What a call has brought so far. */
  #toPeer: Buffer[] = []
  #toSink: Buffer[] = []
  #sink: ByteSink | undefined
  #early: Buffer

  /** `early` came ahead of all that the stream delivers. */
  constructor(inner: ByteStream, rewriter: (ways: Ways) => Rewriter, early: Buffer = NOTHING) {
    this.#inner = inner
    this.#early = early
    this.#chunks = new LentChunks(inner)
    const toPeer = (bytes: Buffer): unknown => this.#toPeer.push(bytes)
    this.#rewriter = rewriter({ toPeer, toSink: bytes => this.#toSink.push(bytes) })
  }

  get unsentBytes(): number {
    return this.#inner.unsentBytes + this.#heldBytes
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
      this.#rewriter.out(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length))
    } catch (bug) {
      // Not here, in the middle of what the relay does.
      queueMicrotask(() => this.#broken(bug))
    }
    this.#send(sent)
    // What was answered at once: not here either.
    if (this.#toSink.length > 0) queueMicrotask(() => this.#deliver())
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
    this.#rewriter.over?.()
    this.#inner.end()
  }

  destroy(): void {
    this.#rewriter.over?.()
    this.#inner.destroy()
  }

  readonly #ear: ByteSink = {
    data: chunk => {
      let failure: unknown
      const wasHeld = this.#heldBytes > 0
      try {
        this.#rewriter.in(chunk)
      } catch (error) {
        failure = error
      }
      const pieces = this.#toSink
      this.#toSink = []
      this.#chunks.deliver(chunk, pieces, () => this.#sink)
      if (failure !== undefined) this.#broken(failure)
      else this.#send()
      if (wasHeld && this.#heldBytes === 0) this.#sink?.drained()
    },
    ended: () => {
      try {
        this.#rewriter.ended?.()
        this.#sink?.ended()
      } catch (error) {
        this.#broken(error)
      }
    },
    closed: error => this.#close(error),
    drained: () => {
      if (this.#heldBytes === 0) this.#sink?.drained()
    },
  }

  get #heldBytes(): number {
    return this.#rewriter.heldBytes?.() ?? 0
  }

  #deliver(): void {
    const pieces = this.#toSink
    this.#toSink = []
    for (const piece of pieces) this.#sink?.data(piece)
  }

  #send(sent?: () => void): void {
    this.#rewriter.fill?.()
    const pieces = this.#toPeer
    this.#toPeer = []
    // An empty write is told when all before it has left.
    const last = pieces.pop() ?? (sent === undefined ? undefined : NOTHING)
    if (last === undefined) return
    this.#inner.cork()
    for (const piece of pieces) this.#inner.write(piece)
    this.#inner.write(last, sent)
    this.#inner.uncork()
  }

  /** What the peer sends can not be. */
  #broken(error: unknown): void {
    const sink = this.#sink
    this.#sink = undefined
    this.destroy()
    sink?.closed(error instanceof Error ? error : new Error(String(error)))
  }

  #close(error?: Error): void {
    this.#rewriter.closed?.()
    const sink = this.#sink
    this.#sink = undefined
    sink?.closed(error)
  }
}

/** The same in front of a stream that can be told when to write no more. */
export function rewrittenUpstream(inner: GatedStream, rewriter: (ways: Ways) => Rewriter): GatedStream {
  return Object.assign(new RewrittenStream(inner, rewriter), { gate: inner.gate.bind(inner) })
}
