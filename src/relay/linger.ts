import type { ByteStream } from '../stream/byte-stream.ts'

/** How long both sides have to close after the last reply has left, and a client may take none of it. */
const LINGER_MS = 5000

/** Closes what has not closed by itself; a client that is still taking its replies, however slowly, is waited for. */
export class Linger {
  readonly #client: ByteStream
  readonly #upstream: ByteStream
  #timer: NodeJS.Timeout | undefined

  constructor(client: ByteStream, upstream: ByteStream) {
    this.#client = client
    this.#upstream = upstream
  }

  begin(): void {
    const before = this.#client.unsentBytes
    this.#timer = setTimeout(() => {
      this.#upstream.destroy()
      if (this.#client.unsentBytes < before) this.begin()
      else this.#client.destroy()
    }, LINGER_MS)
  }

  /** Both have closed. */
  end(): void {
    clearTimeout(this.#timer)
  }
}
