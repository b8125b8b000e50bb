import type { ByteStream } from '../stream/byte-stream.ts'
import type { Share } from '../stream/memory.ts'

/** Requests out above which the client is not read, and below which it is again. */
const MANY_REQUESTS = { stop: 1024, go: 512 } as const

/** The client is not read when WRITEs that wait for their replies take more than they may, and again at this part of it. */
const GO_PART = 3 / 4

/** Why a client is not being read: bits of a set. */
export const Hold = {
  UPSTREAM_BACKLOG: 1,
  CLIENT_BACKLOG: 2,
  MANY_REQUESTS: 4,
  THROTTLE: 8,
  MANY_BYTES: 16,
} as const
export type Hold = (typeof Hold)[keyof typeof Hold]

/** Reads a client only while there is no reason not to. */
export class Holds {
  readonly #client: ByteStream
  readonly #memory: Share
  #held = 0

  /** `memory` is that of WRITEs that wait for their replies. */
  constructor(client: ByteStream, memory: Share) {
    this.#client = client
    this.#memory = memory
  }

  /** Whether there is a reason. */
  get any(): boolean {
    return this.#held !== 0
  }

  /** More is in flight: so many requests, and bytes that are kept of those that are whole. The others need the client. */
  more(requests: number, keptBytes: number): void {
    if (requests > MANY_REQUESTS.stop) this.hold(Hold.MANY_REQUESTS)
    if (keptBytes > this.#memory.mostBytes) this.hold(Hold.MANY_BYTES)
  }

  /** Less is in flight. */
  fewer(requests: number, keptBytes: number): void {
    if (requests < MANY_REQUESTS.go) this.release(Hold.MANY_REQUESTS)
    if (keptBytes <= this.#memory.mostBytes * GO_PART) this.release(Hold.MANY_BYTES)
  }

  hold(reason: Hold): void {
    if (this.#held === 0) this.#client.pause()
    this.#held |= reason
  }

  release(reason: Hold): void {
    if ((this.#held & reason) === 0) return
    this.#held &= ~reason
    if (this.#held === 0) this.#client.resume()
  }
}
