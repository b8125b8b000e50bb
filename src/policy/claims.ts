/**
 * An identity out of words: the forms of `who` that name one fact each, `cert:cn=alice` or `uid:1000`. For questions
 * about rules, not for visitors: nothing is proven here.
 */
import { formatAddress, parseAddress } from '../config/cidr.ts'
import { type Parsed, parsed, unparsed } from '../config/parsed.ts'
import type { CertificateFacts } from '../pki/certificate-facts.ts'
import { printable } from '../protocol/strings.ts'
import type { SshFacts } from '../ssh/facts.ts'
import { parseCertificateHash } from './cert-who.ts'
import type { Identity } from './identity.ts'
import { parseWho } from './who.ts'

/** What can be said of a certificate in words. */
type Names = 'commonNames' | 'organizations' | 'organizationalUnits' | 'dnsNames' | 'emails' | 'uris' | 'ips'

const LISTS: ReadonlyMap<string, Names> = new Map([
  ['cn', 'commonNames'],
  ['o', 'organizations'],
  ['ou', 'organizationalUnits'],
  ['dns', 'dnsNames'],
  ['email', 'emails'],
  ['uri', 'uris'],
  ['ip', 'ips'],
])

const NO_FACTS: CertificateFacts = {
  subject: '',
  commonNames: [],
  organizations: [],
  organizationalUnits: [],
  dnsNames: [],
  emails: [],
  uris: [],
  ips: [],
  fingerprint: '',
  spki: '',
  serial: '',
  notAfterMs: Number.POSITIVE_INFINITY,
}

const NO_LOGIN: SshFacts = { key: '', principals: [] }

/** Puts several claims together. One that is no single fact, or says otherwise than one before, is a problem. */
export function parseClaims(texts: readonly string[]): Parsed<Identity> {
  let identity: Identity = {}
  for (const text of texts) {
    const next = withClaim(identity, text)
    if (!next.ok) return unparsed(`${printable(text, 64)}: ${next.problem}`)
    identity = next.value
  }
  return parsed(identity)
}

function withClaim(identity: Identity, text: string): Parsed<Identity> {
  if (text === 'anyone') return unparsed('this is nobody in particular; leave it out')
  // The rules' own parser first: what it does not know can not be claimed either.
  const who = parseWho(text)
  if (!who.ok) return who
  const colon = text.indexOf(':')
  const form = text.slice(0, colon)
  const value = text.slice(colon + 1)
  switch (form) {
    case 'address':
      return withAddress(identity, value)
    case 'cert':
      return withCertificate(identity, value)
    case 'psk':
      return value.includes('*') ? unparsed('one name is needed, not a pattern') : withOne(identity, 'psk', value)
    case 'ssh':
      return withSsh(identity, value)
    case 'uid':
    case 'gid':
      return withOne(identity, form, Number(value))
    default:
      return unparsed(`"${form}" names no fact that can be asked about`)
  }
}

function withAddress(identity: Identity, value: string): Parsed<Identity> {
  const address = parseAddress(value)
  return address === undefined
    ? unparsed('one address is needed, not a network')
    : withOne(identity, 'address', formatAddress(address))
}

function withOne<Key extends 'address' | 'psk' | 'uid' | 'gid'>(
  identity: Identity,
  key: Key,
  value: NonNullable<Identity[Key]>,
): Parsed<Identity> {
  const before = identity[key]
  return before === undefined || before === value
    ? parsed({ ...identity, [key]: value })
    : unparsed(`the ${key} can not be ${before} as well`)
}

function withSsh(identity: Identity, text: string): Parsed<Identity> {
  const equals = text.indexOf('=')
  const field = text.slice(0, equals)
  const value = text.slice(equals + 1)
  const facts = identity.ssh ?? NO_LOGIN
  if (value.includes('*')) return unparsed('one name is needed, not a pattern')
  if (field === 'principal') return parsed({ ...identity, ssh: { ...facts, principals: [...facts.principals, value] } })
  if (field === 'key') {
    const key = value.replace(/=$/, '')
    if (facts.key !== '' && facts.key !== key) return unparsed('a login has one key')
    return parsed({ ...identity, ssh: { ...facts, key } })
  }
  if (facts.user !== undefined && facts.user !== value) return unparsed('a login has one user')
  return parsed({ ...identity, ssh: { ...facts, user: value } })
}

function withCertificate(identity: Identity, text: string): Parsed<Identity> {
  const equals = text.indexOf('=')
  const field = text.slice(0, equals)
  const value = text.slice(equals + 1)
  const facts = identity.certificate ?? NO_FACTS
  const list = LISTS.get(field)
  if (list === undefined) return withHash(identity, facts, field, value)
  if (list === 'ips') {
    const address = parseAddress(value)
    if (address === undefined) return unparsed('one address is needed, not a network')
    return parsed({ ...identity, certificate: { ...facts, ips: [...facts.ips, formatAddress(address)] } })
  }
  // A name on a certificate may hold a star (dns=*.example.com), but here it is far more often a pattern by mistake.
  if (value.includes('*')) return unparsed('one name is needed, not a pattern')
  return parsed({ ...identity, certificate: { ...facts, [list]: [...facts[list], value] } })
}

function withHash(identity: Identity, facts: CertificateFacts, field: string, value: string): Parsed<Identity> {
  const hash = parseCertificateHash(field, value)
  if (hash === undefined || (field !== 'fingerprint' && field !== 'spki')) return unparsed('this is not a hash')
  const before = facts[field]
  if (before !== '' && before !== hash) return unparsed(`a certificate has one ${field}`)
  return parsed({ ...identity, certificate: { ...facts, [field]: hash } })
}
