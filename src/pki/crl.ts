// What a revocation list says (CertificateList, RFC 5280, 5.1), and whose it is. OpenSSL decides with it who is refused;
// this is for those who have to know before: `check`, the log at start, `certs list`.
import { type KeyObject, verify, type X509Certificate } from 'node:crypto'
import { type DerItem, readItems, readNameForLog, readSequence, readSerial, readTime, Tag } from './der-reader.ts'
import { subjectName } from './subject.ts'

/** A revocation list, read. */
export interface CrlFacts {
  /** For logs. */
  readonly issuer: string
  /** DER of the issuer's name. */
  readonly issuerName: Buffer
  /** CRLNumber, 5.2.3; undefined in a list of version 1. */
  readonly number: bigint | undefined
  readonly thisUpdateMs: number
  /** Undefined: it never ends. RFC 5280 demands one; OpenSSL does without. */
  readonly nextUpdateMs: number | undefined
  /** By serial number, as `openssl x509 -serial` writes it. */
  readonly revoked: ReadonlyMap<string, RevokedEntry>
  /** Whether the key made its signature; undefined for a kind of signature that is not known here. */
  readonly isSignedBy: (key: KeyObject) => boolean | undefined
}

/** One revoked certificate. `raw`: the entry's DER. */
export interface RevokedEntry {
  readonly atMs: number
  readonly raw: Buffer
}

/** Why a certificate is revoked: CRLReason of RFC 5280, 5.3.1, as far as an operator can mean it. */
export const REVOCATION_REASONS = {
  unspecified: 0,
  keyCompromise: 1,
  affiliationChanged: 3,
  superseded: 4,
  cessationOfOperation: 5,
} as const
export type RevocationReason = keyof typeof REVOCATION_REASONS

/** A certificate that shall not be good any more; `serial` in hexadecimal digits. */
export interface Revocation {
  readonly serial: string
  readonly reason?: RevocationReason | undefined
}

/** Each list of a PEM text, as its own PEM text. */
export function splitCrls(text: string): string[] {
  return text.match(/-----BEGIN X509 CRL-----[\s\S]*?-----END X509 CRL-----\n?/g) ?? []
}

/** Reads one list in PEM. Throws RangeError if it is none. */
export function readCrl(pem: string): CrlFacts {
  const der = Buffer.from(pem.replace(/-----[^-]*-----|\s/g, ''), 'base64')
  const [tbs, algorithm, signature] = readSequence(der)
  if (tbs === undefined || algorithm === undefined || signature?.tag !== Tag.BIT_STRING)
    throw new RangeError('not a CRL')
  const fields = readItems(tbs.content)
  if (fields[0]?.tag === Tag.INTEGER) fields.shift() // version
  const [, issuer, thisUpdate, ...rest] = fields
  if (issuer === undefined || thisUpdate === undefined) throw new RangeError('not a CRL')
  const isTime = ({ tag }: DerItem) => tag === Tag.UTC_TIME || tag === Tag.GENERALIZED_TIME
  const nextUpdate = rest.find(isTime)
  const entries = rest.find(item => item.tag === Tag.SEQUENCE)
  const extensions = rest.find(item => item.tag === 0xa0)
  return {
    issuer: readNameForLog(issuer.raw),
    issuerName: issuer.raw,
    number: extensions === undefined ? undefined : numberOf(extensions),
    thisUpdateMs: readTime(thisUpdate),
    nextUpdateMs: nextUpdate === undefined ? undefined : readTime(nextUpdate),
    revoked: new Map(entries === undefined ? [] : readItems(entries.content).map(revokedEntry)),
    isSignedBy: key => isSignedBy(tbs.raw, algorithm, signature.content.subarray(1), key),
  }
}

/** Whether the list is this authority's: its name, and its key. A signature of an unknown kind counts as its own. */
export function isCrlOf(crl: CrlFacts, authority: X509Certificate): boolean {
  return subjectName(authority).equals(crl.issuerName) && crl.isSignedBy(authority.publicKey) !== false
}

function revokedEntry(item: DerItem): [string, RevokedEntry] {
  const [serial, at] = readItems(item.content)
  if (serial === undefined || at === undefined) throw new RangeError('not an entry of a CRL')
  return [readSerial(serial), { atMs: readTime(at), raw: item.raw }]
}

const CRL_NUMBER = '551d14' // 2.5.29.20

function numberOf(extensions: DerItem): bigint | undefined {
  for (const extension of readSequence(extensions.content)) {
    const [oid, ...rest] = readItems(extension.content)
    const value = rest.at(-1)
    if (oid?.content.toString('hex') !== CRL_NUMBER || value === undefined) continue
    const [number] = readItems(value.content)
    if (number?.tag === Tag.INTEGER) return BigInt(`0x${readSerial(number)}`)
  }
  return undefined
}

/** By the OID's content in hexadecimal digits; null: the hash is part of the scheme. */
const HASHES: ReadonlyMap<string, string | null> = new Map([
  ['2a8648ce3d040302', 'sha256'],
  ['2a8648ce3d040303', 'sha384'],
  ['2a8648ce3d040304', 'sha512'],
  ['2a864886f70d01010b', 'sha256'],
  ['2a864886f70d01010c', 'sha384'],
  ['2a864886f70d01010d', 'sha512'],
  ['2b6570', null],
])

function isSignedBy(tbs: Buffer, algorithm: DerItem, signature: Buffer, key: KeyObject): boolean | undefined {
  const hash = HASHES.get(readItems(algorithm.content)[0]?.content.toString('hex') ?? '')
  if (hash === undefined) return undefined
  try {
    return verify(hash, tbs, key, signature)
  } catch {
    return false // a key of another kind
  }
}
