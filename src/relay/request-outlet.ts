import type { ExportMeter } from '../observe/export-meter.ts'
import type { ByteStream } from '../stream/byte-stream.ts'
import type { Pending } from './pending.ts'

/** Longest request that goes out without waiting for what else the tick brings. */
const LONE_REQUEST_BYTES = 8 * 1024

/** Bytes that are gathered at most: more would leave the caches before the kernel copies them. */
const GATHERED_BYTES = 256 * 1024

/** What an outlet stands between. */
export interface RequestOutletOptions {
  readonly client: ByteStream
  readonly upstream: ByteStream
  readonly pending: Pending
  /** Told how long requests are kept here. */
  readonly meter: ExportMeter
}

/** Where requests leave for the upstream: gathers them, and keeps the memory of the client's chunks until they have left. */
export class RequestOutlet {
  readonly #client: ByteStream
  readonly #upstream: ByteStream
  readonly #pending: Pending
  readonly #meter: ExportMeter
  #tookMs = 0
  #pieces: Buffer[] = []
  #chunks: Buffer[] = []
  #corked = false
  #gathered = 0

  constructor({ client, upstream, pending, meter }: RequestOutletOptions) {
    this.#client = client
    this.#upstream = upstream
    this.#pending = pending
    this.#meter = meter
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
      this.#chunks.push(chunk)
      this.#upstream.write(last, this.#sent)
    }
    this.#meter.hand('request', tookMs)
  }

  /** Gives back a chunk of which nothing is left to write; parts of it may be on their way. */
  #giveBack(chunk: Buffer): void {
    if (this.#upstream.unsentBytes === 0) this.#client.release(chunk)
  }

  /**
   * Makes one write of what one tick brings: TLS hands over at most 16 KiB at a time. A lone request goes at once, for
   * nothing else is on its way.
   */
  #gather(length: number): void {
    const isLone = this.#pending.count <= 1 && length < LONE_REQUEST_BYTES
    if (!this.#corked && isLone) return
    if (!this.#corked) {
      this.#tookMs = this.#meter.take('request')
      setImmediate(this.#uncork)
    } else if (this.#gathered < GATHERED_BYTES) {
      this.#gathered += length
      return
    } else this.#upstream.uncork()
    this.#corked = true
    this.#gathered = length
    this.#upstream.cork()
  }

  readonly #uncork = (): void => {
    this.#corked = false
    this.#upstream.uncork()
    this.#meter.hand('request', this.#tookMs)
  }

  readonly #sent = (): void => {
    const chunk = this.#chunks.shift()
    if (chunk !== undefined) this.#client.release(chunk)
  }
}
