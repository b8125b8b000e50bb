// The same certificate again: subject, alternative names and use as before, byte for byte; serial number and dates anew.
// Loads node-forge.
import { type KeyObject, X509Certificate } from 'node:crypto'
import { decodeDer, members } from './der.ts'
import { readSequence } from './der-reader.ts'
import { PkiError } from './errors.ts'
import type { KeyedCertificate } from './files.ts'
import { type KeyKind, keyIdentifierOf, makeKeyPair, type PublicHalf } from './key-pair.ts'
import { signLeaf } from './leaf.ts'
import { type MintOptions, privatePem, validity } from './mint.ts'

/** `key`: `same` keeps the key, for which the certificate is enough; otherwise a new one of this kind. */
export interface RenewOptions extends Pick<MintOptions, 'days' | 'now'> {
  readonly key?: KeyKind | 'same' | undefined
}

/** The new certificate; without a private key where the key is the same. */
export interface Renewed {
  readonly certificatePem: string
  readonly privateKeyPem: string | undefined
}

const SERVER_AUTH = '1.3.6.1.5.5.7.3.1'
const SUBJECT_ALT_NAME = '\x55\x1d\x11' // 2.5.29.17, as forge has an OID's content

/** Renews a leaf (PEM; of a chain the first). Throws PkiError for a certificate of an authority, or an unfit authority. */
export function renewLeaf(authority: KeyedCertificate, pem: string, options: RenewOptions = {}): Renewed {
  const old = new X509Certificate(pem)
  if (old.ca) throw new PkiError('BAD_NAME', 'the certificate of an authority is not renewed: make a new authority')
  const purpose = old.keyUsage?.includes(SERVER_AUTH) === true ? 'server' : 'client'
  const tbs = members(members(decodeDer(old.raw))[0])
  const subject = tbs[5]
  if (subject === undefined) throw new PkiError('BAD_NAME', 'the certificate is not of version 3')
  const names = members(members(tbs.at(-1))[0]).find(each => members(each)[0]?.value === SUBJECT_ALT_NAME)
  const fresh = options.key === 'same' ? undefined : makeKeyPair(options.key ?? kindOf(old.publicKey))
  const half = fresh ?? publicHalf(old.publicKey)
  const certificatePem = signLeaf(
    authority,
    {
      ...validity(purpose, options),
      ...half,
      purpose,
      subject,
      alternativeNames: [],
      alternativeNamesExtension: names,
      enciphers: half.kind === 'rsa',
    },
    options.now ?? new Date(),
  )
  return { certificatePem, privateKeyPem: fresh === undefined ? undefined : privatePem(fresh.privateKey) }
}

function kindOf(key: KeyObject): KeyKind {
  return key.asymmetricKeyType === 'rsa' ? 'rsa' : 'ecdsa'
}

function publicHalf(key: KeyObject): PublicHalf {
  const der = key.export({ type: 'spki', format: 'der' })
  const bits = readSequence(der)[1]?.content.subarray(1) ?? der
  return { kind: kindOf(key), publicKeyInfo: decodeDer(der), keyIdentifier: keyIdentifierOf(bits) }
}
