/** How those that were put off go on. */
export interface LateRequestsOptions {
  /** Asked right after a request was put off: how long it waits. */
  readonly waitMs: () => number
  /** Relays a chunk from its byte `from` on; puts off again what has to wait again. */
  readonly relay: (chunk: Buffer, from: number) => void
  /** Nothing waits any more; `isEnd`: the client has ended its direction meanwhile. */
  readonly caughtUp: (isEnd: boolean) => void
}

/** What a client has sent and its budget does not allow for yet. */
export class LateRequests {
  readonly #options: LateRequestsOptions
  /** A chunk of the client's of which all from `used` on is put off. */
  #late: { readonly chunk: Buffer; readonly used: number } | undefined
  #isEnd = false
  #isClosed = false
  #timer: NodeJS.Timeout | undefined

  constructor(options: LateRequestsOptions) {
    this.#options = options
  }

  /** Whether anything waits. */
  get waiting(): boolean {
    return this.#late !== undefined
  }

  /** Puts off a chunk from its byte `used` on, until the budget allows for the next request. */
  putOff(chunk: Buffer, used: number): void {
    this.#late = { chunk, used }
    if (!this.#isClosed) this.#timer = setTimeout(this.#goOn, this.#options.waitMs())
  }

  /** Puts a chunk behind what waits; false if nothing does. */
  queue(chunk: Buffer): boolean {
    const late = this.#late
    if (late === undefined) return false
    this.#late = { chunk: Buffer.concat([late.chunk.subarray(late.used), chunk]), used: 0 }
    return true
  }

  /** Puts the end of the client's direction behind what waits; false if nothing does. */
  queueEnd(): boolean {
    if (this.#late !== undefined) this.#isEnd = true
    return this.#late !== undefined
  }

  /** What waits now is not relayed any more. */
  close(): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
  }

  readonly #goOn = (): void => {
    const late = this.#late
    if (late === undefined) return
    this.#late = undefined
    this.#options.relay(late.chunk, late.used)
    if (this.#late === undefined && !this.#isClosed) this.#options.caughtUp(this.#isEnd)
  }
}
