import type { AuditFacts } from '../observe/trail-record.ts'
import type { Comer } from './comers.ts'
import type { Holding } from './control.ts'
import type { Charged } from './penalties.ts'

/** What the sessions of a gateway have, for the process that takes it over. */
export interface Estate {
  /** The number of its last connection. */
  readonly number: number
  /** Connections by address and door. */
  readonly places: readonly Comer[]
  /** Those of them that are not in yet. */
  readonly halfOpen: number
  /** What is held against addresses. */
  readonly charged: readonly Charged[]
  /** The oldest first. */
  readonly holdings: readonly Holding[]
  /** What the audit trail says of those that are open, by `conn`. */
  readonly opened: readonly (readonly [conn: unknown, facts: AuditFacts])[]
}
