/**
 * Whether a key or a certificate may log in by SSH, under which name and to which targets. Pure: it says nothing about
 * whether the visitor has the private key, which is for the door to check.
 */
import { parseCidr } from '../config/cidr.ts'
import type { AuthorizedKey } from '../ssh/authorized-keys.ts'
import {
  type Certificate,
  certificateProblem,
  decodeCertificate,
  isCertificateAlgorithm,
  sourceAddresses,
} from '../ssh/certificate.ts'
import type { SshFacts } from '../ssh/facts.ts'
import type { Keys } from '../ssh/key-ring.ts'
import { decodePublicKey, fingerprintOf, type PublicKey } from '../ssh/public-key.ts'
import type { Target } from '../ssh/target.ts'
import { compileCidrs } from './cidr.ts'

/** What a visitor shows. */
export interface Offer {
  readonly user: string
  /** Of the key or certificate, as it is named on the wire. */
  readonly algorithm: string
  readonly blob: Buffer
  readonly address: string
}

export type Admission =
  | {
      readonly kind: 'admitted'
      /** The key that the visitor has to prove that it has. */
      readonly key: PublicKey
      readonly facts: SshFacts
      /** Targets; undefined: all. */
      readonly permitted: readonly Target[] | undefined
      /** Whether `-L` and `-W` are open to it. */
      readonly forwarding: boolean
    }
  | { readonly kind: 'refused'; readonly reason: string }

/** Decides about an offer at a moment. */
export function admit(offer: Offer, keys: Keys, nowMs: number): Admission {
  const { revoked } = keys
  if (revoked === undefined) return refused('the revoked keys can not be read')
  if (isCertificateAlgorithm(offer.algorithm)) return admitCertificate(offer, { ...keys, revoked }, nowMs)
  const key = decodePublicKey(offer.blob)
  if (key === undefined) return refused('a key of a kind that is not taken')
  if (revoked.has(key.fingerprint)) return refused('a revoked key')
  const lines = keys.authorized.filter(line => !line.options.certAuthority && line.blob.equals(offer.blob))
  let reason = 'an unknown key'
  for (const line of lines) {
    const { principals, permitOpen, forwarding } = line.options
    const problem = lineProblem(line, offer.address, nowMs)
    if (problem !== undefined) reason = problem
    else if (principals !== undefined && !principals.includes(offer.user)) reason = 'a key of somebody else'
    else {
      const facts = { user: offer.user, key: key.fingerprint, principals: [] }
      return { kind: 'admitted', key, facts, permitted: permitOpen, forwarding }
    }
  }
  return refused(reason)
}

type Readable = Keys & { readonly revoked: ReadonlySet<string> }

function admitCertificate(offer: Offer, keys: Readable, nowMs: number): Admission {
  const certificate = decodeCertificate(offer.blob)
  if (certificate === undefined) return refused('a certificate of a kind that is not taken')
  const authority = fingerprintOf(certificate.authorityBlob)
  if (keys.revoked.has(certificate.key.fingerprint)) return refused('a revoked key')
  if (keys.revoked.has(authority)) return refused('a certificate of a revoked authority')
  const lines = keys.authorized.filter(
    line => line.options.certAuthority && line.blob.equals(certificate.authorityBlob),
  )
  const isTrusted = keys.authorities.has(authority)
  if (!isTrusted && lines.length === 0) return refused('a certificate of an unknown authority')
  const problem = certificateProblem(certificate, nowMs) ?? elsewhere(certificate, offer.address)
  if (problem !== undefined) return refused(`a certificate that is not good: ${problem}`)
  // ssh-keygen(1): a certificate without principals would be one for everybody.
  if (certificate.principals.length === 0) return refused('a certificate without principals')
  if (isTrusted && certificate.principals.includes(offer.user)) return admitted(certificate, offer.user, undefined)
  let reason = 'a certificate of somebody else'
  for (const line of lines) {
    const { principals = [offer.user] } = line.options
    const lineReason = lineProblem(line, offer.address, nowMs)
    if (lineReason !== undefined) reason = lineReason
    else if (certificate.principals.some(name => principals.includes(name))) {
      return admitted(certificate, offer.user, line)
    }
  }
  return refused(reason)
}

function admitted(certificate: Certificate, user: string, line: AuthorizedKey | undefined): Admission {
  const { key, principals, keyId, serial, extensions } = certificate
  // Where the line names other principals, the name of the login is whatever the visitor liked.
  const isBound = principals.includes(user)
  return {
    kind: 'admitted',
    key,
    facts: { ...(isBound && { user }), key: key.fingerprint, principals, keyId, serial: String(serial) },
    permitted: line?.options.permitOpen,
    forwarding: extensions.has('permit-port-forwarding') && line?.options.forwarding !== false,
  }
}

function lineProblem({ options }: AuthorizedKey, address: string, nowMs: number): string | undefined {
  if (options.expiryMs !== undefined && nowMs >= options.expiryMs) return 'a key whose expiry-time has passed'
  if (options.from !== undefined && !matchesAddress(options.from, address)) return 'a key that may not come from here'
  return undefined
}

function elsewhere(certificate: Certificate, address: string): string | undefined {
  const networks = sourceAddresses(certificate)
  if (networks === undefined) return undefined
  return networks.some(text => isInNetwork(text, address)) ? undefined : 'it may not come from here'
}

/** A pattern list of ssh_config(5), of addresses only: one that is negated and matches beats the others. */
function matchesAddress(patterns: readonly string[], address: string): boolean {
  const matches = (pattern: string): boolean =>
    /[*?]/.test(pattern) ? matchesWildcards(pattern, address) : isInNetwork(pattern, address)
  if (patterns.some(pattern => pattern.startsWith('!') && matches(pattern.slice(1)))) return false
  return patterns.some(pattern => !pattern.startsWith('!') && matches(pattern))
}

function isInNetwork(text: string, address: string): boolean {
  const cidr = parseCidr(text)
  return cidr.ok && compileCidrs([cidr.value])(address)
}

function matchesWildcards(pattern: string, address: string): boolean {
  // An address has at most 45 characters: no pattern can make this slow.
  const parts = pattern.replaceAll('.', '\\.').replace(/\*+/g, '.*').replaceAll('?', '.')
  return new RegExp(`^${parts}$`, 'i').test(address)
}

function refused(reason: string): Admission {
  return { kind: 'refused', reason }
}
