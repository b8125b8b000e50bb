/**
 * A login at an SSH server. A host is dialled only if known_hosts has something to compare its key with, and the key is
 * compared before anything of us is told to it.
 */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect as connectSocket, type Socket } from 'node:net'
import { homedir, userInfo } from 'node:os'
import { join } from 'node:path'
import type { Client, ConnectConfig } from 'ssh2'
import type { UpstreamConfig } from '../config/config.ts'
import { printable } from '../protocol/strings.ts'
import { CIPHERS, hostKeyAlgorithms, KEX, MACS, rekeyOnSchedule } from '../ssh/algorithms.ts'
import { fingerprintOf } from '../ssh/public-key.ts'
import { UpstreamError } from './errors.ts'
import { judgeHostCertificate } from './host-certificate.ts'
import { type HostKeys, hostKeys, judgeHostKey } from './known-hosts.ts'
import { isCertificate, offerCertificates, useCertifiedKey } from './ssh-certificates.ts'
import type { SshLink } from './ssh-channel.ts'
import { SshGate } from './ssh-gate.ts'
import { loadIdentity } from './ssh-identity.ts'

/** An upstream behind SSH. */
export type SshConfig = Extract<UpstreamConfig, { kind: 'ssh' }>

/** For all of it; a visitor waits. */
const LOGIN_MS = 4500
const KEEPALIVE_MS = 15_000
const ALL_KEYS = ['ssh-ed25519', 'ecdsa-sha2-nistp256', 'ecdsa-sha2-nistp384', 'ecdsa-sha2-nistp521', 'ssh-rsa']

/** Logs in. @throws UpstreamError DIAL or HANDSHAKE, in bounded time */
export async function login(config: SshConfig): Promise<SshLink> {
  const deadline = performance.now() + LOGIN_MS
  const place = `${config.host}:${config.port}`
  const file = config.knownHosts ?? join(homedir(), '.ssh', 'known_hosts')
  const keys = loadHostKeys(file, config)
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
    const known = keys.trusted.map(({ algorithm }) => algorithm)
    client.connect({
      ...credentials,
      sock,
      username: config.user ?? userInfo().username,
      algorithms: {
        kex: KEX,
        cipher: CIPHERS,
        hmac: MACS,
        serverHostKey: hostKeyAlgorithms(known.length > 0 ? known : ALL_KEYS),
      },
      hostVerifier: (key: Buffer) => {
        refusal = refusalOf(client, key, { keys, file, host: config.host })
        return refusal === undefined
      },
      readyTimeout: Math.max(1, deadline - performance.now()),
      keepaliveInterval: KEEPALIVE_MS,
      keepaliveCountMax: 3,
    })
    if (keys.authorities.length > 0) offerCertificates(client)
    await ready
  } catch (error) {
    client.destroy()
    sock.destroy()
    const why = refusal ?? printable(error instanceof Error ? error.message : 'login failed')
    throw new UpstreamError('HANDSHAKE', `no SSH with ${place}: ${why}`, { cause: error })
  }
  rekeyOnSchedule(client, sock)
  return { client, gate: new SshGate(client, sock) }
}

/** Who has no key is not dialled at all: there would be nothing to compare with. */
function loadHostKeys(file: string, { host, port }: SshConfig): HostKeys {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw new UpstreamError('DIAL', `known hosts: ${file} can not be read`, { cause: error })
  }
  const keys = hostKeys(text, host, port)
  const known = keys.trusted.map(({ algorithm }) => algorithm)
  const why =
    known.length === 0 && keys.authorities.length === 0
      ? 'has no key of it'
      : known.length > 0 && hostKeyAlgorithms(known).length === 0
        ? `has no key of it of a kind that is taken, only ${known.join(', ')}`
        : undefined
  if (why !== undefined) throw new UpstreamError('HANDSHAKE', `no SSH with ${host}:${port}: ${file} ${why}`)
  return keys
}

interface Expected {
  readonly keys: HostKeys
  readonly file: string
  readonly host: string
}

/** Why the host may not go on with this key; undefined when it may. */
function refusalOf(client: Client, shown: Buffer, { keys, file, host }: Expected): string | undefined {
  if (isCertificate(shown)) {
    const judged = judgeHostCertificate(shown, keys, host, Date.now())
    const at = keys.authorities.map(({ line }) => line).join(',')
    if (judged.kind === 'refused') return `${judged.why} (${file}:${at})`
    useCertifiedKey(client, shown, judged.certificate)
    return undefined
  }
  const { verdict, lines } = judgeHostKey(keys, shown)
  const at = `${file}:${lines.join(',')}`
  const key = `its host key ${fingerprintOf(shown)}`
  switch (verdict) {
    case 'known':
      return undefined
    case 'changed':
      return `${key} is not what stands in ${at}: somebody may be in the middle, or the host has a new key`
    case 'revoked':
      return `${key} is revoked in ${at}`
    case 'certificates only':
      return `${key} comes without a certificate that is taken, and ${at} knows only its authority`
    case 'unknown':
      return `${key} is not in ${file}`
    default:
      return verdict satisfies never
  }
}

function credentialsOf({ identity }: SshConfig): Pick<ConnectConfig, 'privateKey' | 'agent'> {
  if (identity !== undefined) {
    const loaded = loadIdentity(identity)
    if ('problem' in loaded) throw new UpstreamError('DIAL', `identity: ${loaded.problem}`)
    return { privateKey: loaded.text }
  }
  const agent = process.env.SSH_AUTH_SOCK
  if (agent === undefined || agent === '') {
    throw new UpstreamError('DIAL', 'no identity file is named, and there is no agent (SSH_AUTH_SOCK)')
  }
  return { agent }
}

async function reach({ host, port }: SshConfig, place: string): Promise<Socket> {
  const sock = connectSocket({ host, port, noDelay: true, keepAlive: true })
  // ssh2 listens only later, and not for ever.
  sock.on('error', () => {})
  try {
    await once(sock, 'connect', { signal: AbortSignal.timeout(LOGIN_MS) })
    return sock
  } catch (error) {
    sock.destroy()
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error'
    throw new UpstreamError('DIAL', `no connection to ${place}: ${code}`, { cause: error })
  }
}
