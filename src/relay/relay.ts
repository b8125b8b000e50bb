/**
 * The transmission phase of one session: requests one way, replies the other, until one side ends. Bytes are judged in
 * place and passed on as the memory they came in. Each side is read only as fast as the other one takes it.
 *
 * Not here: what the visitor may do (the rules come in as data), how the streams were made, and who is told of the end.
 */
import { ExportMeter } from '../observe/export-meter.ts'
import { Err, TransmissionFlag } from '../protocol/constants.ts'
import { ProtocolError } from '../protocol/errors.ts'
import { encodeDisconnect } from '../protocol/extended.ts'
import type { ByteSink, ByteStream } from '../stream/byte-stream.ts'
import { BlockStatus } from './block-status.ts'
import { Framer } from './framer.ts'
import { Hold, Holds } from './holds.ts'
import { Keep } from './keep.ts'
import { LateRequests } from './late-requests.ts'
import { Linger } from './linger.ts'
import { Pending } from './pending.ts'
import { clientEnd, type RelayEnd, upstreamEnd } from './relay-end.ts'
import type { RelayOptions } from './relay-options.ts'
import { encodeRefusalOf, ReplyGrammar, type ReplyKinds } from './replies.ts'
import { BACKLOG_BYTES, ReplyOutlet } from './reply-outlet.ts'
import { RequestOutlet } from './request-outlet.ts'
import { RequestGrammar, startCounters } from './requests.ts'
import { Resumer } from './resumer.ts'
import { Settlings } from './settling.ts'
import { UpstreamLink } from './upstream-link.ts'

/** How long a client is told that the upstream is gone for good before it is sent away. */
const GONE_MS = 5000

export class Relay {
  /** What has passed so far. */
  readonly counters = startCounters()
  /** What is remembered to go on over another connection to the upstream; undefined: the session ends with its upstream. */
  readonly keep: Keep | undefined
  readonly #client: ByteStream
  readonly #upstream: UpstreamLink
  readonly #meter: ExportMeter
  readonly #pending: Pending
  readonly #grammar: RequestGrammar
  readonly #requests: Framer
  readonly #replies: Framer
  readonly #toUpstream: RequestOutlet
  readonly #toClient: ReplyOutlet
  readonly #structured: ReplyKinds
  readonly #early: Buffer
  readonly #late: LateRequests
  readonly #settlings: Settlings | undefined
  readonly #holds: Holds
  readonly #linger: Linger
  readonly #resumer: Resumer | undefined
  #tellLeaving: () => void
  #end: RelayEnd | undefined
  #goodbye: RelayEnd = { kind: 'disconnected' }
  #isOver = false
  #resolve: (end: RelayEnd) => void = () => {}
  #reject: (bug: unknown) => void = () => {}
  #gone: NodeJS.Timeout | undefined
  #open = 2
  #leaving = false
  #isUpstreamClosed = false
  #isRetired = false

  constructor(options: RelayOptions) {
    this.#meter = options.meter ?? new ExportMeter()
    const { client, structured, flags, resume, memory } = options
    this.#pending = new Pending(this.#meter, structured.extended)
    this.#client = client
    const upstream = new UpstreamLink(options.upstream, resume && (error => this.#upstreamLost(error)))
    this.#upstream = upstream
    this.#structured = structured
    this.#early = options.early
    this.#tellLeaving = options.leaving ?? (() => {})
    this.#holds = new Holds(client, memory.requests)
    this.#linger = new Linger(client, upstream)
    this.#late = new LateRequests({
      waitMs: () => this.#meter.wait(options.throttle.waitMs),
      relay: (chunk, from) => this.#relayRequests(chunk, from),
      caughtUp: isEnd => this.#caughtUp(isEnd),
    })
    const isQuiet = (): boolean => !this.#holds.any && !this.#late.waiting && this.#requests.atBoundary
    const pending = this.#pending
    if ((flags & TransmissionFlag.READ_ONLY) === 0) this.#settlings = new Settlings({ pending, isQuiet })
    const keep =
      resume && new Keep({ client, upstream, pending, meter: this.#meter, flags, memory: memory.replay, ...resume })
    this.keep = keep
    const kept = { payloads: keep?.payloads, memory: memory.requests, gatheredBytes: () => this.#grammar.gatheredBytes }
    const emptied = (): void => this.#holds.release(Hold.UPSTREAM_BACKLOG)
    this.#toUpstream = new RequestOutlet({ client, upstream, pending, meter: this.#meter, ...kept, emptied })
    this.#toClient = new ReplyOutlet(client, upstream, memory.replies)
    const status = new BlockStatus(options.contextIds ?? new Map(), structured.extended)
    this.#grammar = new RequestGrammar(options, pending, this.counters, {
      status,
      keep,
      refuse: this.#refuse,
      pass: request => this.#requests.inject(request),
    })
    this.#requests = new Framer(this.#grammar, this.#toUpstream.take)
    const grammar = new ReplyGrammar(structured, pending, { status, keep })
    this.#replies = new Framer(grammar, this.#toClient.take, upstream.headroomBytes)
    if (keep === undefined || resume === undefined) return
    const framers = { requests: this.#requests, replies: this.#replies }
    const parts = { ...framers, keep, pending, status, grammar, structured, link: upstream }
    this.#resumer = new Resumer(resume, parts, {
      resumed: () => this.#resumed(),
      over: error => this.#over(error),
      broken: bug => this.#violated('upstream', bug),
    })
  }

