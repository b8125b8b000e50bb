import { Memory, type Room, Share } from '../stream/memory.ts'

/** What a session may hold where nothing is said, in bytes. */
export const DEFAULT_SESSION_BYTES = 64 * 1024 * 1024

/**
 * The memory of one session, in parts: replies that nobody reads do not stop the requests, nor these the replies that they
 * wait for.
 */
export class SessionMemory {
  /**
   * WRITEs that wait for their replies, and what has not left for the upstream: an eighth. 8 MiB of 64 are enough for
   * 80 MB/s over 100 ms; more would leave the caches, and cost a quarter more of the processor.
   */
  readonly requests: Share
  /** What the client has not taken: an eighth. */
  readonly replies: Share
  /** Replies that are put together out of parts: all that the others leave. */
  readonly joined: Room
  /** What a file is read into, or written from: a quarter. */
  readonly file: Share
  /** Writes that are kept for an upstream that may lose them; they have a limit of their own. */
  readonly replay: Share

  readonly #joined: Share

  /** `memory` is what all sessions have together. */
  constructor(memory: Memory = new Memory(), bytes: number = DEFAULT_SESSION_BYTES) {
    this.requests = new Share(memory, bytes / 8)
    this.replies = new Share(memory, bytes / 8)
    this.file = new Share(memory, bytes / 4)
    this.replay = new Share(memory, Infinity)
    const { requests, replies, file } = this
    const joined = new Share(memory, bytes)
    this.#joined = joined
    this.joined = {
      get mostBytes() {
        return Math.min(joined.mostBytes, bytes - requests.bytes - replies.bytes - file.bytes)
      },
      add: more => joined.add(more),
    }
  }

  /** Nothing is held any more. */
  end(): void {
    for (const share of [this.requests, this.replies, this.#joined, this.file, this.replay]) share.end()
  }
}
