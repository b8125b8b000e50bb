import type { UpstreamConfig } from '../config/config.ts'
import { UpstreamError } from './errors.ts'
import { SshPool } from './ssh.ts'

/**
 * Fewer than the 10 connections that nbd-server's listen(2) lets wait. Beyond them the kernel drops the last step of the
 * handshake: TCP looks connected here and stays silent for 1, 3, 7 s; a Unix socket says EAGAIN at once.
 */
const AT_ONCE = 8

/** How long a visitor waits for its turn. */
const WAIT_MS = 5000

interface Line {
  busy: number
  /** Whose turn comes, in order of arrival. */
  readonly waiting: Set<() => void>
}

/** Opens a few connections at a time to each server, so that a crowd of visitors does not overrun its backlog. */
export class DialQueue {
  /** Connections that the dials of one gateway share. */
  readonly ssh = new SshPool()
  readonly #lines = new Map<string, Line>()
  readonly #atOnce: number

  /** `sharers`: processes that dial the same servers, with a queue of their own each. */
  constructor(sharers = 1) {
    this.#atOnce = Math.max(1, Math.floor(AT_ONCE / sharers))
  }

  /**
   * Runs `dial`, which ends when the server has answered, as soon as its turn has come.
   * @throws UpstreamError DIAL when that takes too long, and what `dial` throws
   */
  async run<Link>(upstream: UpstreamConfig, dial: () => Promise<Link>): Promise<Link> {
    if (upstream.kind === 'file') return dial()
    const place = upstream.kind === 'unix' ? upstream.path : `${upstream.host}:${upstream.port}`
    await this.#enter(place)
    try {
      return await dial()
    } finally {
      this.#leave(place)
    }
  }

  async #enter(place: string): Promise<void> {
    const line = this.#lines.get(place) ?? { busy: 0, waiting: new Set() }
    this.#lines.set(place, line)
    if (line.busy < this.#atOnce) {
      line.busy++
      return
    }
    await new Promise<void>((resolve, reject) => {
      const turn = (): void => {
        clearTimeout(timer)
        resolve()
      }
      const timer = setTimeout(() => {
        line.waiting.delete(turn)
        reject(new UpstreamError('DIAL', `no turn in time: ${line.waiting.size} more wait for this upstream`))
      }, WAIT_MS)
      line.waiting.add(turn)
    })
  }

  #leave(place: string): void {
    const line = this.#lines.get(place)
    if (line === undefined) return
    const [next] = line.waiting
    if (next !== undefined) {
      // The next one takes over the place of the one who leaves.
      line.waiting.delete(next)
      next()
    } else if (--line.busy === 0) this.#lines.delete(place)
  }
}
