// The small certificate authority: what it makes, with which names and for how long. Loads node-forge, so import it
// only where something is minted (`nbdgate certs`, `nbdgate demo`), and there lazily.
import type { KeyObject } from 'node:crypto'
import { openAuthority } from './authority.ts'
import { type CertificatePurpose, signCertificate, toPem } from './certificate.ts'
import { PkiError } from './errors.ts'
import type { KeyedCertificate } from './files.ts'
import { type KeyKind, makeKeyPair, signerOf } from './key-pair.ts'
import { signLeaf } from './leaf.ts'
import {
  type AlternativeName,
  encodeSubject,
  guessAlternativeName,
  MAX_SUBJECT_VALUE,
  parseDnsName,
  parseEmail,
  parseHost,
  parseSubjectValue,
  parseUri,
  type SubjectName,
} from './names.ts'

/** What all three kinds of certificates have in common. */
export interface MintOptions {
  /** `ecdsa` (P-256) unless told otherwise. */
  readonly key?: KeyKind | undefined
  /** Days until it expires, counted from `now`; a leaf never outlives its authority. */
  readonly days?: number | undefined
  readonly organization?: string | undefined
  readonly organizationalUnit?: string | undefined
  /** The clock, for tests. */
  readonly now?: Date | undefined
}

/** `name` is the common name; `nbdgate authority` unless told otherwise. */
export interface AuthorityOptions extends MintOptions {
  readonly name?: string | undefined
  /** Who certifies it; without one it signs itself. */
  readonly parent?: KeyedCertificate | undefined
  /** How many authorities may follow below it; 0 unless told otherwise. */
  readonly pathLength?: number | undefined
}

/** `names` are DNS names and addresses that clients dial; the first one is the common name. */
export interface ServerOptions extends MintOptions {
  readonly names: readonly string[]
}

/** `name` is the common name, and an alternative name too; the others are further alternative names. */
export interface ClientOptions extends MintOptions {
  readonly name: string
  readonly dnsNames?: readonly string[] | undefined
  readonly emails?: readonly string[] | undefined
  readonly uris?: readonly string[] | undefined
}

/** Days that a certificate lives if nobody says otherwise. 397 is what browsers take at most; clients are harder to reach. */
export const DEFAULT_DAYS = { authority: 3650, server: 397, client: 825 } as const

const MS_PER_DAY = 86_400_000
/** Clocks of clients are behind by a little; a certificate that was made just now must work there. */
const BACKDATED_MS = 5 * 60_000
const LAST_MOMENT_MS = Date.UTC(9999, 11, 31, 23, 59, 59) // RFC 5280, 4.1.2.5

/**
 * Makes an authority that may sign leaves and CRLs. One with a parent has the parent's certificates behind its own, as who
 * verifies needs them. Throws PkiError for a name that can not be certified, or a parent that is unfit.
 */
export function mintAuthority(options: AuthorityOptions = {}): KeyedCertificate {
  const { parent, pathLength } = options
  const pair = makeKeyPair(options.key ?? 'ecdsa')
  const subject = encodeSubject(subjectOf(options.name ?? 'nbdgate authority', options))
  const issuer = parent === undefined ? undefined : openAuthority(parent, options.now ?? new Date())
  const { notBefore, notAfter } = validity('authority', options)
  const der = signCertificate(
    {
      notBefore,
      notAfter: issuer !== undefined && issuer.notAfter < notAfter ? issuer.notAfter : notAfter,
      purpose: 'authority',
      issuer: issuer?.subject ?? subject,
      subject,
      publicKeyInfo: pair.publicKeyInfo,
      keyIdentifier: pair.keyIdentifier,
      issuerKeyIdentifier: issuer?.keyIdentifier ?? pair.keyIdentifier,
      alternativeNames: [],
      pathLength,
      enciphers: false,
    },
    signerOf(issuer?.key ?? pair.privateKey),
  )
  const certificatePem = toPem('CERTIFICATE', der) + (parent?.certificatePem ?? '')
  return { certificatePem, privateKeyPem: privatePem(pair.privateKey) }
}

/** Makes a certificate for a TLS server. Throws PkiError if there is no name, a name is none, or the authority is unfit. */
export function mintServer(authority: KeyedCertificate, options: ServerOptions): KeyedCertificate {
  const [first] = options.names
  if (first === undefined) throw new PkiError('BAD_NAME', 'a server certificate needs at least one name')
  // A host name may be longer than a common name; then the alternative name has to do.
  const commonName = first.length <= MAX_SUBJECT_VALUE ? first : undefined
  return mintLeaf(authority, 'server', commonName, options.names.map(parseHost), options)
}

/** Makes a certificate for a TLS client. Throws PkiError if a name can not be certified, or the authority is unfit. */
export function mintClient(authority: KeyedCertificate, options: ClientOptions): KeyedCertificate {
  const names = [
    guessAlternativeName(parseSubjectValue('client name', options.name)),
    ...(options.dnsNames ?? []).map(parseDnsName),
    ...(options.emails ?? []).map(parseEmail),
    ...(options.uris ?? []).map(parseUri),
  ]
  return mintLeaf(authority, 'client', options.name, names, options)
}

function mintLeaf(
  authority: KeyedCertificate,
  purpose: 'server' | 'client',
  commonName: string | undefined,
  alternativeNames: readonly AlternativeName[],
  options: MintOptions,
): KeyedCertificate {
  const subject = encodeSubject(subjectOf(commonName, options))
  const pair = makeKeyPair(options.key ?? 'ecdsa')
  const content = {
    ...validity(purpose, options),
    purpose,
    subject,
    publicKeyInfo: pair.publicKeyInfo,
    keyIdentifier: pair.keyIdentifier,
    alternativeNames: withoutTwins(alternativeNames),
    enciphers: pair.kind === 'rsa',
  }
  const certificatePem = signLeaf(authority, content, options.now ?? new Date())
  return { certificatePem, privateKeyPem: privatePem(pair.privateKey) }
}

function subjectOf(commonName: string | undefined, options: MintOptions): SubjectName {
  const checked = (what: string, value: string | undefined) =>
    value === undefined ? undefined : parseSubjectValue(what, value)
  return {
    commonName: checked('name', commonName),
    organization: checked('organization', options.organization),
    organizationalUnit: checked('organizational unit', options.organizationalUnit),
  }
}

/** From a little before now until `days` later. Throws PkiError for a number of days that is none. */
export function validity(
  purpose: CertificatePurpose,
  options: Pick<MintOptions, 'days' | 'now'>,
): { notBefore: Date; notAfter: Date } {
  const nowMs = (options.now ?? new Date()).getTime()
  const days = options.days ?? DEFAULT_DAYS[purpose]
  if (!(days > 0)) throw new PkiError('BAD_NAME', `a certificate can not live for ${days} days`)
  return {
    notBefore: new Date(nowMs - BACKDATED_MS),
    notAfter: new Date(Math.min(nowMs + days * MS_PER_DAY, LAST_MOMENT_MS)),
  }
}

function withoutTwins(names: readonly AlternativeName[]): AlternativeName[] {
  return [...new Map(names.map(name => [JSON.stringify(name), name])).values()]
}

/** PKCS #8, without a passphrase. */
export function privatePem(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString()
}
