import { type AllowRule, type Decision, type DenyRule, decide, type ExportPolicy } from './decide.ts'
import type { DoorKind, Identity } from './identity.ts'

/** One rule, and what came of it. */
export interface Step {
  readonly rule: string
  readonly kind: 'deny' | 'allow'
  readonly rights?: 'read' | 'write'
  readonly untilMs?: number
  readonly who: readonly string[]
  /**
   * `decides`; `not met`: what is in `unmet` does not hold; `expired`; `outdone`: it holds, and a stronger or earlier rule
   * decides; `not looked at`: it was decided before.
   */
  readonly outcome: 'decides' | 'not met' | 'expired' | 'outdone' | 'not looked at'
  /** The conditions that do not hold. */
  readonly unmet: readonly string[]
}

/** A decision with all rules of the export in the order in which they count: deny, then allow. */
export interface Explanation {
  readonly decision: Decision
  readonly steps: readonly Step[]
}

/** Decides as `decide` does, by calling it, and says what each rule had to do with it. */
export function explain(
  policy: ExportPolicy | undefined,
  visitor: { readonly identity: Identity; readonly door: DoorKind },
  nowMs: number,
): Explanation {
  const decision = decide(policy, visitor, nowMs)
  if (policy === undefined) return { decision, steps: [] }
  const deny = policy.deny.map(rule => ({ rule, unmet: unmetOf(rule, visitor.identity) }))
  const allow = policy.allow.map(rule => ({ rule, unmet: unmetOf(rule, visitor.identity) }))
  const isDoorShut = decision.kind === 'refused' && decision.reason === 'wrong door'
  const denying = isDoorShut ? -1 : deny.findIndex(({ unmet }) => unmet.length === 0)
  const isAllowed = ({ rule, unmet }: { rule: AllowRule; unmet: readonly string[] }): boolean =>
    decision.kind === 'granted' && rule.rights === decision.rights && holds(rule, unmet) && !isPast(rule, nowMs)
  const granting = allow.findIndex(isAllowed)
  const denyOutcome = (index: number): Outcome => {
    if (isDoorShut || (denying >= 0 && index > denying)) return 'not looked at'
    return index === denying ? 'decides' : 'not met'
  }
  const allowOutcome = (rule: AllowRule, unmet: readonly string[], index: number): Outcome => {
    if (isDoorShut || denying >= 0) return 'not looked at'
    if (!holds(rule, unmet)) return 'not met'
    if (isPast(rule, nowMs)) return 'expired'
    return index === granting ? 'decides' : 'outdone'
  }
  return {
    decision,
    steps: [
      ...deny.map(({ rule, unmet }, index) => ({ ...factsOf(rule), outcome: denyOutcome(index), unmet })),
      ...allow.map(({ rule, unmet }, index) => ({
        ...factsOf(rule),
        outcome: allowOutcome(rule, unmet, index),
        unmet,
      })),
    ],
  }
}

type Outcome = Step['outcome']

function unmetOf(rule: AllowRule | DenyRule, identity: Identity): readonly string[] {
  return rule.who.filter(who => !who.holds(identity)).map(who => who.text)
}

/** An allow rule without conditions is none (decide.ts). */
function holds(rule: AllowRule, unmet: readonly string[]): boolean {
  return unmet.length === 0 && rule.who.length > 0
}

function isPast({ untilMs }: AllowRule, nowMs: number): boolean {
  return untilMs !== undefined && !(nowMs < untilMs)
}

function factsOf(rule: AllowRule | DenyRule): Omit<Step, 'outcome' | 'unmet'> {
  const common = { rule: rule.source, who: rule.who.map(who => who.text) }
  if (!('rights' in rule)) return { ...common, kind: 'deny' }
  const { untilMs } = rule
  return { ...common, kind: 'allow', rights: rule.rights, ...(untilMs !== undefined && { untilMs }) }
}
