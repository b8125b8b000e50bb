import type { ByteSink, ByteStream } from '../stream/byte-stream.ts'

/**
 * Chunks of a stream on their way to a sink behind something that rewrites them: what leaves whole is lent on and given
 * back as it was; what leaves in pieces is copied, since a chunk can be given back only once.
 */
export class LentChunks {
  readonly #stream: ByteStream
  readonly #lent = new WeakSet<Buffer>()

  constructor(stream: ByteStream) {
    this.#stream = stream
  }

  /** Hands over the pieces of a chunk, and what has come between them. */
  deliver(chunk: Buffer, pieces: readonly Buffer[], sink: () => ByteSink | undefined): void {
    const own = pieces.map(piece => (piece.buffer === chunk.buffer && piece !== chunk ? Buffer.from(piece) : piece))
    if (pieces.includes(chunk)) this.#lent.add(chunk)
    else this.#stream.release(chunk)
    for (const piece of own) sink()?.data(piece)
  }

  release(chunk: Buffer): void {
    if (this.#lent.delete(chunk)) this.#stream.release(chunk)
  }
}
