/**
 * Upstreams behind SSH: one connection for all sessions to the same host, user and key, a channel for each. A host is
 * dialled only if known_hosts has a key for it, and its key is compared before anything of us is told to it.
 */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect as connectSocket, type Socket } from 'node:net'
import { homedir, userInfo } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import type { Client, ClientChannel, ConnectConfig } from 'ssh2'
import type { UpstreamConfig } from '../config/config.ts'
import { printable } from '../protocol/strings.ts'
import { CIPHERS, hostKeyAlgorithms, KEX, MACS, rekeyOnSchedule } from '../ssh/algorithms.ts'
import { UpstreamError } from './errors.ts'
import { type HostKeys, hostKeys, judgeHostKey } from './known-hosts.ts'

type SshConfig = Extract<UpstreamConfig, { kind: 'ssh' }>

const LOGIN_MS = 5000
const KEEPALIVE_MS = 15_000
/** A server that takes no packets would have ssh2 spin for ever. */
const MIN_PACKET_BYTES = 1024

interface Shared {
  readonly client: Client
  /** Channels that are open, or being opened. */
  users: number
}

/** SSH connections to upstreams, shared as long as somebody has a channel on them. */
export class SshPool {
  readonly #shared = new Map<string, Promise<Shared>>()

  /** Opens a channel to the upstream. @throws UpstreamError DIAL or HANDSHAKE */
  async dial(config: SshConfig, signal: AbortSignal): Promise<Duplex> {
    const key = JSON.stringify([config.host, config.port, config.user, config.identity, config.knownHosts])
    const connection = this.#connection(key, config)
    const shared = await connection
    shared.users++
    const leave = (): void => {
      if (--shared.users > 0) return
      if (this.#shared.get(key) === connection) this.#shared.delete(key)
      shared.client.end()
    }
    try {
      const channel = await openChannel(shared.client, config, signal)
      channel.once('close', leave)
      return channel
    } catch (error) {
      leave()
      throw error
    }
  }

  #connection(key: string, config: SshConfig): Promise<Shared> {
    const before = this.#shared.get(key)
    if (before !== undefined) return before
    const shared = login(config)
    this.#shared.set(key, shared)
    const forget = (): void => {
      if (this.#shared.get(key) === shared) this.#shared.delete(key)
    }
    // The next dial connects again.
    shared.then(({ client }) => client.once('close', forget), forget)
    return shared
  }
}

async function login(config: SshConfig): Promise<Shared> {
  const place = `${config.host}:${config.port}`
  const file = config.knownHosts ?? join(homedir(), '.ssh', 'known_hosts')
  const keys = hostKeys(readOr(file, 'known hosts'), config.host, config.port)
  refuseStranger(keys, file, place)
  const credentials = credentialsOf(config)
  const sock = await reach(config, place)
  // Only those who go out by SSH load it.
  const { default: ssh2 } = await import('ssh2')
  const client = new ssh2.Client()
  let refusal: string | undefined
  const ready = new Promise<void>((resolve, reject) => {
    client.once('ready', resolve)
    // This listener stays: an error later on must not become an uncaught exception.
    client.on('error', reject)
    client.once('close', () => reject(new Error('the connection closed')))
  })
  ready.catch(() => {})
  try {
    client.connect({
      ...credentials,
      sock,
      username: config.user ?? userInfo().username,
      algorithms: { kex: KEX, cipher: CIPHERS, hmac: MACS, serverHostKey: hostKeyAlgorithms(keys.algorithms) },
      hostVerifier: (key: Buffer) => {
        const verdict = judgeHostKey(keys, key)
        if (verdict !== 'known') refusal = `its host key is ${verdict} (${file})`
        return verdict === 'known'
      },
      readyTimeout: LOGIN_MS,
      keepaliveInterval: KEEPALIVE_MS,
      keepaliveCountMax: 3,
    })
    await ready
  } catch (error) {
    client.destroy()
    sock.destroy()
    const why = refusal ?? printable(error instanceof Error ? error.message : 'login failed')
    throw new UpstreamError('HANDSHAKE', `no SSH with ${place}: ${why}`, { cause: error })
  }
  rekeyOnSchedule(client, sock)
  return { client, users: 0 }
}

/** Who has no key is not dialled at all: there would be nothing to compare with. */
function refuseStranger({ trusted, hasAuthority }: HostKeys, file: string, place: string): void {
  if (trusted.length > 0) return
  const why = hasAuthority
    ? 'has only a @cert-authority for it, and certificates are not understood'
    : 'has no key of it'
  throw new UpstreamError('HANDSHAKE', `no SSH with ${place}: ${file} ${why}`)
}

function credentialsOf({ identity }: SshConfig): Pick<ConnectConfig, 'privateKey' | 'agent'> {
  if (identity !== undefined) return { privateKey: readOr(identity, 'identity') }
  const agent = process.env.SSH_AUTH_SOCK
  if (agent === undefined || agent === '') {
    throw new UpstreamError('DIAL', 'no identity file is named, and there is no agent (SSH_AUTH_SOCK)')
  }
  return { agent }
}

function readOr(file: string, what: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new UpstreamError('DIAL', `${what}: ${file} can not be read`, { cause: error })
  }
}

async function reach({ host, port }: SshConfig, place: string): Promise<Socket> {
  const sock = connectSocket({ host, port, noDelay: true })
  try {
    await once(sock, 'connect', { signal: AbortSignal.timeout(LOGIN_MS) })
    return sock
  } catch (error) {
    sock.on('error', () => {})
    sock.destroy()
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error'
    throw new UpstreamError('DIAL', `no connection to ${place}: ${code}`, { cause: error })
  }
}

function openChannel(client: Client, { target }: SshConfig, signal: AbortSignal): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const fail = (why: string, cause?: unknown): void => {
      signal.removeEventListener('abort', late)
      reject(new UpstreamError('DIAL', `no SSH channel: ${why}`, { cause }))
    }
    const late = (): void => fail('no answer in time')
    signal.addEventListener('abort', late)
    const opened = (error: Error | undefined, channel: ClientChannel): void => {
      if (error !== undefined) {
        fail(printable(error.message), error)
        return
      }
      channel.on('error', () => {})
      const packet: unknown = Reflect.get(Object(Reflect.get(channel, 'outgoing')), 'packetSize')
      const isTooSmall = typeof packet !== 'number' || packet < MIN_PACKET_BYTES
      if (signal.aborted || isTooSmall) {
        channel.close()
        fail(isTooSmall ? 'the server takes no packets of use' : 'no answer in time')
        return
      }
      signal.removeEventListener('abort', late)
      resolve(closing(channel))
    }
    if (signal.aborted) {
      late()
      return
    }
    try {
      if (target.kind === 'unix') client.openssh_forwardOutStreamLocal(target.path, opened)
      else client.forwardOut('127.0.0.1', 0, 'localhost', target.port, opened)
    } catch (error) {
      fail('the connection closed', error)
    }
  })
}

/** ssh2 tells of a channel's close only to who has read it to its end; one that is destroyed is read by nobody. */
function closing(channel: ClientChannel): Duplex {
  const destroy = channel.destroy.bind(channel)
  channel.destroy = () => {
    channel.removeAllListeners('data')
    channel.resume()
    return destroy()
  }
  return channel
}
