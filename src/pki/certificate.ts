// Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signature } (RFC 5280, 4.1), version 3.
import { randomBytes } from 'node:crypto'
import {
  bitString,
  type Der,
  encodeDer,
  explicit,
  extension,
  implicit,
  integer,
  objectId,
  octetString,
  sequence,
  time,
  yes,
} from './der.ts'
import type { Signer } from './key-pair.ts'
import { type AlternativeName, encodeAlternativeName } from './names.ts'

/** What a certificate may be used for; decides basicConstraints, keyUsage and extKeyUsage. */
export type CertificatePurpose = 'authority' | 'server' | 'client'

/** What is certified, and who says so. */
export interface CertificateContent {
  readonly purpose: CertificatePurpose
  readonly issuer: Der
  readonly subject: Der
  readonly publicKeyInfo: Der
  readonly keyIdentifier: Uint8Array
  readonly issuerKeyIdentifier: Uint8Array
  readonly alternativeNames: readonly AlternativeName[]
  readonly notBefore: Date
  readonly notAfter: Date
  /** Of an authority: how many authorities may follow below it; 0 unless told otherwise. */
  readonly pathLength?: number | undefined
  /** subjectAltName as it stands in another certificate; beside it there are no `alternativeNames`. */
  readonly alternativeNamesExtension?: Der | undefined
  /** True if TLS 1.2 may use the key to decrypt (RSA). */
  readonly enciphers: boolean
}

const EXTENDED_KEY_USAGE = { server: '1.3.6.1.5.5.7.3.1', client: '1.3.6.1.5.5.7.3.2' } as const

/** Builds and signs; the DER of the whole certificate. */
export function signCertificate(content: CertificateContent, signer: Signer): Buffer {
  const tbs = sequence(
    explicit(0, integer(2)), // v3
    serialNumber(),
    signer.algorithm,
    content.issuer,
    sequence(time(content.notBefore), time(content.notAfter)),
    content.subject,
    content.publicKeyInfo,
    explicit(3, sequence(...extensions(content))),
  )
  return encodeDer(sequence(tbs, signer.algorithm, bitString(signer.sign(encodeDer(tbs)))))
}

/** PEM (RFC 7468): 64 characters a line. */
export function toPem(label: string, der: Uint8Array): string {
  const lines = Buffer.from(der)
    .toString('base64')
    .replace(/.{64}(?=.)/g, '$&\n')
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`
}

// 128 bits, of which 126 are random: the first keeps it positive, the second keeps its length the same.
function serialNumber(): Der {
  const [first = 0, ...rest] = randomBytes(16)
  return integer((first & 0x3f) | 0x40, ...rest)
}

function extensions(content: CertificateContent): Der[] {
  const all = [basicConstraints(content), keyUsage(content)]
  if (content.purpose !== 'authority') {
    all.push(extension('2.5.29.37', false, sequence(objectId(EXTENDED_KEY_USAGE[content.purpose]))))
  }
  all.push(extension('2.5.29.14', false, octetString(content.keyIdentifier)))
  all.push(extension('2.5.29.35', false, sequence(implicit(0, content.issuerKeyIdentifier))))
  if (content.alternativeNames.length > 0) {
    // RFC 5280, 4.2.1.6: critical if nothing else names the subject.
    const onlyName = Array.isArray(content.subject.value) && content.subject.value.length === 0
    all.push(extension('2.5.29.17', onlyName, sequence(...content.alternativeNames.map(encodeAlternativeName))))
  }
  if (content.alternativeNamesExtension !== undefined) all.push(content.alternativeNamesExtension)
  return all
}

// An authority signs leaves only (pathLenConstraint 0), unless it is the root of others.
function basicConstraints(content: CertificateContent): Der {
  const value = content.purpose === 'authority' ? sequence(yes(), integer(content.pathLength ?? 0)) : sequence()
  return extension('2.5.29.19', true, value)
}

function keyUsage(content: CertificateContent): Der {
  if (content.purpose === 'authority') return extension('2.5.29.15', true, bitString(Uint8Array.of(0x06), 1)) // certSign, crlSign
  if (content.enciphers) return extension('2.5.29.15', true, bitString(Uint8Array.of(0xa0), 5)) // + keyEncipherment
  // Not critical: before 10.0, qemu refuses a critical keyUsage without keyEncipherment, and RFC 8813 forbids that bit
  // for elliptic curves.
  return extension('2.5.29.15', false, bitString(Uint8Array.of(0x80), 7)) // digitalSignature
}
