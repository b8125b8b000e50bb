import { describe, expect, test } from 'vitest'
import { compileGroups, compilePolicy } from '../../../src/policy/compile.ts'
import { type AllowRule, decide, type ExportPolicy } from '../../../src/policy/decide.ts'
import { parseWho, type Who } from '../../../src/policy/who.ts'

const NOW_MS = 1_000_000
const visitor = { identity: { address: '10.0.0.7', uid: 1000 }, door: 'tcp' } as const

const who = (text: string): Who => {
  const parsed = parseWho(text)
  if (!parsed.ok) throw new Error(parsed.problem)
  return parsed.value
}
const allow = (source: string, rights: 'read' | 'write', texts: readonly string[], untilMs?: number): AllowRule => ({
  who: texts.map(who),
  rights,
  source,
  ...(untilMs !== undefined && { untilMs }),
})
const policy = (parts: Partial<ExportPolicy>): ExportPolicy => ({ allow: [], deny: [], ...parts })

describe('decide', () => {
  test('refuses an export that does not exist', () => {
    expect(decide(undefined, visitor, NOW_MS)).toEqual({ kind: 'refused', reason: 'no such export' })
  })

  test('refuses everybody when there is no rule', () => {
    expect(decide(policy({}), visitor, NOW_MS)).toEqual({ kind: 'refused', reason: 'no rule' })
  })

  test('grants the rights of the rule that holds, and names it', () => {
    const rules = [allow('a:1', 'write', ['address:10.9.9.9']), allow('a:2', 'read', ['anyone'])]
    expect(decide(policy({ allow: rules }), visitor, NOW_MS)).toEqual({ kind: 'granted', rights: 'read', rule: 'a:2' })
  })

  test('asks for every condition of a rule', () => {
    const both = allow('a:1', 'read', ['address:10.0.0.0/8', 'uid:1000'])
    const one = allow('a:1', 'read', ['address:10.0.0.0/8', 'uid:1001'])
    expect(decide(policy({ allow: [both] }), visitor, NOW_MS).kind).toBe('granted')
    expect(decide(policy({ allow: [one] }), visitor, NOW_MS).kind).toBe('refused')
  })

  test('lets the strongest rights win, and the first rule among equals', () => {
    const rules = [
      allow('a:1', 'read', ['anyone']),
      allow('a:2', 'write', ['anyone']),
      allow('a:3', 'write', ['anyone']),
    ]
    expect(decide(policy({ allow: rules }), visitor, NOW_MS)).toMatchObject({ rights: 'write', rule: 'a:2' })
  })

  test('lets deny beat allow, but only if all its conditions hold', () => {
    const rules = [allow('a:1', 'write', ['anyone'])]
    const deny = [{ who: [who('uid:1000'), who('address:10.0.0.7')], source: 'a:5' }]
    const refused = decide(policy({ allow: rules, deny }), visitor, NOW_MS)
    expect(refused).toEqual({ kind: 'refused', reason: 'denied', rule: 'a:5' })
    const other = { identity: { uid: 1000, address: '10.0.0.8' }, door: 'tcp' } as const
    expect(decide(policy({ allow: rules, deny }), other, NOW_MS).kind).toBe('granted')
  })

  test('ends a rule at its moment, not a millisecond later', () => {
    const rules = policy({ allow: [allow('a:1', 'write', ['anyone'], NOW_MS)] })
    expect(decide(rules, visitor, NOW_MS - 1)).toEqual({
      kind: 'granted',
      rights: 'write',
      rule: 'a:1',
      untilMs: NOW_MS,
    })
    expect(decide(rules, visitor, NOW_MS)).toEqual({ kind: 'refused', reason: 'expired', rule: 'a:1' })
    expect(decide(rules, visitor, Number.NaN).kind).toBe('refused')
  })

  test('falls back to a weaker rule when the stronger one has ended', () => {
    const rules = [allow('a:1', 'write', ['anyone'], 1), allow('a:2', 'read', ['anyone'])]
    expect(decide(policy({ allow: rules }), visitor, NOW_MS)).toMatchObject({ rights: 'read', rule: 'a:2' })
  })

  test('refuses at a door that does not lead to the export', () => {
    const rules = policy({ allow: [allow('a:1', 'read', ['anyone'])], doors: ['tls', 'unix'] })
    expect(decide(rules, visitor, NOW_MS)).toEqual({ kind: 'refused', reason: 'wrong door' })
    expect(decide(rules, { ...visitor, door: 'unix' }, NOW_MS).kind).toBe('granted')
  })

  test('treats a rule without conditions as closed, on both sides', () => {
    expect(decide(policy({ allow: [allow('a:1', 'read', [])] }), visitor, NOW_MS).kind).toBe('refused')
    const rules = policy({ allow: [allow('a:1', 'read', ['anyone'])], deny: [{ who: [], source: 'a:2' }] })
    expect(decide(rules, visitor, NOW_MS)).toMatchObject({ reason: 'denied' })
  })
})

describe('compilePolicy', () => {
  const base = { name: 'disk', upstream: { kind: 'file', path: '/disk' }, limits: {}, source: 'n.yaml:1' } as const

  test('keeps rights, moments, doors and lines', () => {
    const compiled = compilePolicy({
      ...base,
      allow: [{ who: ['uid:1000'], rights: 'write', untilMs: 7, source: 'n.yaml:3' }],
      deny: [{ who: ['address:10.0.0.9'], source: 'n.yaml:5' }],
      doors: ['unix'],
    })
    expect(compiled).toMatchObject({
      allow: [{ rights: 'write', untilMs: 7, source: 'n.yaml:3', who: [{ text: 'uid:1000' }] }],
      deny: [{ source: 'n.yaml:5', who: [{ text: 'address:10.0.0.9' }] }],
      doors: ['unix'],
    })
    expect(compiled.allow[0]?.who[0]?.holds({ uid: 1000 })).toBe(true)
  })

  test('throws rather than lose a rule that it does not understand', () => {
    const deny = [{ who: ['psk:'], source: 'n.yaml:5' }]
    expect(() => compilePolicy({ ...base, allow: [], deny })).toThrow(/^n\.yaml:5: psk:/)
  })
})

describe('a group', () => {
  const members = (...texts: readonly (readonly string[])[]) =>
    texts.map((who, index) => ({ who, source: `g:${index}` }))
  const of = (identity: object, who: readonly string[]) => {
    const groups = compileGroups([
      { name: 'lab', members: members(['uid:1', 'address:10.0.0.0/8'], ['uid:2']) },
      { name: 'nobody', members: [] },
    ])
    const rule = { who, rights: 'read' as const, source: 'a:1' }
    const config = { name: 'x', upstream: { kind: 'file' as const, path: '/x' }, limits: {}, source: 'a:0' }
    const compiled = compilePolicy({ ...config, allow: [rule], deny: [] }, groups)
    return decide(compiled, { identity, door: 'unix' }, NOW_MS).kind
  }

  test('holds whoever all conditions of one entry hold for', () => {
    expect(of({ uid: 2 }, ['group:lab'])).toBe('granted')
    expect(of({ uid: 1 }, ['group:lab'])).toBe('refused')
    expect(of({ uid: 1, address: '10.1.1.1' }, ['group:lab'])).toBe('granted')
    expect(of({ uid: 1, address: '10.1.1.1' }, ['group:lab', 'uid:2'])).toBe('refused')
    expect(of({ uid: 2 }, ['group:nobody'])).toBe('refused')
  })

  test('that is not there is no rule that gets lost', () => {
    expect(() => of({ uid: 2 }, ['group:law'])).toThrow('a:1: there is no group "law"')
  })
})
