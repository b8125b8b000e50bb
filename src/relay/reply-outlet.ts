import { giveBuffer, HEADROOM_BYTES, joinWhole, LARGE_BYTES, SMALL_BYTES } from '../stream/buffer-pool.ts'
import type { ByteStream } from '../stream/byte-stream.ts'
import type { Share } from '../stream/memory.ts'
import { expectedBytes } from './expected-bytes.ts'
import type { Pending } from './pending.ts'
import type { ReplyKinds } from './replies.ts'

/** Unsent bytes towards one side above which the other is not read, at most. */
export const BACKLOG_BYTES = 2 * 1024 * 1024

/** Chunks of replies that may be on their way to the client at once. */
const CHUNKS_ON_THE_WAY = 2

/** Where there is less room than that, small chunks are read. */
const ROOMY_BYTES = CHUNKS_ON_THE_WAY * LARGE_BYTES

/** What fits into a small one. */
const LITTLE_BYTES = SMALL_BYTES - HEADROOM_BYTES

/** Where replies leave for the client: keeps the memory of the upstream's chunks until they have, and the pace. */
export class ReplyOutlet {
  readonly #client: ByteStream
  readonly #upstream: ByteStream
  readonly #memory: Share
  #pieces: Buffer[] = []
  #chunks: Buffer[] = []

  /** `memory` is that of what the client has not taken. */
  constructor(client: ByteStream, upstream: ByteStream, memory: Share) {
    this.#client = client
    this.#upstream = upstream
    this.#memory = memory
  }

  /**
   * Whether more may be read from the upstream. Two chunks at most are on their way: while one leaves the other waits.
   * Node would join more than one that waits, which for TLS means to copy them.
   */
  get isFree(): boolean {
    if (this.#chunks.length >= CHUNKS_ON_THE_WAY) return false
    const { unsentBytes } = this.#client
    return unsentBytes <= BACKLOG_BYTES && unsentBytes <= this.#memory.mostBytes
  }

  /** How much is to be read at once of what is expected, as `expectedBytes` has it; 0: nothing is. */
  chunkBytes(pending: Pending, left: number, structured: ReplyKinds): number {
    const bytes = expectedBytes(pending, left, structured)
    return this.#memory.mostBytes >= ROOMY_BYTES ? bytes : Math.min(bytes, LITTLE_BYTES)
  }

  /** Takes a piece that passes, until the next flush. */
  readonly take = (bytes: Buffer): void => {
    this.#pieces.push(bytes)
  }

  /**
   * Writes what was taken. The pieces are parts of the upstream's `chunk`, whose memory is used again only when the last
   * of them has left. Several pieces are joined: TLS would do so anyway, and the chunk is free at once.
   */
  flush(chunk?: Buffer): void {
    const pieces = this.#pieces
    const [first] = pieces
    if (first !== undefined) this.#pieces = []
    if (first !== undefined && pieces.length === 1 && chunk !== undefined) {
      this.#chunks.push(chunk)
      this.#client.write(first, this.#sent)
    } else {
      if (first !== undefined && pieces.length === 1) this.#client.write(first, this.#left)
      else if (first !== undefined) this.#writeJoined(pieces)
      if (chunk !== undefined) this.#upstream.release(chunk)
    }
    this.#memory.hold(this.#client.unsentBytes)
  }

  /** Where nothing waits, in memory that is used again: it is larger than what it holds, so no more than one waits. */
  #writeJoined(pieces: readonly Buffer[]): void {
    const replies = this.#client.unsentBytes === 0 ? joinWhole(pieces) : Buffer.concat(pieces)
    this.#client.write(replies, () => {
      giveBuffer(replies)
      this.#left()
    })
  }

  readonly #sent = (): void => {
    const chunk = this.#chunks.shift()
    if (chunk !== undefined) this.#upstream.release(chunk)
    this.#left()
  }

  /** Not when the client's stream says that it has drained: it does only after a backlog of its own, which may be larger. */
  readonly #left = (): void => {
    this.#memory.hold(this.#client.unsentBytes)
    if (this.isFree) this.#upstream.resume()
  }
}
