import type { ExportConfig, GroupConfig } from '../config/config.ts'
import type { ExportPolicy } from './decide.ts'
import type { Identity } from './identity.ts'
import { type Conditions, indexRules } from './rule-index.ts'
import { type Groups, parseWho, type Who } from './who.ts'

/** A rule that names a group is found by its members' clues, if they are no more than these. */
const MAX_GROUP_CLUES = 32

/** Each `who` that was compiled, by its text: the same one stands in many rules and many exports. */
export type KnownWho = Map<string, Who>

/**
 * Compiles an export's rules. The loader has checked every `who` already (`whoProblem`); one that is wrong all the same
 * throws an Error that names its line, for a rule must never get lost. `known` is for all exports of one configuration.
 */
export function compilePolicy(
  config: Pick<ExportConfig, 'allow' | 'deny' | 'doors'>,
  groups: Groups = new Map(),
  known: KnownWho = new Map(),
): ExportPolicy {
  const allow = config.allow.map(rule => ({ ...rule, who: compileWho(rule, groups, known) }))
  const deny = config.deny.map(rule => ({ ...rule, who: compileWho(rule, groups, known) }))
  const find = { allow: indexRules(allow), deny: indexRules(deny) }
  return { allow, deny, find, ...(config.doors !== undefined && { doors: config.doors }) }
}

/** Compiles groups: an identity is in one if all conditions of one of its members hold. Throws as compilePolicy does. */
export function compileGroups(groups: readonly GroupConfig[]): Groups {
  const known: KnownWho = new Map()
  return new Map(
    groups.map(({ name, members }) => {
      const compiled = members.map(member => ({ who: compileWho(member, new Map(), known) }))
      return [name, { holds: membershipIn(compiled), clues: cluesOf(compiled) }]
    }),
  )
}

/** Many rules of many exports may ask for one group, so the last answer is remembered. */
function membershipIn(members: readonly Conditions[]): Who['holds'] {
  const find = indexRules(members)
  let last: Identity | undefined
  let wasIn = false
  return identity => {
    if (identity !== last) {
      wasIn = (find?.(identity) ?? members).some(({ who }) => who.every(({ holds }) => holds(identity)))
      last = identity
    }
    return wasIn
  }
}

/** One clue of each member; none if there is a member without. */
function cluesOf(members: readonly Conditions[]): Who['clues'] {
  const clues = members.map(({ who }) => who.find(each => each.clues !== undefined)?.clues)
  const all = clues.flatMap(each => each ?? [])
  return clues.includes(undefined) || all.length > MAX_GROUP_CLUES ? undefined : all
}

function compileWho(
  { who: texts, source }: { readonly who: readonly string[]; readonly source: string },
  groups: Groups,
  known: KnownWho,
): readonly Who[] {
  return texts.map(text => {
    const before = known.get(text)
    if (before !== undefined) return before
    const who = parseWho(text, groups)
    if (!who.ok) throw new Error(`${source}: ${who.problem}`)
    known.set(text, who.value)
    return who.value
  })
}
