/**
 * The end of a gateway that another process takes over, as it is here: sessions stay as long as they live. What they ask for is
 * asked of that process then, which reaches them as it reaches its own.
 */
import type { OverlayFacts, OverlayRemoval, SessionExplanation, SessionFacts } from '../admin/managed.ts'
import type { Config } from '../config/config.ts'
import type { MetricFamily } from '../observe/metric-family.ts'
import type { RegionFacts } from '../observe/region-counts.ts'
import type { ExportTraffic } from '../observe/session-meters.ts'
import type { Telemetry } from '../observe/telemetry.ts'
import type { Guest, Readied } from '../preparing/preparing.ts'
import type { FlushTimes } from '../relay/keep.ts'
import type { Term } from '../sharing/fence.ts'
import type { ElderCalls, MainCalls } from './calls.ts'
import type { Estate } from './estate.ts'
import type { Floor } from './floor.ts'
import { type Channel, Link } from './link.ts'
import type { PreparingKeeper } from './preparing-keeper.ts'
import type { Seat } from './seat.ts'

/** The gateway that is handed over. */
export interface HandedOver {
  readonly seat: Seat
  readonly floor: Floor
  readonly telemetry: Telemetry
  readonly preparing: PreparingKeeper
  /** The number of the last connection. */
  number(): number
  /** The audit trail is given up, or taken back. */
  closeTrail(): Promise<void>
  openTrail(): Promise<void>
  /** Says whether a configuration can be put into force. @throws MaterialError, Error */
  check(config: Config): void
  /** Puts one into force; the sessions that were ended. */
  apply(config: Config): Promise<readonly number[]>
  follow(config: Config): Promise<void>
  /** Nothing but sessions is this process's any more. */
  retire(): void
  /** Ends it. */
  stop(): Promise<void>
}

export class Handover implements ElderCalls {
  /** Resolves when the other process has taken over. */
  readonly done: Promise<void>
  /** Resolves when no session is left, nor anything that was made ready for one; or all have been ended. */
  readonly over: Promise<void>
  readonly receive: Link<MainCalls>['receive']
  readonly #gateway: HandedOver
  readonly #link: Link<MainCalls>
  readonly #taken: () => Promise<void>
  #isDone: () => void = () => {}
  #isOver: () => void = () => {}
  #hasYielded = false
  #isAway = false

  /** `taken`: what else has to be given up; called when the other process is ready. */
  constructor(gateway: HandedOver, channel: Channel, taken: () => Promise<void>) {
    this.#gateway = gateway
    this.#taken = taken
    this.#link = new Link<MainCalls>(channel, this)
    this.receive = this.#link.receive
    this.done = new Promise(resolve => {
      this.#isDone = resolve
    })
    this.over = new Promise(resolve => {
      this.#isOver = resolve
    })
  }

  /** The other process has gone. If it had not taken over, all is as it was before; else its end is the end of what it decided on. */
  async closed(): Promise<void> {
    this.#link.close()
    if (this.#isAway) {
      await this.#gateway.floor.stop()
      this.#isOver()
    } else if (this.#hasYielded) {
      await this.#gateway.openTrail()
      this.#gateway.seat.resume()
    }
  }

  /** Resolves when all that was told has arrived. */
  async flush(): Promise<void> {
    await this.#link.ask('settle', []).catch(() => {})
  }

  async yieldAll(): Promise<Estate> {
    this.#hasYielded = true
    const estate = this.#gateway.seat.hold(this.#gateway.number())
    await this.#gateway.closeTrail()
    return estate
  }

  async takenOver(): Promise<void> {
    const { seat, floor, telemetry, preparing } = this.#gateway
    this.#isAway = true
    const empty = seat.giveAway(this.#link)
    telemetry.events.listen(event => this.#link.tell('event', event))
    this.#gateway.retire()
    await floor.release()
    await this.#taken()
    void empty.then(async () => await preparing.leave()).then(this.#isOver)
    this.#isDone()
  }

  prepare(config: Config): void {
    this.#gateway.check(config)
  }

  async commit(config: Config): Promise<readonly number[]> {
    return await this.#gateway.apply(config)
  }

  async follow(config: Config): Promise<void> {
    await this.#gateway.follow(config)
  }

  async sessions(): Promise<readonly SessionFacts[]> {
    return await this.#gateway.floor.sessions()
  }

  async gather(): Promise<readonly (readonly MetricFamily[])[]> {
    return await this.#gateway.floor.gather()
  }

  async traffic(): Promise<readonly (readonly ExportTraffic[])[]> {
    return await this.#gateway.floor.traffic()
  }

  async regions(name: string): Promise<readonly RegionFacts[]> {
    return await this.#gateway.floor.regions(name)
  }

  async explain(conn: number): Promise<SessionExplanation | undefined> {
    return await this.#gateway.floor.explain(conn)
  }

  async kick(conn: number): Promise<boolean> {
    return await this.#gateway.floor.kick(conn)
  }

  async retire(conns: readonly number[], why: string): Promise<void> {
    await this.#gateway.floor.retire(conns, why)
  }

  async settle(conns: readonly number[]): Promise<void> {
    await this.#gateway.floor.settle(conns)
  }

  async flushTimes(key: string, butConn: number): Promise<readonly FlushTimes[]> {
    return await this.#gateway.floor.flushTimes(key, butConn)
  }

  cut(conns: readonly number[], why: string): void {
    this.#gateway.floor.cut(conns, why)
  }

  extend(term: Term): void {
    this.#gateway.floor.extend(term)
  }

  endTerm(id: string, why: string): void {
    this.#gateway.floor.endTerm(id, why)
  }

  async prepareKnown(name: string, guest: Guest): Promise<Readied | undefined> {
    return await this.#gateway.preparing.prepareKnown(name, guest)
  }

  finish(conn: number): void {
    this.#gateway.preparing.finish(conn)
  }

  async overlays(): Promise<readonly OverlayFacts[]> {
    return await this.#gateway.preparing.list()
  }

  async removeOverlay(id: string): Promise<OverlayRemoval> {
    return await this.#gateway.preparing.remove(id)
  }

  async keepOverlay(id: string, isKept: boolean): Promise<boolean> {
    return await this.#gateway.preparing.keep(id, isKept)
  }

  drain(): void {
    void this.#gateway.floor.close()
  }

  async ended(): Promise<void> {
    await this.#gateway.floor.ended()
  }

  async shutDown(): Promise<void> {
    await this.#gateway.floor.shutDown()
  }

  async stop(): Promise<void> {
    await this.#gateway.floor.stop()
    this.#isOver()
  }
}
