/**
 * A connection to an upstream that takes less in one READ or WRITE than a client may ask for: what is longer goes out in
 * parts, and comes back as one. The relay in front of it, and what it remembers, know of nothing but whole requests.
 *
 * Only where it is needed: an upstream that takes as much as everybody may ask for is relayed without it. Here a request
 * costs an entry of a map, and of replies a chunk that does not leave whole is copied.
 */
import { CmdFlag } from '../protocol/constants.ts'
import type { Room } from '../stream/memory.ts'
import type { GatedStream } from '../stream/write-gate.ts'
import { Framer } from './framer.ts'
import { JoiningGrammar } from './joining.ts'
import { PartingGrammar } from './parting.ts'
import { nextPart, type Part, Parts, type Whole } from './parts.ts'
import { type Rewriter, rewrittenUpstream, type Ways } from './rewritten-stream.ts'

/** Parts of READs that are out at once. */
const MOST_PARTS = 256

/** What the upstream is. */
export interface SplittingOptions {
  /** Most bytes of a part. */
  readonly partBytes: number
  /** It speaks structured replies. */
  readonly structured: boolean
  /** What is put together takes no more, if that is more than one READ. */
  readonly memory: Room
}

/** The connection as one that takes requests of any length. What is written are requests, whose cookies are written over in place. */
export function splittingStream(inner: GatedStream, options: SplittingOptions): GatedStream {
  return rewrittenUpstream(inner, ways => new Splitting(options, ways))
}

class Splitting implements Rewriter {
  readonly #options: SplittingOptions
  readonly #parts = new Parts()
  readonly #requests: Framer
  readonly #replies: Framer
  /** READs that are split and have not gone out whole. */
  readonly #reads: Whole[] = []
  #readParts = 0
  #gatheredBytes = 0

  constructor(options: SplittingOptions, { toPeer, toSink }: Ways) {
    this.#options = options
    this.#requests = new Framer(new PartingGrammar(this.#parts, options.partBytes, this.#reads), toPeer)
    const joining = new JoiningGrammar(this.#parts, options.structured, {
      inject: message => this.#replies.inject(message),
      isRead: part => this.#isRead(part),
    })
    this.#replies = new Framer(joining, toSink)
  }

  out(bytes: Buffer): void {
    this.#requests.feed(bytes)
  }

  in(chunk: Buffer): void {
    this.#replies.feed(chunk)
  }

  /** READs that there is room for. */
  fill(): void {
    for (let whole = this.#reads[0]; whole !== undefined && this.#readParts < MOST_PARTS; whole = this.#reads[0]) {
      if (whole.sent === 0 && !this.#begin(whole)) break
      const { head } = nextPart(this.#parts, whole, this.#options.partBytes)
      this.#requests.inject(head)
      this.#readParts++
      if (whole.sent === whole.length) this.#reads.shift()
    }
  }

  over(): void {
    this.#reads.length = 0
  }

  closed(): void {
    this.#count(-this.#gatheredBytes)
  }

  /** Makes room for what has to leave as one message; false: there is none now. */
  #begin(whole: Whole): boolean {
    const { structured } = this.#options
    if (structured && (whole.flags & CmdFlag.DF) === 0) return true
    const isMore = this.#gatheredBytes > 0
    if (isMore && this.#gatheredBytes + whole.length > this.#options.memory.mostBytes) return false
    this.#count(whole.length)
    whole.data = Buffer.alloc(whole.length)
    return true
  }

  #isRead({ whole }: Part): void {
    this.#readParts--
    if (whole.left === 0 && whole.data !== undefined) this.#count(-whole.length)
  }

  #count(bytes: number): void {
    this.#gatheredBytes += bytes
    this.#options.memory.add(bytes)
  }
}
