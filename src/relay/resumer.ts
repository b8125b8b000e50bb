/**
 * A session without its upstream: dials until there is one again, puts in order what the death has left half done, and
 * sends again what was in flight. Requests of the client that come meanwhile wait among those in flight.
 *
 * In this order: the payload that the client has half of is completed, as no other byte may come before its rest; writes
 * that were acknowledged and not flushed are made again, if they were kept; then what was in flight goes out, in the
 * order of the client.
 */
import { Cmd, Err } from '../protocol/constants.ts'
import { ProtocolError } from '../protocol/errors.ts'
import type { ByteStream } from '../stream/byte-stream.ts'
import { Wire } from '../stream/wire.ts'
import type { BlockStatus, ContextIds } from './block-status.ts'
import type { Framer } from './framer.ts'
import { commonMs, type FlushTimes, type Keep } from './keep.ts'
import type { Pending } from './pending.ts'
import { readFirst } from './read-first.ts'
import { Reconnect } from './reconnect.ts'
import { replay } from './replay.ts'
import { encodeLastChunk, encodeRefusal, type ReplyGrammar, type ReplyKinds } from './replies.ts'
import type { UpstreamLink } from './upstream-link.ts'

/** How long a new upstream may keep us waiting before the session goes on. */
const PREPARE_MS = 30_000

/** How often it is looked whether it is ready. */
const LOOK_MS = 20

/** Bytes that are gathered at most when requests are sent again. */
const GATHERED_BYTES = 256 * 1024

const NOTHING = Buffer.alloc(0)

/** Another connection to the same export, in transmission phase. */
export interface Way {
  readonly stream: ByteStream
  readonly contextIds: ContextIds
}

/** What happens to a session whose upstream dies, for logs. */
export type ResumeEvent =
  | { readonly kind: 'lost'; readonly inFlight: number; readonly error?: Error | undefined }
  /** An attempt has failed; there will be more. */
  | { readonly kind: 'failed'; readonly error: Error }
  /** `again`: requests that were sent again. `replayed`: writes that were made again. */
  | {
      readonly kind: 'back'
      readonly ms: number
      readonly again: number
      readonly replayed: number
      /** There were writes, and no FLUSH to ask for that they are safe. */
      readonly isUnsure: boolean
    }
  /** Acknowledged writes are gone, of this connection (`bytes`, at most) or of one that it flushes for. */
  | { readonly kind: 'writes lost'; readonly bytes: number; readonly ranges: number }
  | { readonly kind: 'given up'; readonly ms: number; readonly error?: Error | undefined }

/** How a session goes on when its upstream has died. */
export interface Resuming {
  /** Connects again, to the same export. @throws UpstreamError if there is none now */
  readonly dial: () => Promise<Way>
  /** How long it is tried. */
  readonly limitMs: number
  /** How many bytes of writes are kept until they are flushed, to be made again. */
  readonly replayBytes: number
  /** Since when the upstream is there, by `commonMs`: what others have lost before that is not this session's business. */
  readonly sinceMs?: number | undefined
  /** What the other connections say that this one flushes for. */
  readonly others?: (() => Promise<readonly FlushTimes[]>) | undefined
  readonly tell: (event: ResumeEvent) => void
}

/** The parts of a relay that have to be put in order. */
export interface Parts {
  readonly keep: Keep
  readonly pending: Pending
  readonly status: BlockStatus
  readonly requests: Framer
  readonly replies: Framer
  readonly grammar: ReplyGrammar
  readonly structured: ReplyKinds
  readonly link: UpstreamLink
}

/** Who wants to know how it goes. */
export interface Outcome {
  /** The session goes on. */
  readonly resumed: () => void
  /** It does not; the upstream is away for good. */
  readonly over: (error: Error | undefined) => void
  /** A bug of ours. */
  readonly broken: (bug: unknown) => void
}

export class Resumer {
  readonly #options: Resuming
  readonly #parts: Parts
  readonly #outcome: Outcome
  readonly #reconnect: Reconnect
  #diedMs = 0
  /** As it was when the upstream came back last: how many requests there had been, and how many of them were answered. */
  #sentAgain = 0
  #answered = 0
  /** What is asked, or written to, before the session goes on. */
  #preparing: ByteStream | undefined

