import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decide, type ExportPolicy } from '../../../src/policy/decide.ts'
import { explain } from '../../../src/policy/explain.ts'
import { parseWho, type Who } from '../../../src/policy/who.ts'

const NOW_MS = 1_000_000
const visitor = { identity: { address: '10.0.0.7', uid: 1000 }, door: 'tcp' } as const

const who = (text: string): Who => {
  const parsed = parseWho(text)
  if (!parsed.ok) throw new Error(parsed.problem)
  return parsed.value
}
const allow = (source: string, rights: 'read' | 'write', texts: readonly string[], untilMs?: number) => ({
  who: texts.map(who),
  rights,
  source,
  ...(untilMs !== undefined && { untilMs }),
})
const deny = (source: string, ...texts: readonly string[]) => ({ who: texts.map(who), source })
const outcomes = (policy: ExportPolicy) =>
  explain(policy, visitor, NOW_MS).steps.map(({ rule, outcome }) => [rule, outcome])

describe('explain', () => {
  test('tells the rule that decides, those that do not hold and why, and those that are weaker', () => {
    const policy = {
      deny: [deny('a:9', 'uid:1000', 'address:10.9.9.9')],
      allow: [
        allow('a:1', 'read', ['anyone']),
        allow('a:2', 'write', ['uid:7', 'gid:7']),
        allow('a:3', 'write', ['anyone']),
      ],
    }
    const { decision, steps } = explain(policy, visitor, NOW_MS)
    expect(decision).toEqual({ kind: 'granted', rights: 'write', rule: 'a:3' })
    expect(steps).toEqual([
      {
        rule: 'a:9',
        kind: 'deny',
        who: ['uid:1000', 'address:10.9.9.9'],
        outcome: 'not met',
        unmet: ['address:10.9.9.9'],
      },
      { rule: 'a:1', kind: 'allow', rights: 'read', who: ['anyone'], outcome: 'outdone', unmet: [] },
      {
        rule: 'a:2',
        kind: 'allow',
        rights: 'write',
        who: ['uid:7', 'gid:7'],
        outcome: 'not met',
        unmet: ['uid:7', 'gid:7'],
      },
      { rule: 'a:3', kind: 'allow', rights: 'write', who: ['anyone'], outcome: 'decides', unmet: [] },
    ])
  })

  test('looks at nothing behind a deny that holds', () => {
    const policy = {
      deny: [deny('a:7', 'uid:1'), deny('a:8', 'anyone'), deny('a:9', 'anyone')],
      allow: [allow('a:1', 'read', ['anyone'])],
    }
    expect(outcomes(policy)).toEqual([
      ['a:7', 'not met'],
      ['a:8', 'decides'],
      ['a:9', 'not looked at'],
      ['a:1', 'not looked at'],
    ])
  })

  test('looks at no rule when the door does not lead there, or the export does not exist', () => {
    expect(
      outcomes({ deny: [deny('a:9', 'anyone')], allow: [allow('a:1', 'read', ['anyone'])], doors: ['tls'] }),
    ).toEqual([
      ['a:9', 'not looked at'],
      ['a:1', 'not looked at'],
    ])
    expect(explain(undefined, visitor, NOW_MS)).toEqual({
      decision: { kind: 'refused', reason: 'no such export' },
      steps: [],
    })
  })

  test('tells what has expired, whether something else holds or not', () => {
    const past = allow('a:1', 'write', ['anyone'], NOW_MS)
    expect(explain({ deny: [], allow: [past] }, visitor, NOW_MS)).toMatchObject({
      decision: { reason: 'expired', rule: 'a:1' },
      steps: [{ outcome: 'expired', untilMs: NOW_MS }],
    })
    expect(outcomes({ deny: [], allow: [past, allow('a:2', 'read', ['anyone'])] })).toEqual([
      ['a:1', 'expired'],
      ['a:2', 'decides'],
    ])
  })

  const texts = fc.array(fc.constantFrom('anyone', 'uid:1000', 'uid:1', 'address:10.0.0.0/8', 'address:10.9.0.0/16'), {
    maxLength: 2,
  })
  const source = fc.nat({ max: 3 }).map(line => `a:${line}`)
  const policies = fc.record({
    deny: fc.array(
      fc.tuple(source, texts).map(([line, all]) => deny(line, ...all)),
      { maxLength: 3 },
    ),
    allow: fc.array(
      fc
        .tuple(
          source,
          fc.constantFrom('read' as const, 'write' as const),
          texts,
          fc.option(fc.nat({ max: 2 * NOW_MS }), { nil: undefined }),
        )
        .map(([line, rights, all, until]) => allow(line, rights, all, until)),
      { maxLength: 5 },
    ),
  })

  test('says what decide says, and exactly one rule that decides if a rule did, even where rules share a line', () => {
    fc.assert(
      fc.property(policies, policy => {
        const { decision, steps } = explain(policy, visitor, NOW_MS)
        expect(decision).toEqual(decide(policy, visitor, NOW_MS))
        const deciding = steps.filter(({ outcome }) => outcome === 'decides')
        const isDecided = decision.kind === 'granted' || decision.reason === 'denied'
        expect(deciding.map(({ rule }) => rule)).toEqual(isDecided ? [decision.rule] : [])
        for (const { outcome, unmet, who: all } of steps) {
          if (outcome === 'not met') expect(unmet.length > 0 || all.length === 0).toBe(true)
          else if (outcome !== 'not looked at') expect(unmet).toEqual([])
        }
      }),
      { numRuns: 1000 },
    )
  })
})
