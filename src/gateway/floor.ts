/**
 * Where sessions run: in this process, or in workers. The gateway keeps the rest (plane) and asks the floor for what has to
 * be done where the sessions are.
 */
import type { SessionExplanation, SessionFacts } from '../admin/managed.ts'
import type { Config, DiscoveryConfig } from '../config/config.ts'
import type { Door } from '../doors/door.ts'
import type { Listener } from '../doors/listen.ts'
import type { Audit } from '../observe/audit.ts'
import type { Log } from '../observe/log.ts'
import type { MetricFamily } from '../observe/metric-family.ts'
import type { RegionFacts } from '../observe/region-counts.ts'
import type { ExportTraffic } from '../observe/session-meters.ts'
import type { Telemetry } from '../observe/telemetry.ts'
import type { Preparing } from '../preparing/preparing.ts'
import type { FlushTimes } from '../relay/keep.ts'
import type { Term } from '../sharing/fence.ts'
import type { Leases } from '../sharing/leases.ts'
import type { LocalControl } from './control.ts'
import type { DoorChanges } from './door-set.ts'
import type { Handed } from './handed.ts'
import type { RateDesk } from './rate-desk.ts'
import type { Places } from './seat.ts'

/** What there is once, however many processes there are. */
export interface Plane {
  readonly control: LocalControl
  readonly leases: Leases
  readonly audit: Audit
  readonly preparing: Preparing
  readonly limits: Places
  readonly log: Log
  /** What this process counts. */
  readonly telemetry: Telemetry
  /** Looks again for what an upstream lists; what is new is in force everywhere then. Never rejects. */
  seek(discovery: DiscoveryConfig): Promise<void>
  /** Resolves when no write that these sessions have been sent up to now can still land, wherever they are. Never rejects. */
  settle(conns: readonly number[]): Promise<void>
  /** As Floor has them, wherever the sessions are. */
  flushTimes(key: string, butConn: number): Promise<readonly FlushTimes[]>
  /** The budgets of several processes. */
  readonly rates: Pick<RateDesk, 'draw'>
  /** Sessions of another process count against the same budgets. */
  readonly sharesRates: boolean
  /** What is in force, with what upstreams list. */
  config(): Config
  /** Sockets of doors that listen already. */
  readonly handed: Handed
  /** Numbers a connection. */
  number(): number
}

/** What a reload did. */
export interface Changed {
  readonly doors: DoorChanges
  /** Sessions whose rights were gone. */
  readonly ended: readonly number[]
}

export interface Floor {
  readonly doors: readonly Door[]

  /** Starts what sessions run in. To be called once, before all else. */
  begin(): Promise<void>

  /** What the doors listen at, by place. */
  listeners(): ReadonlyMap<string, Listener>

  /** Another process listens at the doors now, and lets sessions in. Those who are here stay. */
  release(): Promise<void>

  /**
   * Puts the doors and rules of a configuration into force, all of it or nothing. `commit` is called when nothing can fail any
   * more, before anything changes. @throws MaterialError, DoorError
   */
  apply(config: Config, commit: () => void): Promise<Changed>

  /** Lets those who come from now on have the exports of this configuration: what upstreams list has changed. */
  follow(config: Config): Promise<void>

  /** Those in transmission phase, the oldest first. */
  sessions(): Promise<readonly SessionFacts[]>

  /** What each of the processes has counted. */
  gather(): Promise<readonly (readonly MetricFamily[])[]>

  /** What has passed on exports, of each of the processes with sessions. */
  traffic(): Promise<readonly (readonly ExportTraffic[])[]>

  /** Which regions of an export are asked for, of each of them that knows; counted for some seconds from now on. */
  regions(name: string): Promise<readonly RegionFacts[]>

  /** What the rules say of one of them now; undefined if there is none of this number. */
  explain(conn: number): Promise<SessionExplanation | undefined>

  /** Ends one of them now; false if there is none of this number. */
  kick(conn: number): Promise<boolean>

  /** Ends sessions, also those that haggle; resolves when they have ended. */
  retire(conns: readonly number[], why: string): Promise<void>

  /** Resolves when no write that these sessions have been sent up to now can still land. Never rejects. */
  settle(conns: readonly number[]): Promise<void>

  /** What connections of this key say of what they have flushed, all but one of them. */
  flushTimes(key: string, butConn: number): Promise<readonly FlushTimes[]>

  /** Ends sessions now; what they have asked for may still be on its way. */
  cut(conns: readonly number[], why: string): void

  /** A term of leases lasts longer. */
  extend(term: Term): void

  /** A term of leases is over, whatever it said, and with it the sessions that had them. */
  endTerm(id: string, why: string): void

  /** Lets nobody in any more, and tells who is haggling so. */
  close(): Promise<void>

  /** Resolves when all sessions have ended. */
  ended(): Promise<void>

  /** Ends all sessions in good order: what is in flight is answered. Resolves when they have ended. */
  shutDown(): Promise<void>

  /** Ends all sessions now, and what they run in. */
  stop(): Promise<void>
}
