/**
 * The transmission phase of one session: requests one way, replies the other, until one side ends. Bytes are judged in
 * place and passed on as the memory they came in. Each side is read only as fast as the other one takes it.
 *
 * Not here: what the visitor may do (the rules come in as data), how the streams were made, and who is told of the end.
 */
import { ExportMeter } from '../observe/export-meter.ts'
import { Cmd, type Err, TransmissionFlag } from '../protocol/constants.ts'
import { ProtocolError } from '../protocol/errors.ts'
import { encodeRequest, RequestField } from '../protocol/request.ts'
import { encodeSimpleReply, SIMPLE_REPLY_SIZE } from '../protocol/simple-reply.ts'
import { encodeErrorChunk } from '../protocol/structured-reply.ts'
import type { ByteSink, ByteStream } from '../stream/byte-stream.ts'
import { BlockStatus, type ContextIds } from './block-status.ts'
import { Framer, MAX_HEAD_BYTES } from './framer.ts'
import { LateRequests } from './late-requests.ts'
import { Pending } from './pending.ts'
import type { RelayEnd } from './relay-end.ts'
import { ReplyGrammar, type ReplyKinds } from './replies.ts'
import { BACKLOG_BYTES, ReplyOutlet } from './reply-outlet.ts'
import { RequestOutlet } from './request-outlet.ts'
import { type Counters, type RangeGuard, RequestGrammar } from './requests.ts'
import { Settlings } from './settling.ts'
import type { Throttle } from './throttle.ts'

/** Requests out above which the client is not read, and below which it is again. */
const MANY_REQUESTS = { stop: 1024, go: 512 } as const

/** READs of this length and above are read from the upstream one by one where replies are lifted. */
const LARGE_REPLY_BYTES = 32 * 1024

/** How long both sides have to close after the last reply has left, and a client may take none of it. */
const LINGER_MS = 5000

/** Why the client is not being read: bits of a set. */
const Hold = { UPSTREAM_BACKLOG: 1, CLIENT_BACKLOG: 2, MANY_REQUESTS: 4, THROTTLE: 8 } as const

export interface RelayOptions {
  readonly client: ByteStream
  readonly upstream: ByteStream
  readonly sizeBytes: bigint
  /** Transmission flags as the client was told them. */
  readonly flags: number
  readonly structured: ReplyKinds
  /** What holds the client's requests back. */
  readonly throttle: Throttle
  /** What the client sent ahead of the answer to GO. */
  readonly early: Buffer
  readonly guard?: RangeGuard | undefined
  /** Once it is on, requests are refused with ESHUTDOWN. */
  readonly shutdown?: { readonly isOn: boolean } | undefined
  /** The metadata contexts that were negotiated: the upstream's ids, and the client's. */
  readonly contextIds?: ContextIds | undefined
  /** Counts for the export. */
  readonly meter?: ExportMeter | undefined
  /** Called once when the client will ask for nothing more; what it has asked for may still be on its way. */
  readonly leaving?: (() => void) | undefined
}

export class Relay {
  /** What has passed so far. */
  readonly counters: Counters = {
    reads: 0,
    writes: 0,
    flushes: 0,
    others: 0,
    refused: 0,
    bytesRead: 0,
    bytesWritten: 0,
  }
  readonly #client: ByteStream
  readonly #upstream: ByteStream
  readonly #meter: ExportMeter
  readonly #pending: Pending
  readonly #requests: Framer
  readonly #replies: Framer
  readonly #toUpstream: RequestOutlet
  readonly #toClient: ReplyOutlet
  readonly #structured: ReplyKinds
  readonly #lifts: boolean
  readonly #early: Buffer
  readonly #isReadOnly: boolean
  readonly #late: LateRequests
  readonly #settlings: Settlings
  #tellLeaving: () => void
  #end: RelayEnd | undefined
  #goodbye: RelayEnd = { kind: 'disconnected' }
  #resolve: (end: RelayEnd) => void = () => {}
  #reject: (bug: unknown) => void = () => {}
  #linger: NodeJS.Timeout | undefined
  #open = 2
  #held = 0
  #leaving = false
  #isUpstreamClosed = false
  #isRetired = false

