/**
 * One stream over several connections to the same export: each request goes out whole by the one that has least to do, and
 * the replies of all are joined, whole or chunk by chunk; cookies tell them apart. For one TCP connection carries a window
 * a round trip, however fast the line is. Payloads are not copied but for the odd end of a chunk.
 *
 * It promises what the upstream promises by CAN_MULTI_CONN, and only for such an upstream it may be used. There the effects
 * of FLUSH and FUA are visible across all connections, so that a FLUSH by one connection would do for the writes that had
 * been answered on any. It goes out by all of them all the same, and is answered when all have: what it costs is little,
 * and an upstream with a cache for each connection that says it had none loses nothing by that. Requests that are out at the
 * same time have no order (proto.md, "Ordering of messages and writes"), by one connection or by many.
 */
import { Cmd, Err } from '../protocol/constants.ts'
import { REQUEST_SIZE, RequestField } from '../protocol/request.ts'
import { encodeSimpleReply, SimpleReplyField } from '../protocol/simple-reply.ts'
import type { ByteSink } from '../stream/byte-stream.ts'
import type { GatedStream } from '../stream/write-gate.ts'
import { Departures } from './departures.ts'
import { Lane } from './lane.ts'
import { roomyCopy } from './reply-units.ts'

/** Unsent bytes below which more is asked for. */
const LOW_BYTES = 1024 * 1024

/** How long the other connections may take to do what they were asked for when one has died. */
const DRAIN_MS = 5000

interface Flush {
  readonly high: number
  missing: number
  error: number
}

export class Spread implements GatedStream {
  readonly headroomBytes: number
  readonly #lanes: readonly Lane[]
  readonly #departures = new Departures(() => this.#partLeft())
  #isBacklogged = false
  readonly #flushes = new Map<number, Flush>()
  /** One connection has died, or all are to: nothing more goes out. */
  #isFailing = false
  #isEnding = false
  #isDestroyed = false
  #hasStarted = false
  /** Replies were lost: none may follow. */
  #isMute = false
  #isPaused = true
  #isPassing = false
  #sink: ByteSink | undefined
  #error: Error | undefined
  #drain: NodeJS.Timeout | undefined
  /** In the middle of whose unit the joined replies are. */
  #floor: Lane | undefined
  #last = 0
  readonly #head = Buffer.alloc(REQUEST_SIZE)
  #headLength = 0
  #payloadLeft = 0
  /** Where the payload goes that is on its way; undefined: nowhere. */
  #target: Lane | undefined

