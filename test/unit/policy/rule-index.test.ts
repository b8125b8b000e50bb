/**
 * The search for rules against an oracle that looks at every rule: random rule sets out of a small vocabulary, so that
 * rules share clues, meet and overlap, and visitors who are made of the same words.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { compileGroups, compilePolicy } from '../../../src/policy/compile.ts'
import { type Decision, decide } from '../../../src/policy/decide.ts'
import { explain } from '../../../src/policy/explain.ts'
import type { DoorKind, Identity } from '../../../src/policy/identity.ts'
import { parseWho, type Who, whoProblem } from '../../../src/policy/who.ts'

const NOW_MS = 1_000
const HASHES = [...'0123'].map(digit => digit.repeat(64))
const KEYS = [...'abc'].map(letter => `SHA256:${letter.repeat(43)}`)

const nameOf = (separator: string, ...more: readonly string[]) =>
  fc.array(fc.constantFrom('a', 'b', 'A', ...more), { minLength: 1, maxLength: 3 }).map(parts => parts.join(separator))
const name = nameOf('.', '')
const pattern = nameOf('.', '*', '**')
const path = nameOf('/', '')
const emailOf = (part: fc.Arbitrary<string>) => fc.tuple(part, part).map(sides => sides.join('@'))

const ADDRESSES = ['10.0.0.7', '10.0.1.7', '10.9.9.9', '192.0.2.1', '::ffff:10.0.0.7', '2001:db8::1', '2001:db8:1::2']
const address = fc.constantFrom(...ADDRESSES)
const NETWORKS = [
  ...['0.0.0.0/0', '10.0.0.0/8', '10.0.0.0/16', '10.0.0.0/23', '10.0.1.0/24', '10.0.0.7/32', '192.0.2.1'],
  ...[
    '10.0.0.6/31',
    '::ffff:10.0.0.0/104',
    '::/0',
    '2001:db8::/32',
    '2001:db8::/48',
    '2001:db8::1',
    '2001:db8:1::2/127',
  ],
]
const id = fc.nat({ max: 3 })

const form = (prefix: string, value: fc.Arbitrary<string | number>) => value.map(text => `${prefix}${text}`)
const FORMS = [
  fc.constant('anyone'),
  form('address:', fc.constantFrom(...NETWORKS)),
  ...['cert:cn=', 'cert:o=', 'cert:ou=', 'cert:dns=', 'psk:', 'ssh:user=', 'ssh:principal='].map(prefix =>
    form(prefix, pattern),
  ),
  form('cert:uri=', nameOf('/', '*', '**')),
  form('cert:email=', emailOf(pattern)),
  form('cert:ip=', fc.constantFrom(...NETWORKS)),
  form('cert:fingerprint=SHA256:', fc.constantFrom(...HASHES)),
  form('cert:spki=SHA256:', fc.constantFrom(...HASHES)),
  form('ssh:key=', fc.constantFrom(...KEYS)),
  form('uid:', id),
  form('gid:', id),
  fc.constantFrom('group:0', 'group:1'),
].map(one => one.filter(text => text.startsWith('group:') || whoProblem(text) === undefined))

/** Lists made of few texts each, so that many share a kind of clue, and some the clue itself. */
const listsOf = <One>(
  forms: typeof FORMS,
  maxLength: number,
  one: (who: fc.Arbitrary<string[]>) => fc.Arbitrary<One>,
) =>
  fc
    .subarray(forms, { minLength: 1, maxLength: 3 })
    .chain(some => fc.array(fc.oneof(...some), { minLength: 1, maxLength: 9, size: 'max' }))
    .chain(texts =>
      fc.array(one(fc.array(fc.constantFrom(...texts), { minLength: 1, maxLength: 2 })), { maxLength, size: 'max' }),
    )
const members = listsOf(FORMS.slice(0, -1), 40, who => who)

const fields = { commonNames: name, organizations: name, organizationalUnits: name, dnsNames: name, uris: path }
const lists = Object.fromEntries(Object.entries(fields).map(([key, one]) => [key, fc.array(one, { maxLength: 2 })]))
const certificate = fc.record({
  subject: fc.constant(''),
  ...(lists as Record<keyof typeof fields, fc.Arbitrary<string[]>>),
  emails: fc.array(fc.oneof(emailOf(name), name), { maxLength: 2 }),
  ips: fc.array(address, { maxLength: 2 }),
  fingerprint: fc.constantFrom(...HASHES),
  spki: fc.constantFrom(...HASHES),
  serial: fc.constant('01'),
  notAfterMs: fc.constant(0),
})
const ssh = fc.record(
  { user: name, key: fc.constantFrom(...KEYS), principals: fc.array(name, { maxLength: 2 }) },
  { requiredKeys: ['key', 'principals'] },
)
const identity: fc.Arbitrary<Identity> = fc.record(
  { address, certificate, psk: name, ssh, uid: id, gid: id },
  { requiredKeys: [] },
)
const configs = fc.record({
  groups: fc.tuple(members, members),
  deny: listsOf(FORMS, 20, conditions => conditions.map(who => ({ who }))),
  allow: listsOf(FORMS, 80, who =>
    fc.record(
      { who, rights: fc.constantFrom('read', 'write'), untilMs: fc.nat({ max: 2 * NOW_MS }) },
      { requiredKeys: ['who', 'rights'] },
    ),
  ),
})
type Sample = typeof configs extends fc.Arbitrary<infer T> ? T : never

