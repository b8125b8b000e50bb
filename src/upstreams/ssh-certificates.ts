/**
 * Teaches a client of ssh2 1.17.0 certificates of hosts, which it can not negotiate: they are put into its offer, and
 * when a host shows one, its exchange hash is made over the certificate and its signature checked with the key inside.
 * Should ssh2 change, the signature can not fit, and the login fails.
 */
import type { Client } from 'ssh2'
import type { Certificate } from '../ssh/certificate.ts'

/** Not RSA: ssh2 holds the name of the signature and that of the key, which differ there, against each other. */
export const CERTIFICATE_ALGORITHMS: readonly string[] = [
  'ssh-ed25519-cert-v01@openssh.com',
  'ecdsa-sha2-nistp256-cert-v01@openssh.com',
  'ecdsa-sha2-nistp384-cert-v01@openssh.com',
  'ecdsa-sha2-nistp521-cert-v01@openssh.com',
]

/** Offers certificates before the plain keys of the client's list. Between connect() and the first byte of the host. */
export function offerCertificates(client: Client): void {
  const protocol = part(client, '_protocol')
  const offer = part(protocol, '_offer')
  const lists = part(offer, 'lists')
  const array = (from: object, name: string): unknown => Reflect.get(part(from, name), 'array')
  const direction = (name: string): object => {
    const from = part(lists, name)
    return Object.fromEntries(['cipher', 'mac', 'compress', 'lang'].map(each => [each, array(from, each)]))
  }
  const plain = array(lists, 'serverHostKey')
  const serverHostKey = [...CERTIFICATE_ALGORITHMS, ...(Array.isArray(plain) ? plain : [])]
  const wanted = { kex: array(lists, 'kex'), serverHostKey, cs: direction('cs'), sc: direction('sc') }
  const KexInit: unknown = Reflect.get(offer, 'constructor')
  if (typeof KexInit !== 'function') throw new TypeError('ssh2 is not as we know it')
  Reflect.set(protocol, '_offer', Reflect.construct(KexInit, [wanted]))
}

/** Whether a key that was shown is a certificate. */
export function isCertificate(blob: Buffer): boolean {
  return CERTIFICATE_ALGORITHMS.some(name => blob.subarray(4, 4 + name.length).toString('latin1') === name)
}

/** Has the key exchange that is under way check its signature with the certified key. While the host key is verified. */
export function useCertifiedKey(client: Client, blob: Buffer, { key, plainBlob }: Certificate): void {
  const exchange = part(part(client, '_protocol'), '_kex')
  // What the signature is to be named.
  Reflect.set(part(exchange, 'negotiated'), 'serverHostKey', key.type)
  let isHashed = false
  // It is read first for the hash, then to check the signature.
  const get = (): Buffer => {
    const shown = isHashed ? plainBlob : blob
    isHashed = true
    return shown
  }
  Object.defineProperty(exchange, '_hostKey', { configurable: true, get, set: () => {} })
}

function part(of: object, name: string): object {
  const value: unknown = Reflect.get(of, name)
  if (typeof value !== 'object' || value === null) throw new TypeError(`ssh2 is not as we know it: no ${name}`)
  return value
}
