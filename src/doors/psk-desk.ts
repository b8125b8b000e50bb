/**
 * Pre-shared keys at a TLS door: hands OpenSSL the key for a name, and tells afterwards whether it was used. That a name was
 * asked for proves nothing: in TLS 1.3 a client can offer a key with a cipher suite that the key does not go with; OpenSSL
 * then looks the key up, ignores it, and goes on to a handshake with certificates.
 */
import { randomBytes } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import type { PskTable } from '../pki/psk.ts'
import { printable } from '../protocol/strings.ts'

const UNKNOWN_KEY_BYTES = 32

export class PskDesk {
  readonly #keys: PskTable
  /** The last name that each handshake asked for: OpenSSL asks for no further one after that which it takes. */
  readonly #offered = new WeakMap<object, string>()

  constructor(keys: PskTable) {
    this.#keys = keys
  }

  /** The key of a name. One that is unknown gets a key that nobody has: it fails as a wrong key does, and can not be told apart. */
  keyFor(socket: object, name: string): Buffer {
    this.#offered.set(socket, name)
    return this.#keys.get(name) ?? randomBytes(UNKNOWN_KEY_BYTES)
  }

  /** The key that carried this handshake, and its name; undefined if none did. */
  proven(socket: TLSSocket): { readonly name: string; readonly key: Buffer } | undefined {
    const name = this.#offered.get(socket)
    const key = name === undefined ? undefined : this.#keys.get(name)
    if (name === undefined || key === undefined || socket.getPeerX509Certificate() !== undefined) return undefined
    return isByKey(socket) ? { name, key } : undefined
  }

  /** For the log of a handshake that failed: the name that was offered. */
  offer(socket: object): string | undefined {
    const name = this.#offered.get(socket)
    if (name === undefined) return undefined
    return `${this.#keys.has(name) ? 'key' : 'no key'} of the name "${printable(name)}"`
  }
}

/** TLS 1.3 takes a key the way it resumes a session, and we give out nothing to resume; in TLS 1.2 the suite tells. */
function isByKey(socket: TLSSocket): boolean {
  switch (socket.getProtocol()) {
    case 'TLSv1.3':
      return socket.isSessionReused()
    case 'TLSv1.2':
      return socket.getCipher().standardName.startsWith('TLS_ECDHE_PSK_')
    default:
      return false
  }
}
