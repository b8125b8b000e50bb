import type { SessionExplanation, SessionFacts } from '../admin/managed.ts'
import type { Config } from '../config/config.ts'
import type { Door, Reception } from '../doors/door.ts'
import type { Listener } from '../doors/listen.ts'
import type { MetricFamily } from '../observe/metric-family.ts'
import type { RegionFacts } from '../observe/region-counts.ts'
import type { ExportTraffic } from '../observe/session-meters.ts'
import type { Telemetry } from '../observe/telemetry.ts'
import type { FlushTimes } from '../relay/keep.ts'
import { Fences, type Term } from '../sharing/fence.ts'
import { DialQueue } from '../upstreams/dial-queue.ts'
import { boundFloods } from './bounded-log.ts'
import { DoorSet } from './door-set.ts'
import { DrawnBudget } from './drawn-budget.ts'
import type { Changed, Floor, Plane } from './floor.ts'
import { LuksGuards } from './luks-check.ts'
import { roomsHere } from './prepared-door.ts'
import { ProcessMemory } from './process-memory.ts'
import { type MakeBudget, RateBook } from './rates.ts'
import { SessionBook } from './session-book.ts'

/** All sessions in this process. */
export class LocalFloor implements Floor {
  readonly #book: SessionBook
  readonly #doorSet: DoorSet
  readonly #telemetry: Telemetry
  readonly #fences = new Fences()
  readonly #guards = new LuksGuards()
  readonly #memory = new ProcessMemory(1)
  readonly #rates: RateBook
  readonly #drawn: MakeBudget

  constructor(plane: Plane) {
    const { control, audit, preparing, limits, telemetry } = plane
    const log = boundFloods(plane.log)
    this.#telemetry = telemetry
    const settle = (conns: readonly number[]): Promise<void> => plane.settle(conns)
    this.#drawn = (name, perSecond) => new DrawnBudget(perSecond, (rate, count) => plane.rates.draw(name, rate, count))
    this.#rates = plane.sharesRates ? new RateBook(this.#drawn) : new RateBook()
    const shared = {
      control,
      audit,
      preparing,
      log,
      meters: telemetry.meters,
      dials: new DialQueue(),
      rates: this.#rates,
      guards: this.#guards,
      fences: this.#fences,
      settle,
    }
    this.#book = new SessionBook(
      conn => ({
        ...shared,
        flushTimes: key => plane.flushTimes(key, conn),
        limits: plane.config().limits,
        memory: this.#memory.session(plane.config().limits),
      }),
      {
        entered: () => limits.entered(),
        left: (address, hasEntered, door) => limits.leave(address, hasEntered, door),
        charge: (address, offence) => limits.charge(address, offence),
      },
    )
    const receptionAt = (door: string): Reception => ({
      get vanishedMs() {
        return plane.config().leases.vanishedMs
      },
      enter: visitor => this.#book.enter(visitor, plane.number(), door),
      admit: address => limits.admit(address, door),
      known: () => limits.entered(),
      left: (address, wasKnown) => limits.leave(address, wasKnown, door),
      charge: (address, offence) => limits.charge(address, offence),
      turnedAway: (peer, reason, facts) => log.warn({ peer, reason, ...facts }, 'turned away'),
      failed: error => log.error({ err: error }, 'door failed'),
    })
    this.#doorSet = new DoorSet({ receptionAt, rooms: roomsHere(receptionAt), log, handed: plane.handed })
  }

  get doors(): readonly Door[] {
    return this.#doorSet.doors
  }

  async begin(): Promise<void> {}

  listeners(): ReadonlyMap<string, Listener> {
    return this.#doorSet.listeners()
  }

  async release(): Promise<void> {
    this.#guards.freeze()
    this.#rates.replace(this.#drawn)
    await this.#doorSet.release()
  }

  async apply(config: Config, commit: () => void): Promise<Changed> {
    const doors = await this.#doorSet.apply(config.doors, config.limits.negotiationMs, () => {
      commit()
      this.#memory.follow(config.limits)
    })
    return { doors, ended: await this.#book.recheck() }
  }

  /** Control is here, and has it. */
  async follow(): Promise<void> {}

  async sessions(): Promise<readonly SessionFacts[]> {
    return this.#book.facts()
  }

  async gather(): Promise<readonly (readonly MetricFamily[])[]> {
    return [[...this.#telemetry.families(), ...this.#memory.families()]]
  }

  async traffic(): Promise<readonly (readonly ExportTraffic[])[]> {
    return [this.#telemetry.meters.traffic()]
  }

  async regions(name: string): Promise<readonly RegionFacts[]> {
    const regions = this.#telemetry.meters.regions(name)
    return regions === undefined ? [] : [regions]
  }

  async explain(conn: number): Promise<SessionExplanation | undefined> {
    return await this.#book.explain(conn)
  }

  async kick(conn: number): Promise<boolean> {
    return this.#book.kick(conn)
  }

  async retire(conns: readonly number[], why: string): Promise<void> {
    await this.#book.retire(conns, why)
  }

  async settle(conns: readonly number[]): Promise<void> {
    await this.#book.settle(conns)
  }

  async flushTimes(key: string, butConn: number): Promise<readonly FlushTimes[]> {
    return this.#book.flushTimes(key, butConn)
  }

  cut(conns: readonly number[], why: string): void {
    this.#book.cut(conns, why)
  }

  extend(term: Term): void {
    this.#fences.extend(term)
  }

  endTerm(id: string, why: string): void {
    this.#fences.end(id, why)
  }

  async close(): Promise<void> {
    this.#book.drain()
    await this.#doorSet.close()
  }

  async ended(): Promise<void> {
    await this.#book.ended()
  }

  async shutDown(): Promise<void> {
    await this.#book.shutDown()
  }

  async stop(): Promise<void> {
    await this.#doorSet.close()
    await this.#book.stop()
  }
}
