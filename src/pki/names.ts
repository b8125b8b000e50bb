// The names in a certificate: the subject, and the subject alternative names (RFC 5280, 4.1.2.4 and 4.2.1.6).
import { isIP } from 'node:net'
import { domainToASCII } from 'node:url'
import { type Der, explicit, implicit, objectId, sequence, setOf, utf8String } from './der.ts'
import { PkiError } from './errors.ts'

/** A subject: attributes that are absent are left out. */
export interface SubjectName {
  readonly commonName?: string | undefined
  readonly organization?: string | undefined
  readonly organizationalUnit?: string | undefined
}

/** One subject alternative name. `directory` is for names that fit no other kind. */
export type AlternativeName =
  | { readonly kind: 'dns' | 'email' | 'uri' | 'ip'; readonly value: string }
  | { readonly kind: 'directory'; readonly value: SubjectName }

/** Longest common name, organization and unit, in characters (RFC 5280, appendix A: ub-common-name and its kin). */
export const MAX_SUBJECT_VALUE = 64

const ATTRIBUTES = [
  ['organization', '2.5.4.10'],
  ['organizationalUnit', '2.5.4.11'],
  ['commonName', '2.5.4.3'],
] as const

/** Name ::= SEQUENCE OF RelativeDistinguishedName, the most general first. Empty for a subject without attributes. */
export function encodeSubject(subject: SubjectName): Der {
  const parts: Der[] = []
  for (const [attribute, oid] of ATTRIBUTES) {
    const value = subject[attribute]
    if (value !== undefined) parts.push(setOf(sequence(objectId(oid), utf8String(value))))
  }
  return sequence(...parts)
}

/** GeneralName. */
export function encodeAlternativeName(name: AlternativeName): Der {
  switch (name.kind) {
    case 'email':
      return implicit(1, Buffer.from(name.value, 'ascii'))
    case 'dns':
      return implicit(2, Buffer.from(name.value, 'ascii'))
    case 'directory':
      return explicit(4, encodeSubject(name.value))
    case 'uri':
      return implicit(6, Buffer.from(name.value, 'ascii'))
    case 'ip':
      return implicit(7, addressBytes(name.value))
    default:
      return name satisfies never
  }
}

/** 4 or 16 bytes, network order. Expects what `isIP` accepts, without a zone. */
function addressBytes(address: string): Buffer {
  if (isIP(address) === 4) return Buffer.from(address.split('.').map(Number))
  // URL writes any form of an IPv6 address as hexadecimal groups with at most one gap.
  const [head = '', tail] = new URL(`http://[${address}]/`).hostname.slice(1, -1).split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const gap = new Array<string>(8 - left.length - right.length).fill('0')
  const bytes = Buffer.alloc(16)
  for (const [at, group] of [...left, ...gap, ...right].entries())
    bytes.writeUInt16BE(Number.parseInt(group, 16), at * 2)
  return bytes
}

/** A subject value that will be readable in every log: no control or format characters, 1 to 64 characters. Throws PkiError. */
export function parseSubjectValue(what: string, value: string): string {
  if (value.trim() === '' || value !== value.trim()) throw bad(what, value, 'is empty or has spaces around it')
  if (/[\p{C}\p{Zl}\p{Zp}]/u.test(value)) throw bad(what, value, 'has control characters in it')
  if ([...value].length > MAX_SUBJECT_VALUE) throw bad(what, value, `is longer than ${MAX_SUBJECT_VALUE} characters`)
  return value
}

/** A host name, in ASCII; a leading `*.` is allowed. Throws PkiError. */
export function parseDnsName(value: string): AlternativeName {
  const ascii = toHostName(value)
  if (ascii === undefined) throw bad('DNS name', value, 'is not a host name')
  return { kind: 'dns', value: ascii }
}

/** An IPv4 or IPv6 address if it is one, or else a host name. Throws PkiError. */
export function parseHost(value: string): AlternativeName {
  if (isIP(value) === 0) return parseDnsName(value)
  if (value.includes('%')) throw bad('address', value, 'has a zone, which means nothing on another machine')
  return { kind: 'ip', value }
}

/** A mail address in ASCII. Throws PkiError. */
export function parseEmail(value: string): AlternativeName {
  if (!/^[!-?A-~]+@[!-?A-~]+$/.test(value)) throw bad('mail address', value, 'is not NAME@DOMAIN in ASCII')
  return { kind: 'email', value }
}

/** An absolute URI in ASCII. Throws PkiError. */
export function parseUri(value: string): AlternativeName {
  if (!/^[a-z][a-z0-9+.-]*:[!-~]+$/i.test(value)) throw bad('URI', value, 'is not SCHEME:REST in ASCII')
  return { kind: 'uri', value }
}

/** The kind of alternative name that a client's name looks like: URI, mail address, host name, or else a directory name. */
export function guessAlternativeName(name: string): AlternativeName {
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(name)) return parseUri(name)
  if (/^[!-?A-~]+@[!-?A-~]+$/.test(name)) return { kind: 'email', value: name }
  const host = toHostName(name)
  if (host !== undefined) return { kind: 'dns', value: host }
  return { kind: 'directory', value: { commonName: name } }
}

function toHostName(value: string): string | undefined {
  const wild = value.startsWith('*.') ? '*.' : ''
  const rest = value.slice(wild.length)
  // domainToASCII would also decode %xx and cut at a slash: let it see plain names only.
  if (!/^[\p{L}\p{N}\p{M}._-]+$/u.test(rest)) return undefined
  const ascii = /^[\w.-]+$/.test(rest) ? rest : domainToASCII(rest)
  const labels = ascii.split('.')
  // A last label of digits only would be read as an address by whoever dials it (URL Standard, "ends in a number").
  const fits =
    !/(^|\.)\d+$/.test(ascii) &&
    ascii.length <= 253 &&
    labels.every(label => /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/i.test(label))
  return fits ? wild + ascii : undefined
}

function bad(what: string, value: string, why: string): PkiError {
  return new PkiError('BAD_NAME', `the ${what} ${JSON.stringify(value)} ${why}`)
}
