/**
 * The time that rights end by: what the system says, but never earlier than it has been. Who sets the clock back (or the
 * server that it is set by) does not bring back a rule, a key or a certificate that has run out.
 */
export class RightsClock {
  readonly #wall: () => number
  readonly #monotonic: () => number
  /** Wall time less monotonic time, the most that it has been. */
  #offset: number

  /** Both in ms; the second from any moment on. */
  constructor(wall: () => number = Date.now, monotonic: () => number = () => performance.now()) {
    this.#wall = wall
    this.#monotonic = monotonic
    this.#offset = wall() - monotonic()
  }

  /** Milliseconds since 1970. */
  now(): number {
    const monotonic = this.#monotonic()
    this.#offset = Math.max(this.#offset, this.#wall() - monotonic)
    return monotonic + this.#offset
  }

  /** How far the system's clock is behind this one: what it was set back by. In ms, 0 or a little more where nobody has set it. */
  behindMs(): number {
    return this.now() - this.#wall()
  }

  /** Goes by the system's clock again: somebody who may has said that it is right now. */
  follow(): void {
    this.#offset = this.#wall() - this.#monotonic()
  }
}

/** That of this process. */
export const rightsClock = new RightsClock()
