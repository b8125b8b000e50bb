import type { ExportConfig } from '../config/config.ts'
import type { ExportPolicy } from './decide.ts'
import { parseWho, type Who } from './who.ts'

/**
 * Compiles an export's rules. The loader has checked every `who` already (`whoProblem`); one that is wrong all the same
 * throws an Error that names its line, for a rule must never get lost.
 */
export function compilePolicy(config: ExportConfig): ExportPolicy {
  return {
    allow: config.allow.map(rule => ({ ...rule, who: compileWho(rule.who, rule.source) })),
    deny: config.deny.map(rule => ({ ...rule, who: compileWho(rule.who, rule.source) })),
    ...(config.doors !== undefined && { doors: config.doors }),
  }
}

function compileWho(texts: readonly string[], source: string): readonly Who[] {
  return texts.map(text => {
    const who = parseWho(text)
    if (!who.ok) throw new Error(`${source}: ${who.problem}`)
    return who.value
  })
}
