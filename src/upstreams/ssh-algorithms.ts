/** What we speak when we go out by SSH: set by hand, since ssh2's own lists still have SHA-1. */
import type { Socket } from 'node:net'
import type { CipherAlgorithm, Client, KexAlgorithm, MacAlgorithm, ServerHostKeyAlgorithm } from 'ssh2'

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

const REKEY_BYTES = 1024 ** 3
const REKEY_MS = 3_600_000
const LOOK_MS = 1000

/** Changes keys every 1 GiB and every hour (RFC 4253, 9), which ssh2 does not do by itself. */
export function rekeyOnSchedule(client: Client, sock: Socket): void {
  let bytes = 0
  let at = performance.now()
  const look = (): void => {
    const now = sock.bytesRead + sock.bytesWritten
    if (now - bytes < REKEY_BYTES && performance.now() - at < REKEY_MS) return
    bytes = now
    at = performance.now()
    rekey(client)
  }
  const timer = setInterval(look, LOOK_MS).unref()
  client.once('close', () => clearInterval(timer))
}

/** Of ssh2 1.17.0 only the server has it as a method; should it move, the connection is ended, not left on old keys. */
function rekey(client: Client): void {
  const protocol: unknown = Reflect.get(client, '_protocol')
  const method: unknown = typeof protocol === 'object' && protocol !== null && Reflect.get(protocol, 'rekey')
  if (typeof method === 'function') Reflect.apply(method, protocol, [])
  else client.end()
}
