import { parseCidr } from '../config/cidr.ts'
import { type Parsed, parsed, unparsed } from '../config/parsed.ts'
import { printable } from '../protocol/strings.ts'
import { parseCertificateTest } from './cert-who.ts'
import { networkTest } from './cidr.ts'
import { type Clue, clueWithin, type Test } from './clue.ts'
import type { Identity } from './identity.ts'
import { parsePattern, patternRules } from './pattern.ts'
import { parseSshTest } from './ssh-who.ts'

/** One condition of a rule, compiled: a text of the configuration, and whether it holds for an identity. */
export interface Who {
  /** As written: `cert:cn=alice`. */
  readonly text: string
  readonly holds: (identity: Identity) => boolean
  /** It holds for nobody without one of these clues. Undefined: it could hold for anybody. */
  readonly clues?: readonly Clue<Identity>[] | undefined
}

/** Groups by name, each compiled to whether an identity is in it. */
export type Groups = ReadonlyMap<string, Omit<Who, 'text'>>

const LABELS = patternRules({ separator: '.', ignoreCase: false })

/** Numbers of users and groups; 2^32 - 1 is the kernel's "none" (credentials(7), chown(2)). */
const MAX_ID = 2 ** 32 - 2

/**
 * Reads one `who`: `anyone`, `address:CIDR`, `cert:FIELD=VALUE`, `psk:NAME`, `ssh:FIELD=VALUE`, `uid:N`, `gid:N`,
 * `group:NAME`. Forms of later versions are a problem
 * of their own, for a rule that is not understood must not be one that is not there.
 */
export function parseWho(text: string, groups: Groups = new Map()): Parsed<Who> {
  if (text.startsWith('group:')) return groupWho(text, groups)
  const test = parseTest(text)
  if (!test.ok) return test
  const { holds, clue } = test.value
  return parsed({ text, holds, clues: clue && [clue] })
}

function groupWho(text: string, groups: Groups): Parsed<Who> {
  const name = text.slice('group:'.length)
  const group = groups.get(name)
  return group === undefined ? unparsed(`there is no group "${printable(name, 64)}"`) : parsed({ text, ...group })
}

/**
 * What is wrong with a `who`, undefined if nothing is. For the loader of the configuration, which knows the line, and
 * which groups there are.
 */
export function whoProblem(text: string): string | undefined {
  const who = text.startsWith('group:') ? parsed(undefined) : parseTest(text)
  return who.ok ? undefined : who.problem
}

function parseTest(text: string): Parsed<Test<Identity>> {
  if (text === 'anyone') return parsed({ holds: () => true })
  const colon = text.indexOf(':')
  const form = colon < 0 ? text : text.slice(0, colon)
  const value = colon < 0 ? '' : text.slice(colon + 1)
  switch (form) {
    case 'address':
      return addressTest(value)
    case 'cert':
      return factTest(form, parseCertificateTest(value), ({ certificate }) => certificate)
    case 'uid':
    case 'gid':
      return idTest(form, value)
    case 'ssh':
      return factTest(form, parseSshTest(value), ({ ssh }) => ssh)
    case 'psk':
      return pskTest(value)
    default:
      return unparsed(`"${printable(form, 64)}" is not one of anyone, address:, cert:, psk:, ssh:, uid:, gid:, group:`)
  }
}

/** A condition on one fact: it does not hold for whom that is not known of. */
function factTest<Fact>(
  form: string,
  test: Parsed<Test<Fact>>,
  factOf: (identity: Identity) => Fact | undefined,
): Parsed<Test<Identity>> {
  if (!test.ok) return test
  const { holds, clue } = test.value
  const isMet = (identity: Identity): boolean => {
    const fact = factOf(identity)
    return fact !== undefined && holds(fact)
  }
  const factsOf = (identity: Identity): readonly Fact[] => {
    const fact = factOf(identity)
    return fact === undefined ? [] : [fact]
  }
  return parsed({ holds: isMet, clue: clueWithin(form, clue, factsOf) })
}

function addressTest(value: string): Parsed<Test<Identity>> {
  const network = parseCidr(value)
  if (!network.ok) return network
  return factTest('address', parsed(networkTest(network.value)), ({ address }) => address)
}

function pskTest(value: string): Parsed<Test<Identity>> {
  if (value === '') return unparsed('psk: needs the name of a key, like psk:bob')
  return factTest('psk', parsePattern(value, LABELS), ({ psk }) => psk)
}

function idTest(field: 'uid' | 'gid', value: string): Parsed<Test<Identity>> {
  if (!/^(0|[1-9]\d{0,9})$/.test(value) || Number(value) > MAX_ID)
    return unparsed(`${field}: needs a number, like ${field}:1000`)
  const id = Number(value)
  const clue = { id: 'is', key: id, keysOf: (known: number) => [known] }
  return factTest(field, parsed({ holds: known => known === id, clue }), identity => identity[field])
}
