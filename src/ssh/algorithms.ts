/** What we speak in SSH, at the door and on the way out: set by hand, since ssh2's own lists still have SHA-1. */
import type { Socket } from 'node:net'
import type { Algorithms, CipherAlgorithm, KexAlgorithm, MacAlgorithm, ServerHostKeyAlgorithm } from 'ssh2'

/** Key exchanges, best first. */
export const KEX: KexAlgorithm[] = [
  'curve25519-sha256',
  'curve25519-sha256@libssh.org',
  'ecdh-sha2-nistp256',
  'ecdh-sha2-nistp384',
  'ecdh-sha2-nistp521',
]

/** AES-GCM first: twice as fast as ChaCha20 where the CPU knows AES. */
export const CIPHERS: CipherAlgorithm[] = [
  'aes128-gcm@openssh.com',
  'aes256-gcm@openssh.com',
  'chacha20-poly1305@openssh.com',
  'aes128-ctr',
  'aes256-ctr',
]

/** For aes-ctr alone; the others have their own. */
export const MACS: MacAlgorithm[] = [
  'hmac-sha2-256-etm@openssh.com',
  'hmac-sha2-512-etm@openssh.com',
  'hmac-sha2-256',
  'hmac-sha2-512',
]

const HOST_KEYS: readonly ServerHostKeyAlgorithm[] = [
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'rsa-sha2-512',
  'rsa-sha2-256',
]

/** Algorithms to ask a host for, given those of the keys it is known by; RSA never with SHA-1. */
export function hostKeyAlgorithms(known: readonly string[]): ServerHostKeyAlgorithm[] {
  return HOST_KEYS.filter(each => known.includes(each.startsWith('rsa-') ? 'ssh-rsa' : each))
}

/**
 * At the door AES-GCM alone: the client's order wins, and OpenSSH's begins with ChaCha20, which takes twice the
 * processor. Terrapin (CVE-2023-48795) does not concern GCM either, whether or not the client keeps to strict KEX.
 */
export const DOOR_ALGORITHMS: Algorithms = {
  kex: KEX,
  cipher: ['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com'],
  hmac: MACS,
  // Before a login, a stream that unpacks to a thousand times its size is nobody's wish.
  compress: ['none'],
}

/** When keys are changed (RFC 4253, 9), and how often we look. */
const REKEY = { bytes: 1024 ** 3, ms: 3_600_000, lookMs: 200 } as const

/** A connection of ssh2, either end. */
interface SshConnection {
  once(event: 'close', listener: () => void): unknown
  end(): unknown
}

/** Changes keys every 1 GiB and every hour (RFC 4253, 9), which ssh2 does not do by itself. */
export function rekeyOnSchedule(
  client: SshConnection,
  sock: Pick<Socket, 'bytesRead' | 'bytesWritten'>,
  limits: { readonly bytes: number; readonly ms: number; readonly lookMs: number } = REKEY,
): void {
  let bytes = 0
  let at = performance.now()
  const look = (): void => {
    const now = sock.bytesRead + sock.bytesWritten
    if (now - bytes < limits.bytes && performance.now() - at < limits.ms) return
    bytes = now
    at = performance.now()
    rekey(client)
  }
  const timer = setInterval(look, limits.lookMs).unref()
  client.once('close', () => clearInterval(timer))
}

/** Of ssh2 1.17.0 only the server has it as a method; should it move, the connection is ended, not left on old keys. */
function rekey(client: SshConnection): void {
  const protocol: unknown = Reflect.get(client, '_protocol')
  const method: unknown = typeof protocol === 'object' && protocol !== null && Reflect.get(protocol, 'rekey')
  if (typeof method === 'function') Reflect.apply(method, protocol, [])
  else client.end()
}