  constructor(options: RelayOptions) {
    this.#meter = options.meter ?? new ExportMeter()
    this.#pending = new Pending(this.#meter)
    this.#client = options.client
    this.#upstream = options.upstream
    this.#structured = options.structured
    this.#lifts = options.structured.client && !options.structured.upstream
    this.#early = options.early
    this.#isReadOnly = (options.flags & TransmissionFlag.READ_ONLY) !== 0
    this.#tellLeaving = options.leaving ?? (() => {})
    this.#late = new LateRequests({
      waitMs: () => this.#meter.wait(options.throttle.waitMs),
      relay: (chunk, from) => this.#relayRequests(chunk, from),
      caughtUp: isEnd => this.#caughtUp(isEnd),
    })
    const isQuiet = (): boolean => this.#held === 0 && !this.#late.waiting && this.#requests.atBoundary
    this.#settlings = new Settlings({ pending: this.#pending, isQuiet })
    const { client, upstream } = options
    this.#toUpstream = new RequestOutlet({ client, upstream, pending: this.#pending, meter: this.#meter })
    this.#toClient = new ReplyOutlet(client, upstream)
    const status = new BlockStatus(options.contextIds ?? new Map())
    const requests = new RequestGrammar(options, this.#pending, this.counters, {
      status,
      refuse: this.#refuse,
      pass: request => this.#requests.inject(request),
    })
    this.#requests = new Framer(requests, this.#toUpstream.take)
    this.#replies = new Framer(
      new ReplyGrammar(options.structured, this.#pending, status),
      this.#toClient.take,
      options.upstream.headroomBytes,
    )
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
      this.#upstream.start(this.#upstreamSink, this.#expectedBytes)
      this.#client.start(this.#clientSink)
      if (this.#early.length > 0) this.#clientSink.data(this.#early)
    })
  }

  /**
   * Resolves when all writes that the client has sent up to now are done, or can not reach the upstream any more; that
   * of a session that has been silent takes a moment, and of one whose upstream hangs as long as that. Never rejects.
   */
  async settled(): Promise<void> {
    // What has arrived, and nobody has read yet, is read in the turns between.
    for (let turn = 0; turn < 2; turn++) await new Promise(resolve => setImmediate(resolve))
    if (!this.#isUpstreamClosed && !this.#isReadOnly) await this.#settlings.add()
  }

  /**
   * Ends the session from our side: the client at once, the upstream when it has done what it was asked for, at most
   * five seconds later.
   */
  retire(reason: string): void {
    if (this.#end !== undefined) return
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
      this.#release(Hold.CLIENT_BACKLOG)
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
      this.#upstreamGone(error)
      this.#isUpstreamClosed = true
      this.#settlings.end()
      this.#closed()
    },
    drained: () => this.#release(Hold.UPSTREAM_BACKLOG),
  }

  #relayRequests(chunk: Buffer, from: number): void {
    try {
      const used = from + this.#requests.feed(from === 0 ? chunk : chunk.subarray(from))
      const { waiting } = this.#requests
      this.#toUpstream.flush(waiting ? undefined : chunk)
      this.#settlings.count(used - from)
      if (waiting) {
        this.#late.putOff(chunk, used)
        this.#hold(Hold.THROTTLE)
      }
    } catch (error) {
      this.#violated('client', error)
      return
    }
    if (this.#pending.count > MANY_REQUESTS.stop) this.#hold(Hold.MANY_REQUESTS)
    if (this.#upstream.unsentBytes > BACKLOG_BYTES) this.#hold(Hold.UPSTREAM_BACKLOG)
    if (this.#requests.stopped) this.#leave()
    this.#settlings.look()
  }

  /** What was put off for its budget is relayed. */
  #caughtUp(isEnd: boolean): void {
    this.#release(Hold.THROTTLE)
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
    this.#toClient.flush(chunk)
    this.#meter.hand('reply', tookMs)
    if (!this.#toClient.isFree) this.#upstream.pause()
    if (this.#pending.count < MANY_REQUESTS.go) this.#release(Hold.MANY_REQUESTS)
    if (this.#leaving) this.#leave()
    this.#settlings.look()
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
  readonly #refuse = (type: number, error: Err, head: Buffer, at: number): void => {
    const cookie = head.readBigUInt64BE(at + RequestField.COOKIE)
    const chunk = this.#structured.client && (type === Cmd.READ || type === Cmd.BLOCK_STATUS)
    this.#replies.inject(chunk ? encodeErrorChunk(cookie, error, '') : encodeSimpleReply({ error, cookie }))
    this.#toClient.flush()
    if (this.#client.unsentBytes > BACKLOG_BYTES) this.#hold(Hold.CLIENT_BACKLOG)
  }

  /**
   * How much the upstream is about to send. Where replies are lifted, no more than the reply that comes next, if it is
   * large: it then stands at the start of its chunk, where its longer head fits in without moving a payload.
   */
  readonly #expectedBytes = (): number => {
    const left = this.#replies.payloadLeft
    const { readBytes, lastReadBytes, count } = this.#pending
    if (this.#lifts && left > 0) return left
    if (this.#lifts && lastReadBytes >= LARGE_REPLY_BYTES) return SIMPLE_REPLY_SIZE + lastReadBytes
    return left + readBytes + count * MAX_HEAD_BYTES
  }

  #hold(reason: number): void {
    if (this.#held === 0) this.#client.pause()
    this.#held |= reason
  }

  #release(reason: number): void {
    if ((this.#held & reason) === 0) return
    this.#held &= ~reason
    if (this.#held === 0) this.#client.resume()
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

  #clientGone(error?: Error): void {
    if (this.#end !== undefined) return
    this.#bidFarewell()
    this.#client.destroy()
    this.#finish({ kind: 'client gone', error })
    this.#upstream.resume()
  }

  #upstreamGone(error?: Error): void {
    if (this.#end !== undefined) return
    this.#client.end()
    this.#upstream.destroy()
    this.#finish({ kind: 'upstream gone', error })
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
    this.#upstream.write(encodeRequest({ flags: 0, type: Cmd.DISC, cookie: 0n, offset: 0n, length: 0 }))
    this.#upstream.end()
  }

  #finish(end: RelayEnd): void {
    if (this.#end !== undefined) return
    this.#end = end
    this.#isLeaving()
    this.#late.close()
    this.#lingerOn()
  }

  /** Closes what has not closed by itself; a client that is still taking its replies, however slowly, is waited for. */
  #lingerOn(): void {
    const before = this.#client.unsentBytes
    this.#linger = setTimeout(() => {
      this.#upstream.destroy()
      if (this.#client.unsentBytes < before) this.#lingerOn()
      else this.#client.destroy()
    }, LINGER_MS)
  }

  #closed(): void {
    this.#open--
    if (this.#open > 0 || this.#end === undefined) return
    clearTimeout(this.#linger)
    this.#resolve(this.#end)
  }
}