  constructor(options: Resuming, parts: Parts, outcome: Outcome) {
    this.#options = options
    this.#parts = parts
    this.#outcome = outcome
    const { limitMs, tell } = options
    this.#reconnect = new Reconnect({
      limitMs,
      attempt: isClosed => this.#attempt(isClosed),
      failed: error => tell({ kind: 'failed', error }),
      gaveUp: error => this.#giveUp(error),
      broken: outcome.broken,
    })
  }

  /** The upstream has died. */
  begin(error?: Error): void {
    this.#diedMs = commonMs()
    const { pending } = this.#parts
    this.#options.tell({ kind: 'lost', inFlight: pending.count, error })
    const isNone = pending.added - pending.count === this.#answered
    this.#reconnect.begin(pending.hasOneOf(this.#sentAgain) ? 'some' : isNone ? 'nothing' : 'all')
  }

  /** Nobody wants it back any more. */
  close(): void {
    this.#reconnect.close()
    this.#preparing?.destroy()
  }

  /**
   * Another connection is about to write: no write is made again from now on. Resolves when none is being made. Never
   * rejects.
   */
  async standAside(): Promise<void> {
    this.#parts.keep.forgoReplay()
    while (this.#preparing !== undefined) await new Promise(resolve => setTimeout(resolve, LOOK_MS))
  }

  /** Answers all that is in flight with an error: nothing more will come of it. */
  answerAll(error: Err): void {
    const { pending, keep, requests } = this.#parts
    for (const slot of pending.slots()) this.#answer(slot, error)
    if (keep.writing < 0) requests.skip()
  }

  async #attempt(isClosed: () => boolean): Promise<void> {
    const way = await this.#options.dial()
    let isTaken = false
    try {
      if (isClosed()) return
      this.#preparing = way.stream
      const { completion, replayed } = await this.#prepare(way)
      const others = replayed === undefined ? ((await this.#options.others?.()) ?? []) : undefined
      if (isClosed()) return
      isTaken = true
      this.#goOn(way, completion, others, replayed ?? 0)
    } finally {
      this.#preparing = undefined
      if (!isTaken) way.stream.destroy()
    }
  }

  /**
   * What has to be asked of the new upstream before anything is relayed. `replayed`: how many writes were made again;
   * undefined: not all that had to be.
   */
  async #prepare(way: Way): Promise<{ completion: Buffer; replayed: number | undefined }> {
    const { keep, replies, grammar, structured } = this.#parts
    const cut = replies.payloadLeft
    const isFlushed = keep.unflushed.ranges === 0 && !keep.isShared
    const log = isFlushed ? [] : keep.replay?.all
    if (cut === 0 && (log === undefined || log.length === 0)) return { completion: NOTHING, replayed: log?.length }
    const wire = new Wire(way.stream, PREPARE_MS)
    const from = grammar.dataEnd - BigInt(cut)
    const completion = cut === 0 ? NOTHING : await readFirst(wire, from, cut, structured)
    const isReplayed = log !== undefined && (await replay(wire, log))
    if (wire.bufferedBytes > 0) throw new ProtocolError('UNEXPECTED_DATA', 'bytes that nobody asked for')
    return { completion, replayed: isReplayed ? log.length : undefined }
  }

  /** The new upstream takes over, all at once. `others`: undefined if nothing can be lost. */
  #goOn(way: Way, completion: Buffer, others: readonly FlushTimes[] | undefined, replayed: number): void {
    const { keep, status, requests, replies, link, pending } = this.#parts
    const lost = others && keep.lose(this.#diedMs, others)
    keep.back()
    replies.restart(way.stream.headroomBytes)
    if (completion.length > 0) replies.feed(completion)
    status.reconnect(way.contextIds)
    this.#reconnect.back()
    link.adopt(way.stream)
    if (keep.writing < 0) requests.skip()
    const failed = pending.slots().filter(slot => this.#settle(slot)).length
    if (failed > 0) keep.hasFailed(failed)
    const again = this.#sendAgain()
    this.#sentAgain = pending.added
    this.#answered = pending.added - pending.count
    const { tell } = this.#options
    tell({ kind: 'back', ms: Math.round(this.#reconnect.awayMs), again, replayed, isUnsure: keep.isUnsure })
    if (lost !== undefined) tell({ kind: 'writes lost', ...lost })
    this.#outcome.resumed()
  }

  /** Answers what needs no upstream: what has been told but for its end, and FLUSHes of what is lost. Whether it is one of those. */
  #settle(slot: number): boolean {
    const { pending, keep, status, replies, structured } = this.#parts
    const type = pending.typeOf(slot)
    const isTold = type === Cmd.READ ? pending.missingOf(slot) === 0 : status.isComplete(slot)
    if (pending.hasFailed(slot) || isTold) {
      replies.inject(encodeLastChunk(structured, pending, slot))
      this.#remove(slot)
      return false
    }
    if (type !== Cmd.FLUSH || !keep.fails) return false
    this.#answer(slot, Err.IO)
    return true
  }

  /** Sends what is in flight, in the order of the client; how many requests. */
  #sendAgain(): number {
    const { pending, link } = this.#parts
    const slots = pending.slots()
    let gathered = 0
    link.cork()
    for (const slot of slots) {
      const request = this.#requestOf(slot)
      if (request !== undefined) link.write(request)
      gathered += request?.length ?? 0
      if (gathered < GATHERED_BYTES) continue
      link.uncork()
      link.cork()
      gathered = 0
    }
    link.uncork()
    return slots.length
  }

  /** A request as far as it has come; undefined: of a READ the missing parts are asked for. */
  #requestOf(slot: number): Buffer | undefined {
    const { pending, keep, requests, status } = this.#parts
    const type = pending.typeOf(slot)
    const length = pending.lengthOf(slot)
    if (type === Cmd.READ && pending.missingOf(slot) < length) {
      keep.resumeRead(slot)
      keep.asksForMore(slot)
      return undefined
    }
    const head = pending.encodeRequest(slot)
    const filter = type === Cmd.BLOCK_STATUS ? status.payloadOf(slot) : undefined
    if (filter !== undefined) return Buffer.concat([pending.encodeRequest(slot, 0, filter.length), filter])
    if (type !== Cmd.WRITE) return head
    const isPart = slot === keep.writing
    // A copy: the chunks go back when the WRITE is answered, which must not be before they have left.
    return Buffer.concat([head, ...keep.payloads.of(slot, isPart ? length - requests.payloadLeft : length)])
  }

  #answer(slot: number, error: Err): void {
    const { pending, replies, structured } = this.#parts
    replies.inject(encodeRefusal(structured, error, pending.cookieOf(slot), pending.exactOffsetOf(slot)))
    pending.markFailed(slot)
    this.#remove(slot)
  }

  #remove(slot: number): void {
    const { pending, keep, status } = this.#parts
    status.forget(slot)
    keep.answered(slot)
    pending.remove(slot)
  }

  #giveUp(error: Error | undefined): void {
    this.#options.tell({ kind: 'given up', ms: Math.round(this.#reconnect.awayMs), error })
    this.#outcome.over(error)
  }
}
