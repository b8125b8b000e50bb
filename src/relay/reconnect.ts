import { ProtocolError } from '../protocol/errors.ts'
import { StreamError } from '../stream/errors.ts'
import { UpstreamError } from '../upstreams/errors.ts'

/** Pauses between two attempts: none before the first, then these, each longer than the last. */
const FIRST_PAUSE_MS = 100
const LONGEST_PAUSE_MS = 5000
/** Slow enough that a server that was away for a second is found within a sixth of one. */
const GROWTH = 1.15

/** A connection that has lived for so long has ended the outage, whatever has come of it. */
const STABLE_MS = 30_000

/** A connection that has lived for less, and on which nothing was answered, has ended nothing. */
const SHORT_MS = 1000

export interface ReconnectOptions {
  /** How long it is tried. */
  readonly limitMs: number
  /** One attempt, which says `back` when the session goes on. @throws UpstreamError, ProtocolError, StreamError: not now */
  readonly attempt: (isClosed: () => boolean) => Promise<void>
  readonly failed: (error: Error) => void
  readonly gaveUp: (error: Error | undefined) => void
  /** A bug of ours. */
  readonly broken: (bug: unknown) => void
}

/** Tries to get a lost upstream back, again and again, for a limited time. */
export class Reconnect {
  readonly #options: ReconnectOptions
  #isClosed = false
  /** Numbers what is tried, so that what was given up changes nothing any more. */
  #turn = 0
  #pauseMs = 0
  #beganMs = 0
  #backMs = Number.NEGATIVE_INFINITY
  #last: Error | undefined
  #wait: NodeJS.Timeout | undefined
  #limit: NodeJS.Timeout | undefined

  constructor(options: ReconnectOptions) {
    this.#options = options
  }

  /** How long the upstream has been away. */
  get awayMs(): number {
    return performance.now() - this.#beganMs
  }

  /**
   * The upstream is gone. `was`: what had come of the last time that it was back: `nothing` was asked and answered; `some`
   * of what was sent again was not; or `all` of it was. What dies of one request again and again is in one outage, with
   * its growing pauses and its limit.
   */
  begin(was: 'nothing' | 'some' | 'all'): void {
    const nowMs = performance.now()
    const upMs = nowMs - this.#backMs
    const isSettled = was === 'all' || (was === 'nothing' && upMs >= SHORT_MS)
    if (isSettled || upMs >= STABLE_MS) {
      this.#beganMs = nowMs
      this.#pauseMs = 0
      this.#last = undefined
    }
    clearTimeout(this.#limit)
    const leftMs = Math.max(0, this.#beganMs + this.#options.limitMs - nowMs)
    this.#limit = setTimeout(() => this.#giveUp(), leftMs)
    this.#again(++this.#turn)
  }

  /** The upstream is back: to be told at once, for it may be gone again in a moment. */
  back(): void {
    this.#backMs = performance.now()
    this.#turn++
    clearTimeout(this.#limit)
  }

  /** Nobody wants it back any more. */
  close(): void {
    this.#isClosed = true
    this.#turn++
    clearTimeout(this.#wait)
    clearTimeout(this.#limit)
  }

  #again(turn: number): void {
    const pauseMs = this.#pauseMs
    this.#pauseMs = Math.min(LONGEST_PAUSE_MS, Math.max(FIRST_PAUSE_MS, pauseMs * GROWTH))
    this.#wait = setTimeout(() => void this.#try(turn), pauseMs)
  }

  async #try(turn: number): Promise<void> {
    try {
      await this.#options.attempt(() => turn !== this.#turn)
    } catch (error) {
      if (!isFailure(error)) {
        this.close()
        this.#options.broken(error)
        return
      }
      if (turn !== this.#turn) return
      this.#last = error
      this.#options.failed(error)
      this.#again(turn)
    }
  }

  #giveUp(): void {
    if (this.#isClosed) return
    this.close()
    this.#options.gaveUp(this.#last)
  }
}

function isFailure(error: unknown): error is Error {
  return error instanceof UpstreamError || error instanceof ProtocolError || error instanceof StreamError
}
