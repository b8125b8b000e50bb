/**
 * The `cert:` forms of `who`: one field of the client certificate each, compiled to a test of its facts. Where a field
 * has several values (SANs, OUs), one that matches is enough.
 */

import { parseCidr } from '../config/cidr.ts'
import { type Parsed, parsed, unparsed } from '../config/parsed.ts'
import type { CertificateFacts } from '../pki/certificate-facts.ts'
import { printable } from '../protocol/strings.ts'
import { networkTest } from './cidr.ts'
import { type Clue, clueWithin, type Test } from './clue.ts'
import { literal, parsePattern, patternRules } from './pattern.ts'

/** A compiled `cert:` form. */
export type CertificateTest = Test<CertificateFacts>

type ValuesOf = (facts: CertificateFacts) => readonly string[]

const LABELS = patternRules({ separator: '.', ignoreCase: false })
const DNS_LABELS = patternRules({ separator: '.', ignoreCase: true })
const PATH_PARTS = patternRules({ separator: '/', ignoreCase: false })

const FIELDS: ReadonlyMap<string, (value: string) => Parsed<CertificateTest>> = new Map([
  ['cn', value => oneOf('cn', facts => facts.commonNames, parsePattern(value, LABELS))],
  ['o', value => oneOf('o', facts => facts.organizations, parsePattern(value, LABELS))],
  ['ou', value => oneOf('ou', facts => facts.organizationalUnits, parsePattern(value, LABELS))],
  [
    'dns',
    value => asciiProblem('dns', value) ?? oneOf('dns', facts => facts.dnsNames, parsePattern(value, DNS_LABELS)),
  ],
  ['uri', value => asciiProblem('uri', value) ?? oneOf('uri', facts => facts.uris, parsePattern(value, PATH_PARTS))],
  ['email', value => asciiProblem('email', value) ?? oneOf('email', facts => facts.emails, emailTest(value))],
  ['ip', value => oneOf('ip', facts => facts.ips, ipTest(value))],
  ['fingerprint', value => oneOf('fingerprint', facts => [facts.fingerprint], hashTest('fingerprint', value))],
  ['spki', value => oneOf('spki', facts => [facts.spki], hashTest('spki', value))],
])

/** Reads what stands behind `cert:`, `cn=alice` for example. */
export function parseCertificateTest(text: string): Parsed<CertificateTest> {
  const equals = text.indexOf('=')
  const field = equals < 0 ? text : text.slice(0, equals)
  const parse = FIELDS.get(field)
  if (parse === undefined) {
    const known = [...FIELDS.keys()].map(name => `${name}=`).join(' ')
    return unparsed(`cert:${printable(field, 32)} is not a field of a certificate: ${known}`)
  }
  const value = equals < 0 ? '' : text.slice(equals + 1)
  return value === '' ? unparsed(`cert:${field}= needs a value`) : parse(value)
}

/** Certificates have these names as IA5String (RFC 5280, 4.2.1.6): a rule with an ü could never hold, not even to deny. */
function asciiProblem(field: string, value: string): Parsed<CertificateTest> | undefined {
  if (/^[\x20-\x7e]*$/.test(value)) return undefined
  const hint = field === 'uri' ? 'percent-encode the rest' : 'write a host name as xn--…'
  return unparsed(`cert:${field}= is ASCII in certificates: ${hint}`)
}

function oneOf(field: string, valuesOf: ValuesOf, test: Parsed<Test<string>>): Parsed<CertificateTest> {
  if (!test.ok) return test
  const { holds, clue } = test.value
  const isMet = (facts: CertificateFacts): boolean => {
    for (const value of valuesOf(facts)) if (holds(value)) return true
    return false
  }
  return parsed({ holds: isMet, clue: clueWithin(field, clue, valuesOf) })
}

/** Both sides of the `@` on their own, so that no wildcard reaches over it (RFC 5321, 4.1.2: only the domain folds). */
function emailTest(text: string): Parsed<Test<string>> {
  const wanted = splitEmail(text)
  if (wanted === undefined) return unparsed('cert:email= needs an @: alice@example.com, *@example.com')
  const local = parsePattern(wanted.local, LABELS)
  if (!local.ok) return local
  const domain = parsePattern(wanted.domain, DNS_LABELS)
  if (!domain.ok) return domain
  const holds = (value: string): boolean => {
    const email = splitEmail(value)
    return email !== undefined && local.value.holds(email.local) && domain.value.holds(email.domain)
  }
  return parsed({ holds, clue: emailClue(local.value, domain.value) })
}

/** Of both sides, since each of them may be that of many. */
function emailClue(local: Test<string>, domain: Test<string>): Clue<string> | undefined {
  const ofLocal = clueWithin('local', local.clue, localOf)
  const ofDomain = clueWithin('domain', domain.clue, domainOf)
  if (ofLocal === undefined || ofDomain === undefined) return ofLocal ?? ofDomain
  return {
    id: `${ofLocal.id} ${ofDomain.id}`,
    key: `${ofLocal.key}@${ofDomain.key}`,
    keysOf: value => ofLocal.keysOf(value).flatMap(name => ofDomain.keysOf(value).map(host => `${name}@${host}`)),
  }
}

const localOf = (email: string): readonly string[] => listOf(splitEmail(email)?.local)
const domainOf = (email: string): readonly string[] => listOf(splitEmail(email)?.domain)
const listOf = (text: string | undefined): readonly string[] => (text === undefined ? [] : [text])

function splitEmail(text: string): { readonly local: string; readonly domain: string } | undefined {
  const at = text.lastIndexOf('@')
  return at < 0 ? undefined : { local: text.slice(0, at), domain: text.slice(at + 1) }
}

function ipTest(text: string): Parsed<Test<string>> {
  const network = parseCidr(text)
  return network.ok ? parsed(networkTest(network.value)) : network
}

function hashTest(field: 'fingerprint' | 'spki', text: string): Parsed<Test<string>> {
  const hash = parseCertificateHash(field, text)
  return hash === undefined
    ? unparsed('a hash is SHA256: and 64 hex digits, as `openssl x509 -fingerprint -sha256` prints them')
    : parsed(literal(hash))
}

/** The hash that `cert:fingerprint=` or `cert:spki=` names, as the facts of a certificate have it. */
export function parseCertificateHash(field: string, text: string): string | undefined {
  const value = /^sha256:/i.test(text) ? text.slice('SHA256:'.length) : ''
  return parseHexHash(value) ?? (field === 'spki' ? parseBase64Hash(value) : undefined)
}

function parseHexHash(text: string): string | undefined {
  const isHex = /^([0-9a-f]{64}|[0-9a-f]{2}(:[0-9a-f]{2}){31})$/i.test(text)
  return isHex ? text.replaceAll(':', '').toLowerCase() : undefined
}

/** As `openssl … | base64` and HTTP's key pins have it; the last `=` may be missing. */
function parseBase64Hash(text: string): string | undefined {
  if (!/^[A-Za-z0-9+/]{43}=?$/.test(text)) return undefined
  const bytes = Buffer.from(text, 'base64')
  // 43 digits hold 258 bits: the two that are left over must be zero, or one hash would have four spellings.
  return bytes.toString('base64').startsWith(text) ? bytes.toString('hex') : undefined
}
