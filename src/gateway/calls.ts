/**
 * The seam between the main process and its workers: what each may call of the other. It is what a session asks of Control and
 * its neighbours in SessionContext, and what the gateway asks of a floor; each is a direct call where there are no workers.
 *
 * A worker decides by itself, having the configuration; all that is counted, shared, numbered or written down is the main
 * process's.
 */
import type { Socket } from 'node:net'
import type { OverlayFacts, OverlayRemoval, SessionExplanation, SessionFacts } from '../admin/managed.ts'
import type { Config, DiscoveryConfig } from '../config/config.ts'
import type { Accepted, Offence, TurnedAway } from '../doors/door.ts'
import type { GatewayEvent } from '../observe/event-feed.ts'
import type { MetricFamily } from '../observe/metric-family.ts'
import type { RegionFacts } from '../observe/region-counts.ts'
import type { ExportTraffic } from '../observe/session-meters.ts'
import type { AuditFacts, AuditKind } from '../observe/trail-record.ts'
import type { Rights } from '../policy/identity.ts'
import type { Guest, Preparing, Readied, Verdict } from '../preparing/preparing.ts'
import type { FlushTimes } from '../relay/keep.ts'
import type { Term } from '../sharing/fence.ts'
import type { Place, Visit } from './control.ts'
import type { Estate } from './estate.ts'
import type { BudgetName } from './rates.ts'

/** What the main process serves. */
export interface MainCalls {
  /** The connection that was given has been received: the next one may come. */
  received(): void
  /** A place for one more from this address at this door's place: its number, or which limit it would break. */
  admit(address: string | undefined, door: string | undefined): Promise<number | TurnedAway>
  /** One that has a place is in: it is not half open any more. */
  entered(): void
  /** One that had a place has gone; `hasEntered`: it was in. */
  left(address: string | undefined, hasEntered: boolean, door: string | undefined): void
  /** Holds it against an address that one from there has failed. */
  charge(address: string | undefined, offence: Offence): void

  /** As Control has them. `giveUp` is the signal of `acquire`. */
  acquire(name: string, visit: Visit): Promise<Place>
  giveUp(conn: number): void
  look(name: string, visit: Visit): Promise<Rights>
  leaving(conn: number): void
  release(name: string, visit: Visit): void

  /** As Preparing has them. */
  authorize(name: string, guest: Guest, granted: Parameters<Preparing['authorize']>[2]): Promise<Verdict>
  prepare(name: string, guest: Guest): Promise<Readied>
  finish(conn: number): void

  /** As Plane has it. */
  seek(discovery: DiscoveryConfig): Promise<void>

  /** As SessionContext has it. */
  settle(conns: readonly number[]): Promise<void>

  /** As Floor has it. */
  flushTimes(key: string, butConn: number): Promise<readonly FlushTimes[]>

  /** As Audit has them. */
  write(kind: AuditKind, facts: AuditFacts): Promise<number | undefined>
  note(kind: AuditKind, facts: AuditFacts): void

  /** Takes so much of a budget; answered when it was there, and whatever it was overdrawn by is paid. */
  draw(name: BudgetName, perSecond: number, count: number): Promise<void>

  /** A session watches over a LUKS header, which is `header` if nobody else knows better. */
  guard(conn: number, name: string, header: Buffer): void
  /** The session alone may judge what changes the header, which is as answered; until `unlock`, with what it is then. */
  lock(conn: number): Promise<Buffer | undefined>
  unlock(conn: number, header: Buffer | undefined): void
  unguard(conn: number): void

  /** Something that those who watch the gateway are told of. */
  event(event: GatewayEvent): void

  /** A line of the log. */
  log(line: string): void
}

/**
 * What the process before this one serves, while it still has sessions: its gateway was handed over, and what its sessions ask it asks
 * of this one, by MainCalls. Changed with anything that passes between the two: SEAM, below.
 */
export interface ElderCalls {
  /** Stops deciding, and says what its sessions have. From now on until `takenOver` all who ask wait. */
  yieldAll(): Promise<Estate>
  /** This process decides: the other one stops listening. */
  takenOver(): Promise<void>

  /** As Floor has them. */
  prepare(config: Config): void
  commit(config: Config): Promise<readonly number[]>
  follow(config: Config): Promise<void>
  sessions(): Promise<readonly SessionFacts[]>
  gather(): Promise<readonly (readonly MetricFamily[])[]>
  traffic(): Promise<readonly (readonly ExportTraffic[])[]>
  regions(name: string): Promise<readonly RegionFacts[]>
  explain(conn: number): Promise<SessionExplanation | undefined>
  kick(conn: number): Promise<boolean>
  retire(conns: readonly number[], why: string): Promise<void>
  settle(conns: readonly number[]): Promise<void>
  flushTimes(key: string, butConn: number): Promise<readonly FlushTimes[]>
  cut(conns: readonly number[], why: string): void
  extend(term: Term): void
  endTerm(id: string, why: string): void

  /** As Legacy has them. */
  prepareKnown(name: string, guest: Guest): Promise<Readied | undefined>
  finish(conn: number): void
  overlays(): Promise<readonly OverlayFacts[]>
  removeOverlay(id: string): Promise<OverlayRemoval>
  keepOverlay(id: string, isKept: boolean): Promise<boolean>

  /** As Floor has them. */
  drain(): void
  ended(): Promise<void>
  shutDown(): Promise<void>
  stop(): Promise<void>
}

/** Two versions of the program understand each other if theirs is the same. */
export const SEAM = 5

/** How a worker is started. */
export interface WorkerStart {
  readonly config: Config
  /** Which of the workers it is, from 1. */
  readonly worker: number
  readonly workers: number
  readonly isDraining: boolean
}

/** What a worker serves. */
export interface WorkerCalls {
  /** Answered when it is ready. Throws MaterialError. */
  start(start: WorkerStart): void
  /** A connection at a door's place, `conn` its number. `socket` is absent if it has gone on the way. */
  arrive(place: string, conn: number, accepted: Omit<Accepted, 'socket'>, socket?: Socket): void

  /** Loads what a configuration needs. Throws MaterialError; nothing has changed either way. */
  prepare(config: Config): void
  /** Puts what was prepared into force; the sessions that were ended since their rights are gone. */
  commit(): Promise<readonly number[]>

  /** Exports that upstreams list have come or gone; nobody who is in is asked again. */
  replace(config: Config): void

  /** What it has counted. */
  families(): readonly MetricFamily[]
  /** The same of its exports alone, and of an export's regions, as SessionMeters has them. */
  traffic(): readonly ExportTraffic[]
  regions(name: string): RegionFacts | undefined

  /** As SessionBook has them. */
  sessions(): readonly SessionFacts[]
  explain(conn: number): Promise<SessionExplanation | undefined>
  kick(conn: number): boolean
  retire(conns: readonly number[], why: string): Promise<void>
  settle(conns: readonly number[]): Promise<void>
  flushTimes(key: string, butConn: number): readonly FlushTimes[]
  cut(conns: readonly number[], why: string): void
  /** As Fences has them. */
  extend(term: Term): void
  endTerm(id: string, why: string): void
  /** The session's lock is wanted by others who wait; answered when it is not held any more. */
  yieldLock(conn: number): void

  /** LUKS headers stay as they are: another process of the gateway lets sessions in. */
  freeze(): void
  /** Lets nobody in any more. */
  drain(): void
  ended(): Promise<void>
  shutDown(): Promise<void>
  stop(): Promise<void>
}