  /** `isStructured`: structured replies were negotiated, on all of them. */
  constructor(streams: readonly GatedStream[], isStructured: boolean) {
    this.headroomBytes = Math.min(...streams.map(stream => stream.headroomBytes))
    this.#lanes = streams.map((stream): Lane => {
      const lane: Lane = new Lane(stream, isStructured, (cookie, error) => this.#flushed(lane, cookie, error))
      return lane
    })
  }

  get unsentBytes(): number {
    let bytes = 0
    for (const { stream } of this.#lanes) bytes += stream.unsentBytes
    return bytes
  }

  start(sink: ByteSink): void {
    this.#sink = sink
    this.#isPaused = false
    if (!this.#hasStarted) for (const lane of this.#lanes) lane.start(this.#earOf(lane))
    this.#hasStarted = true
    queueMicrotask(() => (this.#isOver ? this.#tellClosed() : this.#pass()))
  }

  /** What arrives meanwhile waits here, up to a limit for each connection, and then in the kernel. */
  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    queueMicrotask(() => this.#pass())
  }

  write(bytes: Uint8Array, sent?: () => void): void {
    const buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#departures.write(sent, left => this.#route(buffer, left))
    this.#isBacklogged ||= this.unsentBytes > LOW_BYTES
  }

  /**
   * Not when a connection says that it has drained: each says so only after a backlog of its own, which for an SSH channel is
   * 2 MiB, and theirs together may be too much before any of them has one.
   */
  #partLeft(): void {
    const { unsentBytes } = this
    if (unsentBytes > (this.#isBacklogged ? LOW_BYTES : 0)) return
    this.#isBacklogged = false
    this.#sink?.drained()
  }

  gate(mayWrite: () => boolean): void {
    const isOpen = (): boolean => {
      if (mayWrite()) return true
      // A connection asks when it is destroyed, too.
      if (!this.#isDestroyed) this.destroy()
      return false
    }
    for (const { stream } of this.#lanes) stream.gate(isOpen)
  }

  cork(): void {
    for (const { stream } of this.#lanes) stream.cork()
  }

  uncork(): void {
    for (const { stream } of this.#lanes) stream.uncork()
  }

  /** All connections are of one kind. */
  release(chunk: Buffer): void {
    this.#lanes[0]?.stream.release(chunk)
  }

  end(): void {
    this.#isEnding = true
    for (const { stream } of this.#lanes) stream.end()
  }

  destroy(): void {
    this.#isDestroyed = true
    this.#isMute = true
    clearTimeout(this.#drain)
    for (const lane of this.#lanes) {
      lane.drop()
      lane.stream.destroy()
    }
  }

  get #isOver(): boolean {
    return this.#lanes.every(({ isOpen }) => !isOpen)
  }

  #tellClosed(): void {
    const sink = this.#sink
    this.#sink = undefined
    sink?.closed(this.#error)
  }

  #earOf(lane: Lane): ByteSink {
    return {
      data: chunk => this.#arrived(lane, chunk),
      ended: () => {
        lane.hasEnded = true
        if (!this.#isEnding) this.#lost(lane)
        else if (this.#lanes.every(({ hasEnded }) => hasEnded)) this.#sink?.ended()
      },
      closed: error => {
        lane.isOpen = false
        if (!this.#isEnding && !this.#isDestroyed) this.#lost(lane, error)
        if (!this.#isOver) return
        clearTimeout(this.#drain)
        for (const each of this.#lanes) each.drop()
        this.#tellClosed()
      },
      drained: () => {},
    }
  }

  /** Sends whole requests, each by one connection; as few pieces as there are changes of it. */
  #route(bytes: Buffer, left: () => () => void): void {
    let from = 0
    let at = 0
    let lane = this.#target
    const send = (): void => {
      if (lane !== undefined && at > from) lane.stream.write(bytes.subarray(from, at), left())
      from = at
    }
    while (at < bytes.length) {
      if (this.#payloadLeft > 0) {
        const end = Math.min(at + this.#payloadLeft, bytes.length)
        this.#payloadLeft -= end - at
        at = end
      } else if (this.#headLength > 0 || bytes.length - at < REQUEST_SIZE) {
        send()
        at = this.#gatherHead(bytes, at)
        from = at
        lane = this.#target
      } else {
        const type = bytes.readUInt16BE(at + RequestField.TYPE)
        const isForAll = type === Cmd.FLUSH || type === Cmd.DISC
        if (isForAll) send()
        const next = this.#assign(bytes, at)
        if (next !== lane && !isForAll) send()
        at += REQUEST_SIZE
        if (isForAll) from = at
        lane = next
      }
    }
    send()
  }

  /** A head that came in pieces leaves as a copy. */
  #gatherHead(bytes: Buffer, at: number): number {
    const copied = bytes.copy(this.#head, this.#headLength, at, at + REQUEST_SIZE - this.#headLength)
    this.#headLength += copied
    if (this.#headLength < REQUEST_SIZE) return at + copied
    this.#headLength = 0
    this.#assign(this.#head, 0)?.stream.write(Buffer.from(this.#head))
    return at + copied
  }

  /** Which connection gets the request whose head is at `at`; undefined: none, or it has gone out by all. */
  #assign(bytes: Buffer, at: number): Lane | undefined {
    const type = bytes.readUInt16BE(at + RequestField.TYPE)
    const cookie = bytes.readUInt32BE(at + RequestField.COOKIE + 4)
    const length = bytes.readUInt32BE(at + RequestField.LENGTH)
    this.#payloadLeft = type === Cmd.WRITE ? length : 0
    this.#target = undefined
    // Whoever goes on after that sends again what was not answered.
    if (this.#isFailing || this.#isDestroyed) return undefined
    if (type === Cmd.FLUSH || type === Cmd.DISC) {
      const head = Buffer.from(bytes.subarray(at, at + REQUEST_SIZE))
      const high = bytes.readUInt32BE(at + RequestField.COOKIE)
      if (type === Cmd.FLUSH) this.#flushes.set(cookie, { high, missing: this.#lanes.length, error: 0 })
      for (const { units, stream } of this.#lanes) {
        if (type === Cmd.FLUSH) units.ask(cookie, type, 0)
        stream.write(head)
      }
      return undefined
    }
    let [least] = this.#lanes
    for (const lane of this.#lanes)
      if (least === undefined || lane.units.costBytes < least.units.costBytes) least = lane
    least?.units.ask(cookie, type, length)
    this.#target = least
    return least
  }

  /** A FLUSH is answered when all connections have, by the first error that there was. */
  #flushed(lane: Lane, cookie: number, failure: number): void {
    const flush = this.#flushes.get(cookie)
    if (flush === undefined) return
    flush.error ||= failure
    if (--flush.missing > 0) return
    this.#flushes.delete(cookie)
    // Simple, as it may be for all but READ and BLOCK_STATUS.
    const reply = encodeSimpleReply({ error: Err.NONE, cookie: (BigInt(flush.high) << 32n) | BigInt(cookie) })
    reply.writeUInt32BE(flush.error, SimpleReplyField.ERROR)
    lane.hold(roomyCopy(reply), reply.length)
  }

  #arrived(lane: Lane, chunk: Buffer): void {
    try {
      lane.take(chunk)
    } catch (error) {
      // What came before it has passed, and is judged by others.
      this.#error ??= error instanceof Error ? error : undefined
      this.destroy()
      return
    }
    this.#pass()
    if (this.#isFailing) this.#settle()
  }

  /** Passes on what waits, unit by unit; one that has begun goes on to its end, and the others wait. */
  #pass(): void {
    if (this.#isPassing) return
    this.#isPassing = true
    try {
      while (!this.#isPaused && !this.#isMute && this.#sink !== undefined) {
        const lane = this.#floor ?? this.#choose()
        const piece = lane?.next(this.#lanes.some(other => other !== lane && other.hasWhole))
        if (piece === undefined) break
        this.#floor = piece.isWhole ? undefined : lane
        this.#sink.data(piece.bytes)
      }
    } finally {
      this.#isPassing = false
    }
    for (const lane of this.#lanes) if (lane.isOpen) lane.pace()
  }

  /** Whose turn it is: in turns those of which a whole unit is there; one that has only begun if nobody would wait for it. */
  #choose(): Lane | undefined {
    const count = this.#lanes.length
    for (let turn = 1; turn <= count; turn++) {
      const at = (this.#last + turn) % count
      const lane = this.#lanes[at]
      if (lane?.hasWhole !== true) continue
      this.#last = at
      return lane
    }
    const isAlone = (lane: Lane): boolean => this.#lanes.every(other => other === lane || other.units.isIdle)
    return this.#lanes.find(lane => !lane.isEmpty && (lane.isFull || isAlone(lane)))
  }

  /**
   * A connection has died. The stream ends with it, but not before the others have done what they were asked for: a write
   * that is still on its way there could else land after it was sent again and answered, over what was written since.
   */
  #lost(lane: Lane, error?: Error): void {
    if (this.#isDestroyed) return
    this.#error ??= error
    lane.stream.destroy()
    if (!this.#isFailing) {
      this.#isFailing = true
      this.#drain = setTimeout(() => this.destroy(), DRAIN_MS)
    }
    this.#settle()
  }

  #settle(): void {
    const dead = this.#floor !== undefined && !this.#floor.isOpen && this.#floor.isEmpty
    // What does not get through now never will; it is not answered, then.
    if (dead || this.#lanes.some(({ isFull }) => isFull)) this.#isMute = true
    if (this.#isMute) {
      for (const each of this.#lanes) {
        each.drop()
        if (each.isOpen) each.pace()
      }
    }
    const isQuiet = this.#lanes.every(({ isOpen, hasEnded, units }) => !isOpen || hasEnded || units.isIdle)
    if (isQuiet) this.destroy()
  }
}
