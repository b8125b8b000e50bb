/**
 * The `cert:` forms of `who`: one field of the client certificate each, compiled to a test of its facts. Where a field
 * has several values (SANs, OUs), one that matches is enough.
 */

import { parseCidr } from '../config/cidr.ts'
import { type Parsed, parsed, unparsed } from '../config/parsed.ts'
import type { CertificateFacts } from '../pki/certificate-facts.ts'
import { printable } from '../protocol/strings.ts'
import { compileCidrs } from './cidr.ts'
import { type PatternRules, parsePattern, patternRules } from './pattern.ts'

/** A compiled `cert:` form. */
export type CertificateTest = (facts: CertificateFacts) => boolean

type ValuesOf = (facts: CertificateFacts) => readonly string[]

const LABELS = patternRules({ separator: '.', ignoreCase: false })
const DNS_LABELS = patternRules({ separator: '.', ignoreCase: true })
const PATH_PARTS = patternRules({ separator: '/', ignoreCase: false })

const FIELDS: ReadonlyMap<string, (value: string) => Parsed<CertificateTest>> = new Map([
  ['cn', value => patternTest(value, LABELS, facts => facts.commonNames)],
  ['o', value => patternTest(value, LABELS, facts => facts.organizations)],
  ['ou', value => patternTest(value, LABELS, facts => facts.organizationalUnits)],
  ['dns', value => asciiProblem('dns', value) ?? patternTest(value, DNS_LABELS, facts => facts.dnsNames)],
  ['uri', value => asciiProblem('uri', value) ?? patternTest(value, PATH_PARTS, facts => facts.uris)],
  ['email', value => asciiProblem('email', value) ?? emailTest(value)],
  ['ip', ipTest],
  ['fingerprint', value => hashTest(value, parseHexHash, facts => facts.fingerprint)],
  [
    'spki',
    value =>
      hashTest(
        value,
        text => parseHexHash(text) ?? parseBase64Hash(text),
        facts => facts.spki,
      ),
  ],
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

function patternTest(text: string, rules: PatternRules, valuesOf: ValuesOf): Parsed<CertificateTest> {
  const pattern = parsePattern(text, rules)
  if (!pattern.ok) return pattern
  const isMatch = pattern.value
  return parsed(facts => {
    for (const value of valuesOf(facts)) if (isMatch(value)) return true
    return false
  })
}

/** Both sides of the `@` on their own, so that no wildcard reaches over it (RFC 5321, 4.1.2: only the domain folds). */
function emailTest(text: string): Parsed<CertificateTest> {
  const wanted = splitEmail(text)
  if (wanted === undefined) return unparsed('cert:email= needs an @: alice@example.com, *@example.com')
  const local = parsePattern(wanted.local, LABELS)
  if (!local.ok) return local
  const domain = parsePattern(wanted.domain, DNS_LABELS)
  if (!domain.ok) return domain
  return parsed(facts =>
    facts.emails.some(value => {
      const email = splitEmail(value)
      return email !== undefined && local.value(email.local) && domain.value(email.domain)
    }),
  )
}

function splitEmail(text: string): { readonly local: string; readonly domain: string } | undefined {
  const at = text.lastIndexOf('@')
  return at < 0 ? undefined : { local: text.slice(0, at), domain: text.slice(at + 1) }
}

function ipTest(text: string): Parsed<CertificateTest> {
  const network = parseCidr(text)
  if (!network.ok) return network
  const isInside = compileCidrs([network.value])
  return parsed(facts => facts.ips.some(isInside))
}

function hashTest(
  text: string,
  parse: (text: string) => string | undefined,
  hashOf: (facts: CertificateFacts) => string,
): Parsed<CertificateTest> {
  const hash = /^sha256:/i.test(text) ? parse(text.slice('SHA256:'.length)) : undefined
  if (hash === undefined)
    return unparsed('a hash is SHA256: and 64 hex digits, as `openssl x509 -fingerprint -sha256` prints them')
  return parsed(facts => hashOf(facts) === hash)
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
