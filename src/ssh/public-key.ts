/**
 * Public keys and signatures of SSH over node:crypto: Ed25519 (RFC 8709), ECDSA (RFC 5656), RSA with SHA-2 (RFC 8332).
 * There is no SHA-1 and no DSA here, and no key of an authenticator (`sk-`).
 */
import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto'
import { SshReader } from './reader.ts'

/** A public key that we can check signatures with. */
export interface PublicKey {
  /** As it is named in a key file: `ssh-ed25519`, `ecdsa-sha2-nistp256`, `ssh-rsa`. */
  readonly type: string
  readonly key: KeyObject
  /** `SHA256:…`, as `ssh-keygen -l` prints it. */
  readonly fingerprint: string
}

/** Fewer bits than anybody should trust (NIST SP 800-131A). */
const MIN_RSA_BITS = 2048

const CURVES: Readonly<Record<string, { readonly curve: string; readonly bytes: number; readonly hash: string }>> = {
  nistp256: { curve: 'P-256', bytes: 32, hash: 'sha256' },
  nistp384: { curve: 'P-384', bytes: 48, hash: 'sha384' },
  nistp521: { curve: 'P-521', bytes: 66, hash: 'sha512' },
}

/** Signature algorithms that may log in, best first; what the server tells clients (RFC 8308, server-sig-algs). */
export const SIGNATURE_ALGORITHMS: readonly string[] = [
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'rsa-sha2-512',
  'rsa-sha2-256',
]

/** Decodes a key as it goes over the wire; undefined when it is malformed, too weak or of a kind that we do not take. */
export function decodePublicKey(blob: Buffer): PublicKey | undefined {
  try {
    const reader = new SshReader(blob)
    const type = reader.text()
    const key = readKey(type, reader)
    return reader.atEnd && key !== undefined ? { type, key, fingerprint: fingerprintOf(blob) } : undefined
  } catch {
    // A RangeError of the reader, or OpenSSL's refusal of a point that is not on its curve.
    return undefined
  }
}

/** Reads what follows a key's type, in a key as in a certificate. @throws RangeError, or what node:crypto throws */
export function readKey(type: string, reader: SshReader): KeyObject | undefined {
  switch (type) {
    case 'ssh-ed25519':
      return jwk({ kty: 'OKP', crv: 'Ed25519', x: exactly(reader.string(), 32).toString('base64url') })
    case 'ssh-rsa': {
      const [e, n] = [magnitude(reader.string()), magnitude(reader.string())]
      if (bitLength(n) < MIN_RSA_BITS || n.length > 2048) return undefined
      return jwk({ kty: 'RSA', e: e.toString('base64url'), n: n.toString('base64url') })
    }
    case 'ecdsa-sha2-nistp256':
    case 'ecdsa-sha2-nistp384':
    case 'ecdsa-sha2-nistp521':
      return readPoint(type.slice('ecdsa-sha2-'.length), reader)
    default:
      return undefined
  }
}

function readPoint(name: string, reader: SshReader): KeyObject | undefined {
  const form = CURVES[name]
  if (form === undefined || reader.text() !== name) return undefined
  const point = exactly(reader.string(), 1 + 2 * form.bytes)
  if (point[0] !== 4) return undefined
  const x = point.subarray(1, 1 + form.bytes).toString('base64url')
  const y = point.subarray(1 + form.bytes).toString('base64url')
  return jwk({ kty: 'EC', crv: form.curve, x, y })
}

/** `SHA256:…` of a key's blob, as OpenSSH prints it. */
export function fingerprintOf(blob: Uint8Array): string {
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`
}

/**
 * Checks a signature as SSH writes it, its algorithm in front. The algorithm has to fit the key's type; SHA-1 fits none.
 */
export function verifySignature(key: PublicKey, data: Buffer, signature: Buffer): boolean {
  try {
    const reader = new SshReader(signature)
    const algorithm = reader.text()
    const bytes = reader.string()
    if (!reader.atEnd || !SIGNATURE_ALGORITHMS.includes(algorithm)) return false
    switch (algorithm) {
      case 'ssh-ed25519':
        return key.type === algorithm && verify(null, data, key.key, bytes)
      case 'rsa-sha2-256':
      case 'rsa-sha2-512':
        return key.type === 'ssh-rsa' && verify(algorithm.replace('rsa-sha2-', 'sha'), data, key.key, bytes)
      default:
        return key.type === algorithm && verifyEcdsa(key, data, bytes)
    }
  } catch {
    return false
  }
}

/**
 * Checks a signature as ssh2 hands it over: bare for Ed25519 and RSA, DER for ECDSA. `hash` is what an RSA client has
 * named; without one it meant SHA-1.
 */
export function verifyBareSignature(
  key: PublicKey,
  hash: string | undefined,
  data: Buffer,
  signature: Buffer,
): boolean {
  try {
    if (key.type === 'ssh-ed25519') return verify(null, data, key.key, signature)
    if (key.type === 'ssh-rsa')
      return (hash === 'sha256' || hash === 'sha512') && verify(hash, data, key.key, signature)
    const form = CURVES[key.type.slice('ecdsa-sha2-'.length)]
    return form !== undefined && verify(form.hash, data, key.key, signature)
  } catch {
    return false
  }
}

function verifyEcdsa(key: PublicKey, data: Buffer, signature: Buffer): boolean {
  const form = CURVES[key.type.slice('ecdsa-sha2-'.length)]
  if (form === undefined) return false
  const reader = new SshReader(signature)
  const numbers = [magnitude(reader.string()), magnitude(reader.string())]
  if (!reader.atEnd || numbers.some(number => number.length > form.bytes)) return false
  // IEEE P1363: both numbers at the curve's full width. (As DER they went wrong on P-521: mscdex/ssh2#1472.)
  const wide = numbers.map(number => Buffer.concat([Buffer.alloc(form.bytes - number.length), number]))
  return verify(form.hash, data, { key: key.key, dsaEncoding: 'ieee-p1363' }, Buffer.concat(wide))
}

function jwk(key: { readonly kty: string; readonly [field: string]: string }): KeyObject {
  return createPublicKey({ format: 'jwk', key })
}

function exactly(bytes: Buffer, length: number): Buffer {
  if (bytes.length !== length) throw new RangeError(`${length} bytes wanted, ${bytes.length} found`)
  return bytes
}

/** A multiple-precision integer without its leading zeros (RFC 4251, 5: mpint). Negative ones are in no key. */
function magnitude(bytes: Buffer): Buffer {
  if (((bytes[0] ?? 0) & 0x80) !== 0) throw new RangeError('a negative number')
  const from = bytes.findIndex(byte => byte !== 0)
  return from < 0 ? Buffer.alloc(0) : bytes.subarray(from)
}

function bitLength(number: Buffer): number {
  return number.length === 0 ? 0 : number.length * 8 - Math.clz32(number[0] ?? 0) + 24
}
