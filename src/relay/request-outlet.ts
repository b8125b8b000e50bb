import type { ExportMeter } from '../observe/export-meter.ts'
import { REQUEST_SIZE } from '../protocol/request.ts'
import type { ByteStream } from '../stream/byte-stream.ts'
import type { Share } from '../stream/memory.ts'
import type { Held, Payloads } from './payloads.ts'
import type { Pending } from './pending.ts'
import { BACKLOG_BYTES } from './reply-outlet.ts'

/** Longest request that goes out without waiting for what else the tick brings. */
const LONE_REQUEST_BYTES = 8 * 1024

/** Bytes that are gathered at most: more would leave the caches before the kernel copies them. */
const GATHERED_BYTES = 256 * 1024

/** Bytes of replies under way with which the upstream has enough to do: requests behind them may wait for others. */
const BUSY_BYTES = 1024 * 1024

/** Turns of the event loop that they wait at most, and how much is enough: each write wakes the upstream. */
const PATIENT_TURNS = 8
const PATIENT_BYTES = 16 * REQUEST_SIZE

/** What an outlet stands between. */
export interface RequestOutletOptions {
  readonly client: ByteStream
  readonly upstream: ByteStream
  readonly pending: Pending
  /** Told how long requests are kept here. */
  readonly meter: ExportMeter
  /** Keeps chunks longer than that. */
  readonly payloads?: Payloads | undefined
  /** What is held of requests. */
  readonly memory: Share
  /** What is held of them back elsewhere. */
  readonly gatheredBytes: () => number
  /** Called when the upstream has taken a chunk, and with it all that was written. */
  readonly emptied: () => void
}

/** Where requests leave for the upstream: gathers them, and keeps the memory of the client's chunks until they have left. */
export class RequestOutlet {
  readonly #client: ByteStream
  readonly #upstream: ByteStream
  readonly #pending: Pending
  readonly #meter: ExportMeter
  #tookMs = 0
  #pieces: Buffer[] = []
  #chunks: (Buffer | Held)[] = []
  #sent: () => void
  readonly #payloads: Payloads | undefined
  readonly #memory: Share
  readonly #gatheredBytes: () => number
  readonly #emptied: () => void
  #corked = false
  #turns = 0
  #gathered = 0

  constructor(options: RequestOutletOptions) {
    this.#client = options.client
    this.#upstream = options.upstream
    this.#pending = options.pending
    this.#meter = options.meter
    this.#payloads = options.payloads
    this.#memory = options.memory
    this.#gatheredBytes = options.gatheredBytes
    this.#emptied = options.emptied
    this.#sent = this.#givingBack(this.#chunks)
  }

  /** Whether the client is not to be read: the upstream has more to take than may wait. */
  get isFull(): boolean {
    const { unsentBytes } = this.#upstream
    return unsentBytes > BACKLOG_BYTES || unsentBytes > this.#memory.mostBytes
  }

  /** Says how much is held: what waits for its reply, or has not left. */
  weigh(): void {
    const kept = this.#payloads?.bytes ?? 0
    const { unsentBytes } = this.#upstream
    this.#memory.hold((kept > unsentBytes ? kept : unsentBytes) + this.#gatheredBytes())
  }

  /** The upstream's stream is gone, and with it what had not left: nobody looks at these chunks any more. */
  lost(): void {
    const chunks = this.#chunks
    this.#chunks = []
    this.#sent = this.#givingBack(this.#chunks)
    for (const chunk of chunks.splice(0)) this.#release(chunk)
  }

  /** Takes a piece that passes, until the next flush. */
  readonly take = (bytes: Buffer): void => {
    this.#pieces.push(bytes)
  }

  /**
   * Writes what was taken. The pieces are parts of the client's `chunk`, which is given back when they have left; without
   * it there is more of the chunk to come.
   */
  flush(chunk?: Buffer): void {
    const last = this.#pieces.pop()
    if (last !== undefined) this.#gather(last.length)
    const tookMs = last === undefined || this.#corked ? 0 : this.#meter.take('request')
    for (const piece of this.#pieces) this.#upstream.write(piece)
    this.#pieces.length = 0
    if (chunk === undefined) {
      if (last !== undefined) this.#upstream.write(last)
    } else if (last === undefined) this.#giveBack(chunk)
    else {
      this.#chunks.push(this.#payloads?.end() ?? chunk)
      this.#upstream.write(last, this.#sent)
    }
    this.#meter.hand('request', tookMs)
    this.weigh()
  }

  /** Gives back a chunk of which nothing is left to write; parts of it may be on their way. */
  #giveBack(chunk: Buffer): void {
    const held = this.#payloads?.end()
    if (this.#upstream.unsentBytes === 0) this.#release(held ?? chunk)
    else if (held !== undefined) this.#payloads?.loosen(held)
  }

  /**
   * Makes one write of what one tick brings, or several while the upstream has enough to do: TLS hands over at most 16 KiB at
   * a time. A lone request goes at once, for nothing else is on its way.
   */
  #gather(length: number): void {
    const isLone = this.#pending.count <= 1 && length < LONE_REQUEST_BYTES
    if (!this.#corked && isLone) return
    if (!this.#corked) {
      this.#tookMs = this.#meter.take('request')
      this.#turns = 0
      setImmediate(this.#turned)
    } else if (this.#gathered < GATHERED_BYTES) {
      this.#gathered += length
      return
    } else this.#upstream.uncork()
    this.#corked = true
    this.#gathered = length
    this.#upstream.cork()
  }

  /** Whether it is, with what it has been asked for, as if all of that were alike; what is gathered here it does not know of. */
  get #isUpstreamBusy(): boolean {
    const { count, readBytes } = this.#pending
    return readBytes * (1 - this.#gathered / REQUEST_SIZE / count) > BUSY_BYTES
  }

  readonly #turned = (): void => {
    if (this.#gathered < PATIENT_BYTES && ++this.#turns < PATIENT_TURNS && this.#isUpstreamBusy) {
      setImmediate(this.#turned)
      return
    }
    this.#corked = false
    this.#upstream.uncork()
    this.#meter.hand('request', this.#tookMs)
  }

  /** What to do when the oldest of these chunks has left. */
  #givingBack(chunks: (Buffer | Held)[]): () => void {
    return () => {
      const chunk = chunks.shift()
      if (chunk !== undefined) this.#release(chunk)
      this.weigh()
      if (this.#upstream.unsentBytes === 0) this.#emptied()
    }
  }

  #release(chunk: Buffer | Held): void {
    if (Buffer.isBuffer(chunk)) this.#client.release(chunk)
    else this.#payloads?.left(chunk)
  }
}
