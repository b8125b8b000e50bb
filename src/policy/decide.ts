import type { UseLimits } from '../config/config.ts'
import type { DoorKind, Identity, Rights } from './identity.ts'
import type { RuleFinder } from './rule-index.ts'
import type { Who } from './who.ts'

/** Grants `rights` to whoever all of `who` hold for, until a moment (milliseconds of the epoch) if there is one. */
export interface AllowRule {
  readonly who: readonly Who[]
  readonly rights: Rights
  readonly untilMs?: number
  /** What each identity that comes in by this rule may use. */
  readonly limits?: UseLimits
  /** Where it is written: `nbdgate.yaml:34`. */
  readonly source: string
}

/** Keeps out whoever all of `who` hold for, whatever the allow rules say. */
export interface DenyRule {
  readonly who: readonly Who[]
  readonly source: string
}

/** Who may do what with one export. Without an allow rule that holds, nobody anything. */
export interface ExportPolicy {
  readonly allow: readonly AllowRule[]
  readonly deny: readonly DenyRule[]
  /** The doors that lead to the export; absent means all of them. */
  readonly doors?: readonly DoorKind[]
  /** Find the rules that could hold, where there are many. */
  readonly find?: {
    readonly allow?: RuleFinder<AllowRule> | undefined
    readonly deny?: RuleFinder<DenyRule> | undefined
  }
}

/** For the log, never for the visitor, who must not be able to tell them apart. */
export type RefusalReason = 'no such export' | 'wrong door' | 'denied' | 'no rule' | 'expired'

/** What a visitor gets, and the rule that decided it. `untilMs` says how long the rule holds; the caller sees to it. */
export type Decision =
  | {
      readonly kind: 'granted'
      readonly rights: Rights
      readonly rule: string
      readonly untilMs?: number
      readonly limits?: UseLimits
    }
  | { readonly kind: 'refused'; readonly reason: RefusalReason; readonly rule?: string }

/**
 * Decides what a visitor may do with an export. Deny beats allow; of the allow rules that hold the strongest rights win,
 * among equals the first. Refuses what no rule grants, and an export that does not exist (policy undefined).
 */
export function decide(
  policy: ExportPolicy | undefined,
  visitor: { readonly identity: Identity; readonly door: DoorKind },
  nowMs: number,
): Decision {
  if (policy === undefined) return { kind: 'refused', reason: 'no such export' }
  const { identity, door } = visitor
  if (policy.doors !== undefined && !policy.doors.includes(door)) return { kind: 'refused', reason: 'wrong door' }

  const deny = policy.find?.deny?.(identity) ?? policy.deny
  const denied = deny.find(rule => allHold(rule.who, identity))
  if (denied !== undefined) return { kind: 'refused', reason: 'denied', rule: denied.source }

  let granted: AllowRule | undefined
  let expired: AllowRule | undefined
  for (const rule of policy.find?.allow?.(identity) ?? policy.allow) {
    const isValid = rule.untilMs === undefined || nowMs < rule.untilMs
    // What would change nothing is not asked.
    if (isValid ? granted !== undefined && rule.rights === 'read' : expired !== undefined) continue
    // A rule without conditions would hold for everybody: it is no rule. (Above, the same slip keeps everybody out.)
    if (rule.who.length === 0 || !allHold(rule.who, identity)) continue
    if (!isValid) expired = rule
    else granted = rule
    if (granted?.rights === 'write') break
  }
  if (granted !== undefined) {
    const { rights, source, untilMs, limits } = granted
    const more = { ...(untilMs !== undefined && { untilMs }), ...(limits !== undefined && { limits }) }
    return { kind: 'granted', rights, rule: source, ...more }
  }
  return expired === undefined
    ? { kind: 'refused', reason: 'no rule' }
    : { kind: 'refused', reason: 'expired', rule: expired.source }
}

/** `every`, without a function a rule: there may be thousands. */
function allHold(conditions: readonly Who[], identity: Identity): boolean {
  for (const who of conditions) if (!who.holds(identity)) return false
  return true
}
