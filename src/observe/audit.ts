import type { Log } from './log.ts'
import type { AuditFacts, AuditKind } from './trail-record.ts'

/** How a trail is doing. */
export interface AuditState {
  /** It can not be written at the moment. */
  readonly failing: boolean
  /** Records that wait in memory. */
  readonly waiting: number
  /** Records that there was no room for, and that the trail does not tell of yet. */
  readonly lost: number
}

/** Where the gateway writes down who did what. */
export interface Audit {
  /**
   * Writes down what must not happen unless it is written down; resolves with the number of the record when it is on the
   * disk. Undefined: it is not, and the operator has said to go on all the same. @throws AuditError
   */
  write(kind: AuditKind, facts: AuditFacts): Promise<number | undefined>

  /** Writes down what has happened: now, or as soon as writing works again. */
  note(kind: AuditKind, facts: AuditFacts): void

  /** How it is doing; undefined where there is none. */
  state(): AuditState | undefined

  /** Writes what waits, and gives the trail back. */
  close(): Promise<void>
}

/** Of a gateway without a state folder. */
export const NO_AUDIT: Audit = {
  write: async () => undefined,
  note: () => {},
  state: () => undefined,
  close: async () => {},
}

export interface AuditOptions {
  /** The state folder; made if it is not there. */
  readonly dir: string
  readonly onFailure: 'refuse' | 'warn'
  /** A file of this size is followed by a new one. */
  readonly rotateBytes: number
  readonly log: Log
  /** How long a failure lasts at least before what waits is tried again. */
  readonly retryMs?: number
  /** How long who asks, and who closes, waits for the disk at most. */
  readonly writeMs?: number
}