const compile = ({ groups, deny, allow }: Sample) =>
  compilePolicy(
    {
      deny: deny.map((rule, at) => ({ ...rule, source: `deny:${at}` })),
      allow: allow.map((rule, at) => ({ ...rule, source: `allow:${at}` })),
    },
    compileGroups(
      groups.map((all, at) => ({ name: String(at), members: all.map(who => ({ who, source: `group:${at}` })) })),
    ),
  )

const tests = new Map<string, Who['holds']>()

function testOf(text: string): Who['holds'] {
  const before = tests.get(text)
  if (before !== undefined) return before
  const who = parseWho(text)
  if (!who.ok) throw new Error(who.problem)
  tests.set(text, who.value.holds)
  return who.value.holds
}

/** Looks at every rule and every member of a group, one after the other. */
function oracle({ groups, deny, allow }: Sample, visitor: Identity): Decision {
  const holds = (text: string): boolean => {
    if (text.startsWith('group:')) return (groups[Number(text.slice(6))] ?? []).some(who => who.every(holds))
    return testOf(text)(visitor)
  }
  const denied = deny.findIndex(({ who }) => who.every(holds))
  if (denied >= 0) return { kind: 'refused', reason: 'denied', rule: `deny:${denied}` }
  const holding = allow.map((rule, at) => ({ ...rule, rule: `allow:${at}` })).filter(({ who }) => who.every(holds))
  const valid = holding.filter(({ untilMs }) => untilMs === undefined || NOW_MS < untilMs)
  const granted = valid.find(({ rights }) => rights === 'write') ?? valid[0]
  if (granted !== undefined) {
    const { rights, rule, untilMs } = granted
    return { kind: 'granted', rights, rule, ...(untilMs !== undefined && { untilMs }) }
  }
  return holding[0] === undefined
    ? { kind: 'refused', reason: 'no rule' }
    : { kind: 'refused', reason: 'expired', rule: holding[0].rule }
}

const at = (visitor: Identity) => ({ identity: visitor, door: 'tls' as DoorKind })

describe('many rules', () => {
  test('are decided as if each of them had been looked at, and the same rule is named', () => {
    const seen = new Set<string>()
    let searched = 0
    fc.assert(
      fc.property(configs, fc.array(identity, { minLength: 4, maxLength: 8 }), (config, visitors) => {
        const policy = compile(config)
        for (const visitor of visitors) {
          const decision = decide(policy, at(visitor), NOW_MS)
          expect(decision).toEqual(oracle(config, visitor))
          seen.add(decision.kind === 'granted' ? decision.rights : decision.reason)
          if ((policy.find?.allow?.(visitor).length ?? policy.allow.length) < policy.allow.length) searched++
        }
      }),
      { numRuns: 1000 },
    )
    expect([...seen].sort()).toEqual(['denied', 'expired', 'no rule', 'read', 'write'])
    expect(searched).toBeGreaterThan(1000)
  }, 120_000)

  test('are explained one by one, whether a decision looks at them or not', () => {
    fc.assert(
      fc.property(configs, identity, (config, visitor) => {
        const { decision, steps } = explain(compile(config), at(visitor), NOW_MS)
        expect(decision).toEqual(oracle(config, visitor))
        expect(steps).toHaveLength(config.deny.length + config.allow.length)
        const deciding = steps.filter(({ outcome }) => outcome === 'decides').map(({ rule }) => rule)
        expect(deciding).toEqual(decision.kind === 'granted' || decision.reason === 'denied' ? [decision.rule] : [])
      }),
      { numRuns: 300 },
    )
  })

  test('are found by what few of them share: of a thousand for one network, those for one name are looked at', () => {
    const allow = Array.from({ length: 1000 }, (_, n) => ({
      who: ['address:10.0.0.0/8', `cert:cn=user-${n % 500}`],
      rights: 'read' as const,
      source: `allow:${n}`,
    }))
    const policy = compilePolicy({ allow, deny: [] })
    const [facts] = fc.sample(certificate, 1)
    if (facts === undefined) throw new Error('no sample')
    const visitor = { address: '10.0.0.7', certificate: { ...facts, commonNames: ['user-7'] } }
    expect(policy.find?.allow?.(visitor).map(({ source }) => source)).toEqual(['allow:7', 'allow:507'])
    expect(policy.find?.allow?.({ address: '10.0.0.7' })).toEqual([])
  })

  test('that are few are not searched', () => {
    const allow = [{ who: ['cert:cn=alice'], rights: 'read' as const, source: 'allow:0' }]
    expect(compilePolicy({ allow, deny: [] }).find).toEqual({})
  })
})
