/**
 * Splits a stream of messages into heads, which a grammar judges, and payloads, which pass through untouched. What is
 * kept leaves as the same memory that came in, in as few pieces as possible: a chunk in which nothing is refused leaves
 * whole. Knows nothing of requests and replies.
 */

/** Longest head of an ordinary message, extended headers included, in bytes; error chunks may have longer ones. */
export const MAX_HEAD_BYTES = 32

/** Room for a head above this is not kept. */
const LONG_HEAD_BYTES = 16 * 1024

/** What becomes of a message after its head was judged. */
export const Verdict = {
  /** Head and payload pass. */
  KEEP: 0,
  /** Head and payload are dropped. */
  DROP: 1,
  /** Another head takes the place of this one, the payload passes. */
  SWAP: 2,
  /** This was the last message: all that follows is dropped. */
  STOP: 3,
  /** Not now: this message and all behind it wait until they are fed again. */
  WAIT: 4,
} as const
export type Verdict = (typeof Verdict)[keyof typeof Verdict]

/** Judges heads. Works on the bytes in place: no object a message. */
export interface Grammar {
  /** Length in bytes of the payload after the head that was judged last. */
  readonly payloadBytes: number
  /** The head to send when the verdict was SWAP; must stay unchanged until it is written. */
  readonly replacement: Buffer

  /**
   * How long the head at `at` is, as far as `available` bytes tell. An answer above `available` means: ask again when
   * that many are there. @throws ProtocolError
   */
  headBytes(bytes: Buffer, at: number, available: number): number

  /** Judges the whole head at `at`, and may rewrite it there. @throws ProtocolError */
  judge(bytes: Buffer, at: number): Verdict

  /** Gets the payload of what is dropped, in pieces whose memory is not its own. */
  dropped?(bytes: Buffer): void

  /** Whether `passes` wants to see the payload of what is kept. */
  readonly isWatching?: boolean

  /** Gets it in pieces, before they leave: from `from` to `to` of a chunk that was fed. */
  passes?(chunk: Buffer, from: number, to: number): void
}

export class Framer {
  readonly #grammar: Grammar
  readonly #emit: (bytes: Buffer) => void
  #head = Buffer.alloc(MAX_HEAD_BYTES)
  #headLength = 0
  #payloadLeft = 0
  #dropping = false
  #stopped = false
  #waiting = false
  #feeding = false
  #injected: Buffer[] = []
  #headroom: number
  #chunk: Buffer = this.#head
  #kept = 0

  /**
   * `emit` gets what passes, in order; the memory is that of the chunks fed in. `headroomBytes` of memory in front of
   * each chunk are ours too: a longer head can take the place of the chunk's first one there.
   */
  constructor(grammar: Grammar, emit: (bytes: Buffer) => void, headroomBytes = 0) {
    this.#grammar = grammar
    this.#emit = emit
    this.#headroom = headroomBytes
  }

  /** Whether the last message has come. */
  get stopped(): boolean {
    return this.#stopped
  }

  /** Whether the last feed left something over that has to wait. */
  get waiting(): boolean {
    return this.#waiting
  }

  /** Bytes of the current payload that have not come yet. */
  get payloadLeft(): number {
    return this.#payloadLeft
  }

  /** Whether what came so far ends with a whole message. */
  get atBoundary(): boolean {
    return this.#payloadLeft === 0 && this.#headLength === 0
  }

