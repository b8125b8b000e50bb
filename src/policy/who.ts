import { parseCidr } from '../config/cidr.ts'
import { type Parsed, parsed, unparsed } from '../config/parsed.ts'
import { printable } from '../protocol/strings.ts'
import { parseCertificateTest } from './cert-who.ts'
import { compileCidrs } from './cidr.ts'
import type { Identity } from './identity.ts'
import { parsePattern, patternRules } from './pattern.ts'
import { parseSshTest } from './ssh-who.ts'

/** One condition of a rule, compiled: a text of the configuration, and whether it holds for an identity. */
export interface Who {
  /** As written: `cert:cn=alice`. */
  readonly text: string
  readonly holds: (identity: Identity) => boolean
}

/** Groups by name, each compiled to whether an identity is in it. */
export type Groups = ReadonlyMap<string, Who['holds']>

const LABELS = patternRules({ separator: '.', ignoreCase: false })

/** Numbers of users and groups; 2^32 - 1 is the kernel's "none" (credentials(7), chown(2)). */
const MAX_ID = 2 ** 32 - 2

/**
 * Reads one `who`: `anyone`, `address:CIDR`, `cert:FIELD=VALUE`, `psk:NAME`, `ssh:FIELD=VALUE`, `uid:N`, `gid:N`,
 * `group:NAME`. Forms of later versions are a problem
 * of their own, for a rule that is not understood must not be one that is not there.
 */
export function parseWho(text: string, groups: Groups = new Map()): Parsed<Who> {
  const test = text.startsWith('group:') ? groupTest(text.slice('group:'.length), groups) : parseTest(text)
  return test.ok ? parsed({ text, holds: test.value }) : test
}

/**
 * What is wrong with a `who`, undefined if nothing is. For the loader of the configuration, which knows the line, and
 * which groups there are.
 */
export function whoProblem(text: string): string | undefined {
  const who = text.startsWith('group:') ? parsed(undefined) : parseTest(text)
  return who.ok ? undefined : who.problem
}

function parseTest(text: string): Parsed<Who['holds']> {
  if (text === 'anyone') return parsed(() => true)
  const colon = text.indexOf(':')
  const form = colon < 0 ? text : text.slice(0, colon)
  const value = colon < 0 ? '' : text.slice(colon + 1)
  switch (form) {
    case 'address':
      return addressTest(value)
    case 'cert':
      return certificateTest(value)
    case 'uid':
      return idTest(form, value)
    case 'gid':
      return idTest(form, value)
    case 'ssh':
      return sshTest(value)
    case 'psk':
      return pskTest(value)
    default:
      return unparsed(`"${printable(form, 64)}" is not one of anyone, address:, cert:, psk:, ssh:, uid:, gid:, group:`)
  }
}

function groupTest(name: string, groups: Groups): Parsed<Who['holds']> {
  const isMember = groups.get(name)
  return isMember === undefined ? unparsed(`there is no group "${printable(name, 64)}"`) : parsed(isMember)
}

function addressTest(value: string): Parsed<Who['holds']> {
  const network = parseCidr(value)
  if (!network.ok) return network
  const isInside = compileCidrs([network.value])
  return parsed(identity => isInside(identity.address))
}

function certificateTest(value: string): Parsed<Who['holds']> {
  const test = parseCertificateTest(value)
  if (!test.ok) return test
  return parsed(({ certificate }) => certificate !== undefined && test.value(certificate))
}

function pskTest(value: string): Parsed<Who['holds']> {
  if (value === '') return unparsed('psk: needs the name of a key, like psk:bob')
  const pattern = parsePattern(value, LABELS)
  if (!pattern.ok) return pattern
  return parsed(({ psk }) => psk !== undefined && pattern.value(psk))
}

function sshTest(value: string): Parsed<Who['holds']> {
  const test = parseSshTest(value)
  if (!test.ok) return test
  return parsed(({ ssh }) => ssh !== undefined && test.value(ssh))
}

function idTest(field: 'uid' | 'gid', value: string): Parsed<Who['holds']> {
  if (!/^(0|[1-9]\d{0,9})$/.test(value) || Number(value) > MAX_ID)
    return unparsed(`${field}: needs a number, like ${field}:1000`)
  const id = Number(value)
  return parsed(identity => identity[field] === id)
}
