/**
 * A connection to an upstream that takes less in one READ or WRITE than a client may ask for: what is longer goes out in
 * parts, and comes back as one. The relay in front of it, and what it remembers, know of nothing but whole requests.
 *
 * Only where it is needed: an upstream that takes as much as everybody may ask for is relayed without it. Here a request
 * costs an entry of a map, and of replies a chunk that does not leave whole is copied.
 */
import { CmdFlag } from '../protocol/constants.ts'
import type { ByteSink } from '../stream/byte-stream.ts'
import type { GatedStream } from '../stream/write-gate.ts'
import { Framer } from './framer.ts'
import { JoiningGrammar } from './joining.ts'
import { LentChunks } from './lent-chunks.ts'
import { PartingGrammar } from './parting.ts'
import { nextPart, type Part, Parts, type Whole } from './parts.ts'

/** Parts of READs that are out at once, and bytes that are put together at once if that is more than one READ. */
const MOST_PARTS = 256
const MOST_BYTES = 64 * 1024 * 1024

const NOTHING = Buffer.alloc(0)

/** What the upstream is. */
export interface SplittingOptions {
  /** Most bytes of a part. */
  readonly partBytes: number
  /** It speaks structured replies. */
  readonly structured: boolean
}

export class SplittingStream implements GatedStream {
  readonly headroomBytes = 0
  readonly #inner: GatedStream
  readonly #options: SplittingOptions
  readonly #parts = new Parts()
  readonly #requests: Framer
  readonly #replies: Framer
  /** READs that are split and have not gone out whole. */
  readonly #reads: Whole[] = []
  #readParts = 0
  #gatheredBytes = 0
  /** What a call has brought so far. */
  #toUpstream: Buffer[] = []
  #toSink: Buffer[] = []
  readonly #chunks: LentChunks
  #sink: ByteSink | undefined

  constructor(inner: GatedStream, options: SplittingOptions) {
    this.#inner = inner
    this.#options = options
    this.#chunks = new LentChunks(inner)
    const parting = new PartingGrammar(this.#parts, options.partBytes, this.#reads)
    this.#requests = new Framer(parting, bytes => this.#toUpstream.push(bytes))
    const joining = new JoiningGrammar(this.#parts, options.structured, {
      inject: message => this.#replies.inject(message),
      isRead: part => this.#isRead(part),
    })
    this.#replies = new Framer(joining, bytes => this.#toSink.push(bytes))
  }

  get unsentBytes(): number {
    return this.#inner.unsentBytes
  }

  start(sink: ByteSink, expectedBytes?: () => number): void {
    this.#sink = sink
    this.#inner.start(this.#ear, expectedBytes)
  }

  pause(): void {
    this.#inner.pause()
  }

  resume(): void {
    this.#inner.resume()
  }

  /** Takes requests, whose cookies are written over in place. */
  write(bytes: Uint8Array, sent?: () => void): void {
    this.#requests.feed(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length))
    this.#send(sent)
  }

  gate(mayWrite: () => boolean): void {
    this.#inner.gate(mayWrite)
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
    this.#reads.length = 0
    this.#inner.end()
  }

  destroy(): void {
    this.#reads.length = 0
    this.#inner.destroy()
  }

  readonly #ear: ByteSink = {
    data: chunk => {
      let failure: unknown
      try {
        this.#replies.feed(chunk)
      } catch (error) {
        failure = error
      }
      this.#deliver(chunk)
      if (failure !== undefined) this.#broken(failure)
      else this.#send()
    },
    ended: () => this.#sink?.ended(),
    closed: error => {
      const sink = this.#sink
      this.#sink = undefined
      sink?.closed(error)
    },
    drained: () => this.#sink?.drained(),
  }

  #deliver(chunk: Buffer): void {
    const pieces = this.#toSink
    this.#toSink = []
    this.#chunks.deliver(chunk, pieces, () => this.#sink)
  }

  /** What the upstream sends can not be. */
  #broken(error: unknown): void {
    const sink = this.#sink
    this.#sink = undefined
    this.destroy()
    sink?.closed(error instanceof Error ? error : new Error(String(error)))
  }

  /** Sends what has come for the upstream, and READs that there is room for: between two other messages. */
  #send(sent?: () => void): void {
    for (let whole = this.#reads[0]; whole !== undefined && this.#readParts < MOST_PARTS; whole = this.#reads[0]) {
      if (whole.sent === 0 && !this.#begin(whole)) break
      const { head } = nextPart(this.#parts, whole, this.#options.partBytes)
      this.#requests.inject(head)
      this.#readParts++
      if (whole.sent === whole.length) this.#reads.shift()
    }
    const pieces = this.#toUpstream
    this.#toUpstream = []
    // An empty write is told when all before it has left.
    const last = pieces.pop() ?? (sent === undefined ? undefined : NOTHING)
    if (last === undefined) return
    this.#inner.cork()
    for (const piece of pieces) this.#inner.write(piece)
    this.#inner.write(last, sent)
    this.#inner.uncork()
  }

  /** Makes room for what has to leave as one message; false: there is none now. */
  #begin(whole: Whole): boolean {
    const { structured } = this.#options
    if (structured && (whole.flags & CmdFlag.DF) === 0) return true
    if (this.#gatheredBytes > 0 && this.#gatheredBytes + whole.length > MOST_BYTES) return false
    this.#gatheredBytes += whole.length
    whole.data = Buffer.alloc(whole.length)
    return true
  }

  #isRead({ whole }: Part): void {
    this.#readParts--
    if (whole.left === 0 && whole.data !== undefined) this.#gatheredBytes -= whole.length
  }
}
