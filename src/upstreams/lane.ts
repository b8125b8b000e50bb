import type { ByteSink } from '../stream/byte-stream.ts'
import type { GatedStream } from '../stream/write-gate.ts'
import { ReplyUnits, roomyCopy } from './reply-units.ts'

/** Replies of a connection that wait here for those of the others; above that it is not read. */
const HELD_BYTES = 512 * 1024

/** One of several connections to the same export, with the replies that have come and wait for their turn. */
export class Lane {
  readonly stream: GatedStream
  readonly units: ReplyUnits
  isOpen = true
  hasEnded = false
  #pieces: Buffer[] = []
  /** Where in each piece the last unit ends; 0: none does. */
  #ends: number[] = []
  #whole = 0
  #heldBytes = 0
  #isReading = true

  /** `flushed`: it has answered a FLUSH. */
  constructor(stream: GatedStream, isStructured: boolean, flushed: (cookie: number, error: number) => void) {
    this.stream = stream
    this.units = new ReplyUnits({ piece: (bytes, end) => this.hold(bytes, end), flushed }, isStructured)
  }

  start(sink: ByteSink): void {
    this.stream.start(sink, () => this.units.expectedBytes)
  }

  get isEmpty(): boolean {
    return this.#pieces.length === 0
  }

  get isFull(): boolean {
    return this.#heldBytes >= HELD_BYTES
  }

  /** Whether a unit waits whose end has come. */
  get hasWhole(): boolean {
    return this.#whole > 0
  }

  /** Bytes have arrived. @throws ProtocolError */
  take(chunk: Buffer): void {
    if (!this.units.feed(chunk)) this.stream.release(chunk)
  }

  hold(bytes: Buffer, end: number): void {
    this.#pieces.push(bytes)
    this.#ends.push(end)
    this.#heldBytes += bytes.length
    if (end > 0) this.#whole++
  }

  /**
   * The next piece, and whether it ends with its unit. If others wait, it is cut where its last unit ends; what is behind
   * that, the beginning of a unit, is copied: a part of a chunk can not be given back.
   */
  next(othersWait: boolean): { readonly bytes: Buffer; readonly isWhole: boolean } | undefined {
    const [bytes] = this.#pieces
    const [end = 0] = this.#ends
    if (bytes === undefined) return undefined
    if (end > 0) this.#whole--
    if (!othersWait || end === 0 || end === bytes.length) {
      this.#pieces.shift()
      this.#ends.shift()
      this.#heldBytes -= bytes.length
      return { bytes, isWhole: end === bytes.length }
    }
    this.#pieces[0] = roomyCopy(bytes.subarray(end))
    this.#ends[0] = 0
    this.#heldBytes -= end
    return { bytes: bytes.subarray(0, end), isWhole: true }
  }

  /** Reads on unless too much waits. */
  pace(): void {
    if (this.#isReading !== this.isFull) return
    this.#isReading = !this.#isReading
    if (this.#isReading) this.stream.resume()
    else this.stream.pause()
  }

  /** Nobody wants what waits. */
  drop(): void {
    for (const piece of this.#pieces) this.stream.release(piece)
    this.#pieces = []
    this.#ends = []
    this.#whole = 0
    this.#heldBytes = 0
  }
}
