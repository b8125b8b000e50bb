import type { ByteStream } from '../stream/byte-stream.ts'

/** Unsent bytes towards one side above which the other is not read. */
export const BACKLOG_BYTES = 2 * 1024 * 1024

/** Chunks of replies that may be on their way to the client at once. */
const CHUNKS_ON_THE_WAY = 2

/** Where replies leave for the client: keeps the memory of the upstream's chunks until they have, and the pace. */
export class ReplyOutlet {
  readonly #client: ByteStream
  readonly #upstream: ByteStream
  #pieces: Buffer[] = []
  #chunks: Buffer[] = []

  constructor(client: ByteStream, upstream: ByteStream) {
    this.#client = client
    this.#upstream = upstream
  }

  /**
   * Whether more may be read from the upstream. Two chunks at most are on their way: while one leaves the other waits.
   * Node would join more than one that waits, which for TLS means to copy them.
   */
  get isFree(): boolean {
    return this.#chunks.length < CHUNKS_ON_THE_WAY && this.#client.unsentBytes <= BACKLOG_BYTES
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
      return
    }
    if (first !== undefined) this.#client.write(pieces.length === 1 ? first : Buffer.concat(pieces))
    if (chunk !== undefined) this.#upstream.release(chunk)
  }

  readonly #sent = (): void => {
    const chunk = this.#chunks.shift()
    if (chunk !== undefined) this.#upstream.release(chunk)
    if (this.isFree) this.#upstream.resume()
  }
}
