import type { DiscoveryConfig } from '../config/config.ts'
import type { Offence, TurnedAway } from '../doors/door.ts'
import type { GatewayEvent } from '../observe/event-feed.ts'
import type { AuditFacts, AuditKind } from '../observe/trail-record.ts'
import { nameOf, type Rights } from '../policy/identity.ts'
import type { Guest, Preparing, Readied, Verdict } from '../preparing/preparing.ts'
import { printable } from '../protocol/strings.ts'
import type { FlushTimes } from '../relay/keep.ts'
import type { MainCalls } from './calls.ts'
import { Comers } from './comers.ts'
import type { Place, Visit } from './control.ts'
import type { Estate } from './estate.ts'
import type { Plane } from './floor.ts'
import type { GuardDesk } from './guard-desk.ts'
import type { RateDesk } from './rate-desk.ts'
import type { BudgetName } from './rates.ts'

/** What the desks of all workers have in common. */
export interface Shared {
  readonly plane: Plane
  readonly rates: Pick<RateDesk, 'draw'>
  readonly guards: GuardDesk
  settle(conns: readonly number[]): Promise<void>
  flushTimes(key: string, butConn: number): Promise<readonly FlushTimes[]>
  pass(lines: string): void
}

interface Acquired {
  readonly name: string
  readonly visit: Visit
}

/**
 * Where the main process serves one worker. It notes what the sessions over there have taken, so that all of it can be given
 * back when the worker has died.
 */
export class Desk implements MainCalls {
  readonly #shared: Shared
  readonly #received: () => void
  /** Places taken. */
  readonly #places = new Comers()
  readonly #acquired = new Map<number, Acquired>()
  readonly #waiting = new Map<number, AbortController>()
  readonly #guarded = new Set<number>()
  /** Connections that something was made ready for. */
  readonly #prepared = new Set<number>()
  /** What the trail says of sessions that were opened, by `conn`. */
  readonly #opened = new Map<unknown, AuditFacts>()
  #load = 0
  /** Those of them that are in. */
  #entered = 0
  #isClosed = false

  constructor(shared: Shared, received: () => void) {
    this.#shared = shared
    this.#received = received
  }

  /** Connections that the worker has, or is about to get. */
  get load(): number {
    return this.#load
  }

  /** A place that was taken at the gate is this worker's now. */
  count(address: string | undefined, door: string | undefined): void {
    this.#load++
    this.#places.add(address, door)
  }

  received(): void {
    this.#received()
  }

