// Keys and signatures are node:crypto's; only their ASN.1 wrapping is made here.
import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { bitString, type Der, nothing, objectId, sequence } from './der.ts'
import { PkiError } from './errors.ts'

/** The kinds of keys we make: ECDSA on P-256, or RSA with 3072 bits for clients that know nothing else. */
export type KeyKind = 'ecdsa' | 'rsa'

/** A public key, ready to be certified, and the name that other certificates know it by. */
export interface PublicHalf {
  readonly kind: KeyKind
  /** SubjectPublicKeyInfo. */
  readonly publicKeyInfo: Der
  /** Subject key identifier, 20 bytes. */
  readonly keyIdentifier: Buffer
}

/** A fresh key. */
export interface KeyPair extends PublicHalf {
  readonly privateKey: KeyObject
}

const EC_PUBLIC_KEY = '1.2.840.10045.2.1'
const PRIME256V1 = '1.2.840.10045.3.1.7'
const RSA_ENCRYPTION = '1.2.840.113549.1.1.1'

const ECDSA_BY_CURVE: ReadonlyMap<string, { readonly hash: string; readonly algorithm: string }> = new Map([
  ['prime256v1', { hash: 'sha256', algorithm: '1.2.840.10045.4.3.2' }],
  ['secp384r1', { hash: 'sha384', algorithm: '1.2.840.10045.4.3.3' }],
  ['secp521r1', { hash: 'sha512', algorithm: '1.2.840.10045.4.3.4' }],
])

/** Makes a key pair. RSA takes up to a second of processor time. */
export function makeKeyPair(kind: KeyKind): KeyPair {
  const { privateKey, publicKey } =
    kind === 'rsa'
      ? generateKeyPairSync('rsa', { modulusLength: 3072, publicExponent: 0x10001 })
      : generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
  const bits = kind === 'rsa' ? publicKey.export({ type: 'pkcs1', format: 'der' }) : uncompressedPoint(publicKey)
  const algorithm =
    kind === 'rsa'
      ? sequence(objectId(RSA_ENCRYPTION), nothing())
      : sequence(objectId(EC_PUBLIC_KEY), objectId(PRIME256V1))
  return {
    kind,
    privateKey,
    publicKeyInfo: sequence(algorithm, bitString(bits)),
    keyIdentifier: keyIdentifierOf(bits),
  }
}

/** Of the bits of a public key (RFC 7093, section 2, method 1). */
export function keyIdentifierOf(bits: Uint8Array): Buffer {
  return createHash('sha256').update(bits).digest().subarray(0, 20)
}

// SEC 1, 2.3.3: 04, X, Y. Taken from JWK because node:crypto exports no bare point.
function uncompressedPoint(publicKey: KeyObject): Buffer {
  const { x, y } = publicKey.export({ format: 'jwk' })
  if (x === undefined || y === undefined) throw new TypeError('not a key on an elliptic curve')
  return Buffer.concat([Buffer.from([4]), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')])
}

/** How a key signs certificates: the AlgorithmIdentifier and the operation. */
export interface Signer {
  readonly algorithm: Der
  readonly sign: (bytes: Uint8Array) => Buffer
}

/** The signer of an authority's key: RSA, ECDSA (P-256, P-384, P-521) or Ed25519. Throws PkiError for any other. */
export function signerOf(key: KeyObject): Signer {
  const curve = ECDSA_BY_CURVE.get(key.asymmetricKeyDetails?.namedCurve ?? '')
  if (key.asymmetricKeyType === 'rsa') {
    const algorithm = sequence(objectId('1.2.840.113549.1.1.11'), nothing()) // sha256WithRSAEncryption
    return { algorithm, sign: bytes => sign('sha256', bytes, key) }
  }
  if (key.asymmetricKeyType === 'ec' && curve !== undefined) {
    return { algorithm: sequence(objectId(curve.algorithm)), sign: bytes => sign(curve.hash, bytes, key) }
  }
  if (key.asymmetricKeyType === 'ed25519') {
    return { algorithm: sequence(objectId('1.3.101.112')), sign: bytes => sign(null, bytes, key) }
  }
  throw new PkiError(
    'NO_AUTHORITY',
    `the authority's key is of a kind (${key.asymmetricKeyType}) that can not sign here`,
  )
}