  /** Requests that the upstream has not answered. */
  get inFlight(): number {
    return this.#pending.count
  }

  get hasEnded(): boolean {
    return this.#end !== undefined
  }

  /**
   * Relays until one side ends; resolves when both streams are closed, at most five seconds after that. Rejects only for
   * a bug of ours.
   */
  run(): Promise<RelayEnd> {
    return new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
      const chunkBytes = () => this.#toClient.chunkBytes(this.#pending, this.#replies.payloadLeft, this.#structured)
      this.#upstream.start(this.#upstreamSink, chunkBytes)
      this.#client.start(this.#clientSink, () => this.#requests.payloadLeft)
      if (this.#early.length > 0) this.#clientSink.data(this.#early)
    })
  }

  /**
   * Resolves when all writes that the client has sent up to now are done, or can not reach the upstream any more; that
   * of a session that has been silent takes a moment, and of one whose upstream hangs as long as that. Never rejects.
   */
  async settled(): Promise<void> {
    await this.#resumer?.standAside()
    // What has arrived, and nobody has read yet, is read in the turns between.
    for (let turn = 0; turn < 2; turn++) await new Promise(resolve => setImmediate(resolve))
    if (!this.#isUpstreamClosed) await this.#settlings?.add()
  }

  /**
   * Ends the session from our side: the client at once, the upstream when it has done what it was asked for, at most
   * five seconds later.
   */
  retire(reason: string): void {
    if (this.#end !== undefined) return
    if (this.#upstream.isAway) {
      this.stop(reason)
      return
    }
    this.#finish({ kind: 'stopped', reason })
    this.#isRetired = true
    this.#client.destroy()
    this.#upstream.resume()
    this.#farewellWhenDone()
  }

  /** Takes nothing more from the client, and ends the session when all is answered. */
  leave(reason: string): void {
    if (this.#end !== undefined || this.#leaving) return
    this.#goodbye = { kind: 'stopped', reason }
    this.#leave()
  }

  /** Ends the session from our side; both streams are closed at once. */
  stop(reason: string): void {
    this.#finish({ kind: 'stopped', reason })
    this.#client.destroy()
    this.#upstream.destroy()
  }

  readonly #clientSink: ByteSink = {
    data: chunk => {
      if (this.#end !== undefined || this.#leaving) return
      if (!this.#late.queue(chunk)) this.#relayRequests(chunk, 0)
    },
    ended: () => {
      // What waits for its budget goes before the end.
      if (this.#late.queueEnd()) return
      // A client may end its direction after its last request and still read the replies.
      if (this.#requests.atBoundary) this.#leave()
      else this.#clientGone(new ProtocolError('TRUNCATED', 'the client ended in the middle of a request'))
    },
    closed: error => {
      this.#clientGone(error)
      this.#closed()
    },
    drained: () => {
      if (this.#toClient.isFree) this.#upstream.resume()
      this.#holds.release(Hold.CLIENT_BACKLOG)
    },
  }

  readonly #upstreamSink: ByteSink = {
    data: chunk => {
      if (this.#end === undefined) this.#relayReplies(chunk)
      else if (this.#isRetired) this.#countReplies(chunk)
      else this.#upstream.release(chunk)
    },
    ended: () => this.#upstreamGone(),
    closed: error => {
      if (!this.#isOver) this.#upstreamGone(error)
      this.#isUpstreamClosed = true
      this.#settlings?.end()
      this.#closed()
    },
    drained: () => this.#holds.release(Hold.UPSTREAM_BACKLOG),
  }

  #relayRequests(chunk: Buffer, from: number): void {
    this.keep?.payloads.begin(chunk, from)
    try {
      const used = from + this.#requests.feed(from === 0 ? chunk : chunk.subarray(from))
      const { waiting } = this.#requests
      this.#toUpstream.flush(waiting ? undefined : chunk)
      this.#settlings?.count(used - from)
      if (waiting) {
        this.#late.putOff(chunk, used)
        this.#holds.hold(Hold.THROTTLE)
      }
    } catch (error) {
      this.#violated('client', error)
      return
    }
    this.#holds.more(this.#pending.count, this.keep?.wholeBytes(this.#requests.payloadLeft) ?? 0)
    if (this.#toUpstream.isFull) this.#holds.hold(Hold.UPSTREAM_BACKLOG)
    if (this.#requests.stopped) this.#leave()
    this.#settlings?.look()
  }

  /** What was put off for its budget is relayed. */
  #caughtUp(isEnd: boolean): void {
    this.#holds.release(Hold.THROTTLE)
    if (isEnd) this.#clientSink.ended()
  }

  #relayReplies(chunk: Buffer): void {
    const tookMs = this.#meter.take('reply')
    try {
      this.#replies.feed(chunk)
    } catch (error) {
      this.#toClient.flush(chunk)
      this.#violated('upstream', error)
      return
    }
    this.keep?.stamp()
    this.#toClient.flush(chunk)
    this.#meter.hand('reply', tookMs)
    if (!this.#toClient.isFree) this.#upstream.pause()
    this.#answered()
  }

  /** Replies have passed. */
  #answered(): void {
    this.#toUpstream.weigh()
    this.#holds.fewer(this.#pending.count, this.keep?.wholeBytes(this.#requests.payloadLeft) ?? 0)
    if (this.#leaving) this.#leave()
    this.#settlings?.look()
  }

  /** Replies that nobody waits for any more, but for what they say of their requests. */
  #countReplies(chunk: Buffer): void {
    try {
      this.#replies.feed(chunk)
      this.#farewellWhenDone()
    } catch {
      this.#upstream.destroy()
    }
    this.#toClient.flush(chunk)
  }

  #farewellWhenDone(): void {
    if (this.#requests.atBoundary && this.#pending.count > 0) return
    this.#isRetired = false
    this.#bidFarewell()
  }

  /** Answers a request that is refused here, between two replies of the upstream. */
  readonly #refuse = (_type: number, error: Err, head: Buffer, at: number): void => {
    this.#replies.inject(encodeRefusalOf(this.#structured, error, head, at))
    this.#toClient.flush()
    if (this.#client.unsentBytes > BACKLOG_BYTES) this.#holds.hold(Hold.CLIENT_BACKLOG)
  }

  /** After DISC: the replies that are out, then the end. proto.md, "Terminating the transmission phase". */
  #leave(): void {
    this.#leaving = true
    this.#isLeaving()
    if (this.#pending.count > 0 || this.#replies.payloadLeft > 0) return
    this.#disconnectUpstream()
    this.#client.end()
    this.#finish(this.#goodbye)
  }

  /** The upstream has died, and may come back. */
  #upstreamLost(error?: Error): void {
    this.#toUpstream.lost()
    if (this.#end !== undefined) {
      this.#upstream.destroy()
      return
    }
    this.#holds.release(Hold.UPSTREAM_BACKLOG)
    this.#resumer?.begin(error)
  }

  /** There is an upstream again, and it has all that is in flight. */
  #resumed(): void {
    this.#toClient.flush()
    if (!this.#toClient.isFree) this.#upstream.pause()
    if (this.#upstream.unsentBytes > BACKLOG_BYTES) this.#holds.hold(Hold.UPSTREAM_BACKLOG)
    this.#answered()
  }

  /** The upstream does not come back: all is answered so, for a while. In the middle of a reply there is nothing to say. */
  #over(error?: Error): void {
    if (this.#end !== undefined) return
    if (this.#replies.payloadLeft > 0) {
      this.#upstreamGone(error)
      return
    }
    this.#goodbye = { kind: 'upstream gone', error }
    this.#isOver = true
    this.#grammar.shut()
    this.#resumer?.answerAll(Err.SHUTDOWN)
    this.#toClient.flush()
    this.#gone = setTimeout(() => this.#upstreamGone(error), GONE_MS)
    this.#upstream.destroy()
    this.#answered()
  }

  #clientGone(error?: Error): void {
    if (this.#end !== undefined) return
    this.#bidFarewell()
    this.#client.destroy()
    this.#finish(clientEnd(error))
    this.#upstream.resume()
  }

  #upstreamGone(error?: Error): void {
    if (this.#end !== undefined) return
    this.#client.end()
    this.#upstream.destroy()
    this.#finish(upstreamEnd(error))
  }

  #violated(side: 'client' | 'upstream', error: unknown): void {
    this.#upstream.destroy()
    if (error instanceof ProtocolError) {
      this.#client.end()
      this.#finish({ kind: 'violation', side, error })
    } else {
      this.stop('bug')
      this.#reject(error)
    }
  }

  /** Tells the upstream that nothing more comes, whatever it is in the middle of. */
  #bidFarewell(): void {
    // In the middle of a WRITE its end says that the rest does not come. Ended, not reset, and read on to its own end:
    // nbdkit 1.32 aborts, for all its clients, when it can not write its replies.
    if (this.#requests.atBoundary) this.#disconnectUpstream()
    else this.#upstream.end()
  }

  #isLeaving(): void {
    const tell = this.#tellLeaving
    this.#tellLeaving = () => {}
    tell()
  }

  #disconnectUpstream(): void {
    this.#upstream.write(encodeDisconnect(this.#structured.extended === true))
    this.#upstream.end()
  }

  #finish(end: RelayEnd): void {
    if (this.#end !== undefined) return
    this.#end = this.#isOver ? this.#goodbye : end
    this.#isLeaving()
    this.#late.close()
    this.#resumer?.close()
    clearTimeout(this.#gone)
    this.#linger.begin()
  }

  #closed(): void {
    this.#open--
    if (this.#open > 0 || this.#end === undefined) return
    this.#linger.end()
    this.#resolve(this.#end)
  }
}
