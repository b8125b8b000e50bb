import type { ExportConfig, GroupConfig } from '../config/config.ts'
import type { ExportPolicy } from './decide.ts'
import { type Groups, parseWho, type Who } from './who.ts'

/**
 * Compiles an export's rules. The loader has checked every `who` already (`whoProblem`); one that is wrong all the same
 * throws an Error that names its line, for a rule must never get lost.
 */
export function compilePolicy(config: ExportConfig, groups: Groups = new Map()): ExportPolicy {
  return {
    allow: config.allow.map(rule => ({ ...rule, who: compileWho(rule.who, rule.source, groups) })),
    deny: config.deny.map(rule => ({ ...rule, who: compileWho(rule.who, rule.source, groups) })),
    ...(config.doors !== undefined && { doors: config.doors }),
  }
}

/** Compiles groups: an identity is in one if all conditions of one of its members hold. Throws as compilePolicy does. */
export function compileGroups(groups: readonly GroupConfig[]): Groups {
  return new Map(
    groups.map(({ name, members }) => {
      const compiled = members.map(({ who, source }) => compileWho(who, source, new Map()))
      return [name, identity => compiled.some(all => all.every(who => who.holds(identity)))]
    }),
  )
}

function compileWho(texts: readonly string[], source: string, groups: Groups): readonly Who[] {
  return texts.map(text => {
    const who = parseWho(text, groups)
    if (!who.ok) throw new Error(`${source}: ${who.problem}`)
    return who.value
  })
}
