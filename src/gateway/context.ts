import type { Offence } from '../doors/door.ts'
import type { Audit } from '../observe/audit.ts'
import type { Log } from '../observe/log.ts'
import type { SessionMeters } from '../observe/session-meters.ts'
import type { Preparing } from '../preparing/preparing.ts'
import type { FlushTimes } from '../relay/keep.ts'
import type { SessionMemory } from '../relay/session-memory.ts'
import type { Fences } from '../sharing/fence.ts'
import type { ByteStream } from '../stream/byte-stream.ts'
import type { DialQueue } from '../upstreams/dial-queue.ts'
import type { Control } from './control.ts'
import type { Guards } from './luks-check.ts'
import type { RateBook } from './rates.ts'

/** What a session needs of the gateway. */
export interface SessionContext {
  /** Names the connection in logs. */
  readonly conn: number
  readonly control: Control
  readonly audit: Audit
  /** What has to be run before an upstream is touched. */
  readonly preparing: Preparing
  /** The way to upstreams that must not be overrun. */
  readonly dials: DialQueue
  readonly rates: RateBook
  readonly guards: Guards
  /** What ends sessions with their leases. */
  readonly fences: Fences
  /** What sessions count. */
  readonly meters: SessionMeters
  /** What it may hold. */
  readonly memory: SessionMemory
  readonly log: Log
  readonly limits: { readonly negotiationMs: number; readonly idleMs: number }
  isDraining(): boolean
  /** The visitor is in its export: not half open any more. Called once at most. */
  entered(): void
  /** Holds it against the visitor's address that it has failed. */
  charge(offence: Offence | undefined): void
  /** Resolves when no write that these sessions have been sent up to now can still land. Never rejects. */
  settle(conns: readonly number[]): Promise<void>
  /** What the other connections of the same export and identity say of what they have flushed. */
  flushTimes(key: string): Promise<readonly FlushTimes[]>
  /** The stream that now carries the connection: TLS has taken over. */
  secured(stream: ByteStream): void
}
