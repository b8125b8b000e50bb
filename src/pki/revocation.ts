// Makes revocation lists (CertificateList, RFC 5280, 5.1), version 2, with number and next update. Loads node-forge.
import { openAuthority } from './authority.ts'
import { toPem } from './certificate.ts'
import { type CrlFacts, REVOCATION_REASONS, type Revocation, readCrl } from './crl.ts'
import {
  bitString,
  type Der,
  decodeDer,
  encodeDer,
  enumerated,
  explicit,
  extension,
  implicit,
  integer,
  sequence,
  time,
} from './der.ts'
import type { KeyedCertificate } from './files.ts'
import { signerOf } from './key-pair.ts'

/** `days` until the next list is due; `now` is the clock, for tests. */
export interface CrlOptions {
  readonly days?: number | undefined
  readonly now?: Date | undefined
}

/**
 * As a server certificate. The gateway reads the file itself, so nobody can hold a newer list back from it: a short life
 * would bring nothing but the day on which everybody stays outside.
 */
export const DEFAULT_CRL_DAYS = 397
const MS_PER_DAY = 86_400_000
const BACKDATED_MS = 5 * 60_000

/**
 * Signs the list that follows `before`: all it has, and what is new. Entries that are there keep their date and reason.
 * Throws PkiError if the authority can not sign.
 */
export function signCrl(
  authority: KeyedCertificate,
  before: CrlFacts | undefined,
  added: readonly Revocation[],
  options: CrlOptions = {},
): string {
  const now = options.now ?? new Date()
  const issuer = openAuthority(authority, now)
  const signer = signerOf(issuer.key)
  const kept = before?.revoked ?? new Map()
  const fresh = added.filter(({ serial }) => !kept.has(serial))
  const entries = [...[...kept.values()].map(({ raw }) => decodeDer(raw)), ...fresh.map(each => entryOf(each, now))]
  const tbs = sequence(
    integer(1), // v2
    signer.algorithm,
    issuer.subject,
    time(new Date(now.getTime() - BACKDATED_MS)),
    time(new Date(now.getTime() + (options.days ?? DEFAULT_CRL_DAYS) * MS_PER_DAY)),
    // RFC 5280, 5.1.2.6: absent when nothing is revoked.
    ...(entries.length === 0 ? [] : [sequence(...entries)]),
    explicit(
      0,
      sequence(
        extension('2.5.29.35', false, sequence(implicit(0, issuer.keyIdentifier))),
        extension('2.5.29.20', false, positiveInteger(((before?.number ?? 0n) + 1n).toString(16))),
      ),
    ),
  )
  return toPem('X509 CRL', encodeDer(sequence(tbs, signer.algorithm, bitString(signer.sign(encodeDer(tbs))))))
}

/** The first list of an authority: nothing is revoked. */
export function emptyCrl(authority: KeyedCertificate, options: CrlOptions = {}): string {
  return signCrl(authority, undefined, [], options)
}

/** `signCrl` on the PEM of the list before. */
export function nextCrl(
  authority: KeyedCertificate,
  beforePem: string | undefined,
  added: readonly Revocation[],
  options: CrlOptions = {},
): string {
  return signCrl(authority, beforePem === undefined ? undefined : readCrl(beforePem), added, options)
}

function entryOf({ serial, reason }: Revocation, now: Date): Der {
  // RFC 5280, 5.3.1: left out rather than "unspecified".
  const code = reason === undefined ? 0 : REVOCATION_REASONS[reason]
  const extensions = code === 0 ? [] : [sequence(extension('2.5.29.21', false, enumerated(code)))]
  return sequence(positiveInteger(serial), time(now), ...extensions)
}

function positiveInteger(hex: string): Der {
  const bytes = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex')
  return (bytes[0] ?? 0) < 0x80 ? integer(...bytes) : integer(0, ...bytes)
}
