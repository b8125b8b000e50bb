// What a certificate says about its owner. Access is decided on this, so a value must come out as exactly one value of
// its own kind, whatever characters it is made of (CVE-2021-44532: names that look like several names).
import { createHash, type X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { isAllText, publicKeyInfo, subjectName } from './subject.ts'

/** A certificate's names and fingerprints. Names are as certified: neither lower-cased nor trimmed. */
export interface CertificateFacts {
  /** For logs only: RFC 2253-like, the most specific part first, special and control characters escaped. */
  readonly subject: string
  readonly commonNames: readonly string[]
  readonly organizations: readonly string[]
  readonly organizationalUnits: readonly string[]
  readonly dnsNames: readonly string[]
  /** Of the subject alternative names only, not of the subject. */
  readonly emails: readonly string[]
  readonly uris: readonly string[]
  /** In canonical form: `10.0.0.1`, `2001:db8::1`. */
  readonly ips: readonly string[]
  /** SHA-256 of the DER, 64 lower-case hexadecimal digits. */
  readonly fingerprint: string
  /** SHA-256 of SubjectPublicKeyInfo, 64 lower-case hexadecimal digits. */
  readonly spki: string
  /** Upper-case hexadecimal digits, as `openssl x509 -serial` writes it. */
  readonly serial: string
  /** Milliseconds since 1970. */
  readonly notAfterMs: number
}

/** Reads a certificate. Throws if Node writes it in a form that is not known here: better no facts than wrong ones. */
export function certificateFacts(certificate: X509Certificate): CertificateFacts {
  // Of a name with a value that is no text (a SEQUENCE, say) Node 20 loses all values and Node 24 that one: a rule that
  // denies what got lost would not hold.
  if (!isAllText(subjectName(certificate))) throw new TypeError('the certificate has a name that is no text')
  const subject = nameAttributes(certificate.toLegacyObject().subject)
  const alternatives = parseSubjectAltName(certificate.subjectAltName ?? '')
  const ofKind = (kind: string) => alternatives.filter(name => name.kind === kind).map(name => name.value)
  return {
    subject: formatName(subject),
    commonNames: subject.get('CN') ?? [],
    organizations: subject.get('O') ?? [],
    organizationalUnits: subject.get('OU') ?? [],
    dnsNames: ofKind('DNS'),
    emails: ofKind('email'),
    uris: ofKind('URI'),
    ips: ofKind('IP Address')
      .filter(address => isIP(address) !== 0)
      .map(canonicalAddress),
    fingerprint: createHash('sha256').update(certificate.raw).digest('hex'),
    spki: createHash('sha256').update(publicKeyInfo(certificate)).digest('hex'),
    serial: certificate.serialNumber,
    notAfterMs: Date.parse(certificate.validTo),
  }
}

/** Who issued a certificate, in the form of CertificateFacts.subject. */
export function issuerName(certificate: X509Certificate): string {
  return formatName(nameAttributes(certificate.toLegacyObject().issuer))
}

// Not certificate.subject: that is lines of text. The legacy object has one string for each value.
function nameAttributes(name: unknown): ReadonlyMap<string, readonly string[]> {
  const attributes = new Map<string, readonly string[]>()
  if (typeof name !== 'object' || name === null) throw new TypeError('the certificate has a name in an unknown form')
  for (const [attribute, value] of Object.entries(name)) {
    const values: readonly unknown[] = Array.isArray(value) ? value : [value]
    attributes.set(
      attribute,
      values.filter(one => typeof one === 'string'),
    )
  }
  return attributes
}

function formatName(name: ReadonlyMap<string, readonly string[]>): string {
  const parts = [...name].flatMap(([attribute, values]) => values.map(value => `${attribute}=${escapeValue(value)}`))
  return parts.reverse().join(',')
}

/** RFC 2253, 2.4: a backslash before special characters; what would move the cursor or fool the eye as \XX for each byte. */
function escapeValue(value: string): string {
  return value
    .replace(/[",+\\<>;=]/g, '\\$&')
    .replace(/^[ #]| $/g, '\\$&')
    .replace(/[\p{C}\p{Zl}\p{Zp}]/gu, character =>
      [...Buffer.from(character)].map(byte => `\\${byte.toString(16).toUpperCase().padStart(2, '0')}`).join(''),
    )
}

/** One subject alternative name as Node writes it: `DNS`, `email`, `URI`, `IP Address`, `DirName`, … and its value. */
export interface WrittenName {
  readonly kind: string
  readonly value: string
}

/**
 * Parses the text of X509Certificate.subjectAltName: `KIND:VALUE` joined by `, `, where a VALUE with a comma, quote,
 * backslash, control or non-ASCII character is a JSON string. Throws TypeError or SyntaxError for anything else.
 * Source: nodejs.org/api/tls.html, "Certificate object", and src/crypto/crypto_common.cc, PrintGeneralName.
 */
export function parseSubjectAltName(text: string): WrittenName[] {
  const names: WrittenName[] = []
  const entry = /([A-Za-z0-9 ]+):("(?:[^"\\]|\\.)*"|[^",\\]*)(?:, |$)/y
  let at = 0
  while (at < text.length) {
    entry.lastIndex = at
    const [whole, kind, written] = entry.exec(text) ?? []
    if (whole === undefined || kind === undefined || written === undefined) {
      throw new TypeError('the certificate has subject alternative names in an unknown form')
    }
    names.push({ kind, value: written.startsWith('"') ? unquote(written) : written })
    at += whole.length
  }
  return names
}

function unquote(written: string): string {
  const value: unknown = JSON.parse(written)
  if (typeof value !== 'string') throw new TypeError('a subject alternative name is not a string')
  return value
}

function canonicalAddress(address: string): string {
  return isIP(address) === 6 ? new URL(`http://[${address}]/`).hostname.slice(1, -1) : address
}