  /**
   * Takes the next bytes of the stream; how many it took. It is all of them unless a message has to wait: then the rest
   * is to be fed again, and be it empty. @throws ProtocolError; the framer can not be used afterwards
   */
  feed(chunk: Buffer): number {
    const resumed = this.#waiting
    this.#waiting = false
    this.#feeding = true
    this.#chunk = chunk
    this.#kept = 0
    let at = resumed && this.#headLength > 0 ? this.#judgeHead(0) : 0
    while (at < this.#chunk.length && !this.#stopped && !this.#waiting) {
      if (this.#payloadLeft > 0) at = this.#passPayload(at)
      else {
        if (this.#injected.length > 0) this.#emitInjected(at)
        at = this.#headLength > 0 ? this.#continueHead(at) : this.#beginHead(at)
      }
    }
    this.#emitKept(this.#stopped || this.#dropping ? this.#kept : at)
    this.#feeding = false
    if (this.#injected.length > 0 && this.#payloadLeft === 0) this.#emitInjected(at)
    return this.#waiting ? at : chunk.length
  }

  /**
   * The stream goes on elsewhere, at the end of the last whole message or, if a payload is on its way, in the middle of
   * that: a head that was not whole is forgotten. `headroomBytes` are those of the new chunks.
   */
  restart(headroomBytes: number): void {
    this.#headroom = headroomBytes
    this.#headLength = 0
  }

  /** Drops what has not come yet of the current payload. */
  skip(): void {
    this.#dropping = this.#payloadLeft > 0
  }

  /** Sends a message of our own between two of the stream's, as soon as one of those has ended. */
  inject(message: Buffer): void {
    if (!this.#feeding && this.#payloadLeft === 0) this.#emit(message)
    else this.#injected.push(message)
  }

  #passPayload(at: number): number {
    const end = Math.min(at + this.#payloadLeft, this.#chunk.length)
    this.#payloadLeft -= end - at
    if (this.#dropping) {
      this.#grammar.dropped?.(this.#chunk.subarray(at, end))
      this.#kept = end
      if (this.#payloadLeft === 0) this.#dropping = false
    } else if (this.#grammar.isWatching === true) this.#grammar.passes?.(this.#chunk, at, end)
    return end
  }

  /** A head that begins in this chunk: judged in place when it is whole, put by when it is not. */
  #beginHead(at: number): number {
    const available = this.#chunk.length - at
    const size = this.#grammar.headBytes(this.#chunk, at, available)
    if (size <= available) return this.#apply(this.#grammar.judge(this.#chunk, at), at, at + size)
    this.#makeRoom(available)
    this.#chunk.copy(this.#head, 0, at)
    this.#headLength = available
    this.#emitKept(at)
    this.#kept = this.#chunk.length
    return this.#chunk.length
  }

  /** A head that began in a former chunk; it leaves as a copy, the only one there is. */
  #continueHead(at: number): number {
    let next = at
    let size = this.#grammar.headBytes(this.#head, 0, this.#headLength)
    while (this.#headLength < size) {
      const end = Math.min(next + size - this.#headLength, this.#chunk.length)
      this.#makeRoom(this.#headLength + end - next)
      this.#headLength += this.#chunk.copy(this.#head, this.#headLength, next, end)
      next = end
      this.#kept = next
      if (this.#headLength < size) return next
      size = this.#grammar.headBytes(this.#head, 0, this.#headLength)
    }
    return this.#judgeHead(next)
  }

  /** Judges the head that was put by, now that it is whole. */
  #judgeHead(next: number): number {
    const size = this.#headLength
    const verdict = this.#grammar.judge(this.#head, 0)
    if (verdict === Verdict.WAIT) {
      this.#waiting = true
      return next
    }
    this.#headLength = 0
    if (verdict === Verdict.KEEP) this.#emit(Buffer.from(this.#head.subarray(0, size)))
    // A long one was an exception.
    if (size > LONG_HEAD_BYTES) this.#head = Buffer.alloc(MAX_HEAD_BYTES)
    return this.#apply(verdict, next, next)
  }

  /** Room for as much of a head as has come: how long it says that it will be is only a claim. */
  #makeRoom(size: number): void {
    if (size > this.#head.length) this.#head = Buffer.concat([this.#head, Buffer.alloc(size)])
  }

  /** Carries out a verdict on the head that stands from `start` to `end` of the chunk (nowhere: both the same). */
  #apply(verdict: Verdict, start: number, end: number): number {
    if (verdict === Verdict.WAIT) {
      this.#waiting = true
      return start
    }
    this.#stopped = verdict === Verdict.STOP
    this.#payloadLeft = this.#stopped ? 0 : this.#grammar.payloadBytes
    this.#dropping = verdict === Verdict.DROP && this.#payloadLeft > 0
    if (verdict === Verdict.KEEP) return end
    if (verdict === Verdict.SWAP && start === 0 && end > 0 && this.#swapInPlace(end))
      return this.#grammar.replacement.length
    this.#emitKept(start)
    this.#kept = end
    if (verdict === Verdict.SWAP) this.#emit(this.#grammar.replacement)
    return end
  }

  /** Lets a longer head take the place of the chunk's first `length` bytes, reaching into the headroom. */
  #swapInPlace(length: number): boolean {
    const { replacement } = this.#grammar
    const more = replacement.length - length
    if (more < 0 || more > this.#headroom) return false
    const { buffer, byteOffset } = this.#chunk
    this.#chunk = Buffer.from(buffer, byteOffset - more, this.#chunk.length + more)
    replacement.copy(this.#chunk)
    return true
  }

  #emitKept(end: number): void {
    if (end <= this.#kept) return
    const whole = this.#kept === 0 && end === this.#chunk.length
    this.#emit(whole ? this.#chunk : this.#chunk.subarray(this.#kept, end))
    this.#kept = end
  }

  #emitInjected(at: number): void {
    if (this.#feeding) this.#emitKept(at)
    const messages = this.#injected
    this.#injected = []
    for (const message of messages) this.#emit(message)
  }
}
