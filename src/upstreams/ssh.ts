/** Upstreams behind SSH: one connection for all sessions to the same host, user and key, a channel for each. */
import { UpstreamError } from './errors.ts'
import { openChannel, type SshLink } from './ssh-channel.ts'
import { login, type SshConfig } from './ssh-login.ts'
import type { GatedChannel } from './ssh-stream.ts'

const HANG_UP_MS = 2000

interface Shared {
  readonly link: Promise<SshLink>
  /** Who has a channel, or waits for one. */
  users: number
  isLoggedIn: boolean
}

/** SSH connections to upstreams, shared as long as somebody has a channel on them. */
export class SshPool {
  readonly #shared = new Map<string, Shared>()

  /**
   * Opens a channel to the upstream. Those of another `lane` have another connection.
   * @throws UpstreamError DIAL or HANDSHAKE
   */
  async dial(config: SshConfig, signal: AbortSignal, lane = 0): Promise<GatedChannel> {
    const key = JSON.stringify([config.host, config.port, config.user, config.identity, config.knownHosts, lane])
    const before = this.#shared.get(key)
    try {
      return await this.#open(key, config, signal)
    } catch (error) {
      // A connection that worked has died under our hands: a new one is worth a try.
      const hasDied = before?.isLoggedIn === true && this.#shared.get(key) !== before
      if (!hasDied || signal.aborted) throw error
      return await this.#open(key, config, signal)
    }
  }

  async #open(key: string, config: SshConfig, signal: AbortSignal): Promise<GatedChannel> {
    const shared = this.#connection(key, config)
    shared.users++
    const leave = (): void => {
      if (--shared.users > 0) return
      this.#forget(key, shared)
      shared.link.then(hangUp, () => {})
    }
    try {
      const link = await inTime(shared.link, signal)
      const channel = await openChannel(link, config.target, signal)
      channel.once('close', leave)
      return { channel, gate: link.gate }
    } catch (error) {
      // Whoever comes next shall not wait for the same silence.
      if (signal.aborted) this.#forget(key, shared)
      leave()
      throw error
    }
  }

  #connection(key: string, config: SshConfig): Shared {
    const before = this.#shared.get(key)
    if (before !== undefined) return before
    const shared: Shared = { link: login(config), users: 0, isLoggedIn: false }
    this.#shared.set(key, shared)
    // The next dial connects again.
    const forget = (): void => this.#forget(key, shared)
    shared.link.then(({ client }) => {
      shared.isLoggedIn = true
      client.once('close', forget)
    }, forget)
    return shared
  }

  #forget(key: string, shared: Shared): void {
    if (this.#shared.get(key) === shared) this.#shared.delete(key)
  }
}

/** A server that does not hang up in turn is not waited for. */
function hangUp({ client }: SshLink): void {
  client.end()
  const timer = setTimeout(() => client.destroy(), HANG_UP_MS)
  client.once('close', () => clearTimeout(timer))
}

async function inTime<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  let late = (): void => {}
  const stopped = new Promise<never>((_, reject) => {
    late = () => reject(new UpstreamError('DIAL', 'no SSH login in time'))
    if (signal.aborted) late()
    else signal.addEventListener('abort', late)
  })
  try {
    return await Promise.race([promise, stopped])
  } finally {
    signal.removeEventListener('abort', late)
  }
}