  async admit(address: string | undefined, door: string | undefined): Promise<number | TurnedAway> {
    const { limits, number } = this.#shared.plane
    const reason = await limits.admit(address, door)
    if (reason !== undefined) return reason
    if (this.#isClosed) limits.leave(address, false, door)
    else this.count(address, door)
    return number()
  }

  entered(): void {
    this.#entered++
    this.#shared.plane.limits.entered()
  }

  charge(address: string | undefined, offence: Offence): void {
    this.#shared.plane.limits.charge(address, offence)
  }

  /** What the process over there has already. */
  adopt({ places, halfOpen, holdings, opened }: Estate): void {
    for (const [address, count, door] of places) for (let each = 0; each < count; each++) this.count(address, door)
    this.#entered = this.#load - halfOpen
    for (const { name, visit } of holdings) this.#acquired.set(visit.conn, { name, visit })
    for (const [conn, facts] of opened) this.#opened.set(conn, facts)
  }

  left(address: string | undefined, hasEntered: boolean, door: string | undefined): void {
    this.#load--
    if (hasEntered) this.#entered--
    this.#places.remove(address, door)
    this.#shared.plane.limits.leave(address, hasEntered, door)
  }

  async acquire(name: string, visit: Visit): Promise<Place> {
    const { control } = this.#shared.plane
    const patience = new AbortController()
    this.#waiting.set(visit.conn, patience)
    const place = await control.acquire(name, visit, patience.signal)
    this.#waiting.delete(visit.conn)
    if (place.kind === 'refused') return place
    if (this.#isClosed) control.release(name, visit)
    else this.#acquired.set(visit.conn, { name, visit })
    return place
  }

  giveUp(conn: number): void {
    this.#waiting.get(conn)?.abort()
  }

  async look(name: string, visit: Visit): Promise<Rights> {
    return await this.#shared.plane.control.look(name, visit)
  }

  leaving(conn: number): void {
    this.#shared.plane.control.leaving(conn)
  }

  release(name: string, visit: Visit): void {
    this.#acquired.delete(visit.conn)
    this.#shared.plane.control.release(name, visit)
  }

  async authorize(name: string, guest: Guest, granted: Parameters<Preparing['authorize']>[2]): Promise<Verdict> {
    return await this.#shared.plane.preparing.authorize(name, guest, granted)
  }

  async prepare(name: string, guest: Guest): Promise<Readied> {
    this.#prepared.add(guest.conn)
    return await this.#shared.plane.preparing.prepare(name, guest)
  }

  finish(conn: number): void {
    this.#prepared.delete(conn)
    this.#shared.plane.preparing.finish(conn)
  }

  async seek(discovery: DiscoveryConfig): Promise<void> {
    await this.#shared.plane.seek(discovery)
  }

  async settle(conns: readonly number[]): Promise<void> {
    await this.#shared.settle(conns)
  }

  async flushTimes(key: string, butConn: number): Promise<readonly FlushTimes[]> {
    return await this.#shared.flushTimes(key, butConn)
  }

  async write(kind: AuditKind, facts: AuditFacts): Promise<number | undefined> {
    const seq = await this.#shared.plane.audit.write(kind, facts)
    const { decision: _decision, ...opened } = facts
    this.#opened.set(facts.conn, { ...opened, ...(seq !== undefined && { opened: seq }) })
    if (this.#isClosed) this.#endOpened()
    return seq
  }

  note(kind: AuditKind, facts: AuditFacts): void {
    if (kind === 'session ended') this.#opened.delete(facts.conn)
    this.#shared.plane.audit.note(kind, facts)
  }

  async draw(name: BudgetName, perSecond: number, count: number): Promise<void> {
    await this.#shared.rates.draw(name, perSecond, count)
  }

  guard(conn: number, name: string, header: Buffer): void {
    this.#guarded.add(conn)
    this.#shared.guards.guard(conn, name, Buffer.from(header))
  }

  async lock(conn: number): Promise<Buffer | undefined> {
    return await this.#shared.guards.lock(conn)
  }

  unlock(conn: number, header: Buffer | undefined): void {
    this.#shared.guards.unlock(conn, header && Buffer.from(header))
  }

  unguard(conn: number): void {
    this.#guarded.delete(conn)
    this.#shared.guards.unguard(conn)
  }

  event({ kind, what, facts }: GatewayEvent): void {
    this.#shared.plane.telemetry.events.tell(kind, what, facts)
  }

  log(line: string): void {
    this.#shared.pass(line)
  }

  /** The worker has died, and with it its ways to upstreams: gives back all that its sessions had. */
  close(): void {
    const { control, limits, log, preparing } = this.#shared.plane
    this.#isClosed = true
    for (const conn of this.#guarded) this.#shared.guards.unguard(conn)
    for (const patience of this.#waiting.values()) patience.abort()
    this.#endOpened()
    for (const conn of this.#prepared) preparing.finish(conn)
    for (const [conn, { name, visit }] of this.#acquired) {
      control.release(name, visit)
      const who = nameOf(visit.asker.identity)
      log.warn({ conn, peer: visit.peer, who, export: printable(name), why: WORKER_DIED }, 'session ended')
    }
    for (const [address, count, door] of this.#places.list())
      for (let each = 0; each < count; each++) limits.leave(address, this.#entered-- > 0, door)
  }

  #endOpened(): void {
    for (const opened of this.#opened.values()) {
      this.#shared.plane.audit.note('session ended', { ...opened, why: WORKER_DIED })
    }
    this.#opened.clear()
  }
}

const WORKER_DIED = 'worker died'
