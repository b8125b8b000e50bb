/**
 * A connected byte stream as negotiation and relay see it, whatever carries it: a socket, TLS, an SSH channel, a file.
 * It pushes what arrives into one sink and says when what was written has left; how to pull exact bytes out of it is
 * the business of Wire.
 */
export interface ByteStream {
  /** Bytes written that have not left this process yet. */
  readonly unsentBytes: number

  /** Bytes of memory in front of each delivered chunk that the receiver may write to as well. */
  readonly headroomBytes: number

  /**
   * Delivers all that arrives to `sink` from now on, instead of to the sink before it. `expectedBytes` tells, when it is
   * asked between two reads, how much is still to come: the stream may choose its read buffer by it, and reads no more
   * than that at once when it is much.
   */
  start(sink: ByteSink, expectedBytes?: () => number): void

  /** Stops delivering; what arrives meanwhile waits in the kernel. */
  pause(): void
  resume(): void

  /** Writes bytes; they must not change until `sent` is called, in order, also when the stream has died. */
  write(bytes: Uint8Array, sent?: () => void): void

  /** All writes between cork and uncork leave as one. */
  cork(): void
  uncork(): void

  /** Gives a delivered chunk back for reuse: nobody may look at it any more. */
  release(chunk: Buffer): void

  /** Ends our direction after all that was written (TLS: close_notify first). */
  end(): void

  /** Ends both directions now. */
  destroy(): void
}

/** Who receives from a ByteStream. Calls are synchronous and never overlap. */
export interface ByteSink {
  /** Bytes arrived. The receiver may rewrite them in place, and gives them back with `release`. */
  data(chunk: Buffer): void

  /** The peer ended its direction; ours still works. */
  ended(): void

  /** The stream is gone; `error` says why if it did not end in order. Called once, nothing follows. */
  closed(error?: Error): void

  /** All that was written has left, after a time when it had not. */
  drained(): void
}
