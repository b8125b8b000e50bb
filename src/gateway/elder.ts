/**
 * The process before this one, which has handed its gateway over: it has its old sessions still, and is asked for them as a floor is.
 * It is gone with the last of them.
 */
import type { SessionExplanation, SessionFacts } from '../admin/managed.ts'
import type { Config } from '../config/config.ts'
import type { Door } from '../doors/door.ts'
import type { Listener } from '../doors/listen.ts'
import type { MetricFamily } from '../observe/metric-family.ts'
import type { RegionFacts } from '../observe/region-counts.ts'
import type { ExportTraffic } from '../observe/session-meters.ts'
import type { Guest, Legacy, Overlays, Readied } from '../preparing/preparing.ts'
import { commonMs, type FlushTimes } from '../relay/keep.ts'
import type { Term } from '../sharing/fence.ts'
import type { ElderCalls } from './calls.ts'
import { Desk } from './desk.ts'
import type { Estate } from './estate.ts'
import type { Changed, Floor, Plane } from './floor.ts'
import { GuardDesk } from './guard-desk.ts'
import { type Channel, Link, LinkClosedError } from './link.ts'

/** How the other process is reached. */
export interface ElderChannel extends Channel {
  listen(receive: (message: unknown, handle?: unknown) => void, closed: () => void): void
}

/** How long it may take to say what it has, and to take a configuration or to end. */
const ANSWER_MS = 5000
const FOLLOW_MS = 30_000

export class Elder implements Legacy {
  readonly overlays: Overlays
  readonly gone: Promise<void>
  readonly #link: Link<ElderCalls>
  readonly #desk: Desk
  readonly #plane: Plane
  #isThere = true
  #isGone: () => void = () => {}

  constructor(channel: ElderChannel, plane: Plane) {
    this.#plane = plane
    // Headers stay as they are over there.
    const guards = new GuardDesk(async () => {})
    const { rates } = plane
    const { settle, flushTimes } = plane
    this.#desk = new Desk({ plane, rates, guards, settle, flushTimes, pass: () => {} }, () => {})
    this.#link = new Link<ElderCalls>(channel, this.#desk)
    channel.listen(this.#link.receive, () => this.#closed())
    this.gone = new Promise(resolve => {
      this.#isGone = resolve
    })
    this.overlays = {
      list: async () => await this.askInTime(link => link.ask('overlays'), []),
      remove: async id => await this.#ask(link => link.ask('removeOverlay', id), 'unknown' as const),
      keep: async (id, isKept) => await this.askInTime(link => link.ask('keepOverlay', id, isKept), false),
    }
  }

  async prepareKnown(name: string, guest: Guest): Promise<Readied | undefined> {
    return await this.#ask(link => link.ask('prepareKnown', name, guest), undefined)
  }

  finish(conn: number): void {
    this.#link.tell('finish', conn)
  }

  /** It stops deciding; what its sessions have. @throws LinkClosedError */
  async yieldAll(): Promise<Estate> {
    const estate = await this.#link.ask('yieldAll')
    this.#desk.adopt(estate)
    return estate
  }

  /** This process decides, by this configuration; the sessions that were ended by it. @throws LinkClosedError */
  async takeOver(config: Config): Promise<readonly number[]> {
    await this.#link.ask('takenOver')
    return await this.commit(config)
  }

  async prepare(config: Config): Promise<void> {
    await within(this.#ask(link => link.ask('prepare', config), undefined))
  }

  async commit(config: Config): Promise<readonly number[]> {
    try {
      return await within(this.#ask(link => link.ask('commit', config), []))
    } catch (error) {
      // Nobody may be served by rules that are not in force any more.
      this.#plane.log.error({ err: error }, 'the process before this one does not follow')
      await this.stop()
      return []
    }
  }

  /** Ends it; one that does not answer is let go, which is its end too. Never rejects. */
  async stop(): Promise<void> {
    await within(this.#ask(link => link.ask('stop'), undefined)).catch(() => {})
  }

  /** Asks it as a floor is asked; nothing, once it has gone. */
  async ask<T>(ask: (link: Link<ElderCalls>) => Promise<T>, nothing: T): Promise<T> {
    return await this.#ask(ask, nothing)
  }

  /** The same, for those who can not wait for one that hangs. */
  async askInTime<T>(ask: (link: Link<ElderCalls>) => Promise<T>, nothing: T): Promise<T> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<T>(resolve => {
      timer = setTimeout(() => resolve(nothing), ANSWER_MS)
    })
    try {
      return await Promise.race([this.#ask(ask, nothing), late])
    } finally {
      clearTimeout(timer)
    }
  }

  /** Tells it something. */
  tell(tell: (link: Link<ElderCalls>) => void): void {
    tell(this.#link)
  }

  async #ask<T>(ask: (link: Link<ElderCalls>) => Promise<T>, nothing: T): Promise<T> {
    try {
      return await ask(this.#link)
    } catch (error) {
      if (error instanceof LinkClosedError) return nothing
      throw error
    }
  }

  #closed(): void {
    if (!this.#isThere) return
    this.#isThere = false
    this.#link.close()
    this.#desk.close()
    this.#plane.log.info({}, 'the process before this one has ended')
    this.#isGone()
  }
}

async function within<T>(answer: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('the process before this one does not answer')), FOLLOW_MS)
  })
  try {
    return await Promise.race([answer, late])
  } finally {
    clearTimeout(timer)
  }
}

/** A floor of this process, and the sessions of the one before it. */
export class FloorAndElder implements Floor {
  readonly #own: Floor
  readonly #elder: Elder

  constructor(own: Floor, elder: Elder) {
    this.#own = own
    this.#elder = elder
  }

  get doors(): readonly Door[] {
    return this.#own.doors
  }

  listeners(): ReadonlyMap<string, Listener> {
    return this.#own.listeners()
  }

  async begin(): Promise<void> {
    await this.#own.begin()
  }

  async release(): Promise<void> {
    await this.#own.release()
  }

  async apply(config: Config, commit: () => void): Promise<Changed> {
    await this.#elder.prepare(config)
    const { doors, ended } = await this.#own.apply(config, commit)
    return { doors, ended: [...ended, ...(await this.#elder.commit(config))] }
  }

  async follow(config: Config): Promise<void> {
    await Promise.all([this.#own.follow(config), this.#elder.askInTime(link => link.ask('follow', config), undefined)])
  }

  async sessions(): Promise<readonly SessionFacts[]> {
    const elders = this.#elder.askInTime(link => link.ask('sessions'), [])
    return [...(await elders), ...(await this.#own.sessions())].toSorted((a, b) => a.id - b.id)
  }

  async gather(): Promise<readonly (readonly MetricFamily[])[]> {
    const elders = this.#elder.askInTime(link => link.ask('gather'), [])
    return [...(await this.#own.gather()), ...(await elders)]
  }

  async traffic(): Promise<readonly (readonly ExportTraffic[])[]> {
    const elders = this.#elder.askInTime(link => link.ask('traffic'), [])
    return [...(await this.#own.traffic()), ...(await elders)]
  }

  async regions(name: string): Promise<readonly RegionFacts[]> {
    const elders = this.#elder.askInTime(link => link.ask('regions', name), [])
    return [...(await this.#own.regions(name)), ...(await elders)]
  }

  async explain(conn: number): Promise<SessionExplanation | undefined> {
    const own = await this.#own.explain(conn)
    return own ?? (await this.#elder.askInTime(link => link.ask('explain', conn), undefined))
  }

  async kick(conn: number): Promise<boolean> {
    return (await this.#own.kick(conn)) || (await this.#elder.askInTime(link => link.ask('kick', conn), false))
  }

  async retire(conns: readonly number[], why: string): Promise<void> {
    await Promise.all([
      this.#own.retire(conns, why),
      this.#elder.ask(link => link.ask('retire', conns, why), undefined),
    ])
  }

  async settle(conns: readonly number[]): Promise<void> {
    if (conns.length === 0) return
    await Promise.all([this.#own.settle(conns), this.#elder.ask(link => link.ask('settle', conns), undefined)])
  }

  async flushTimes(key: string, butConn: number): Promise<readonly FlushTimes[]> {
    // Who does not answer may have lost something.
    const unknown = [{ ackedMs: 0, flushedMs: 0, backMs: 0, lostMs: commonMs() }]
    const elders = this.#elder.askInTime(link => link.ask('flushTimes', key, butConn), unknown)
    return [...(await this.#own.flushTimes(key, butConn)), ...(await elders)]
  }

  cut(conns: readonly number[], why: string): void {
    this.#own.cut(conns, why)
    this.#elder.tell(link => link.tell('cut', conns, why))
  }

  extend(term: Term): void {
    this.#own.extend(term)
    this.#elder.tell(link => link.tell('extend', term))
  }

  endTerm(id: string, why: string): void {
    this.#own.endTerm(id, why)
    this.#elder.tell(link => link.tell('endTerm', id, why))
  }

  async close(): Promise<void> {
    this.#elder.tell(link => link.tell('drain'))
    await this.#own.close()
  }

  async ended(): Promise<void> {
    await Promise.all([this.#own.ended(), this.#elder.ask(link => link.ask('ended'), undefined)])
  }

  async shutDown(): Promise<void> {
    await Promise.all([this.#own.shutDown(), this.#elder.ask(link => link.ask('shutDown'), undefined)])
  }

  async stop(): Promise<void> {
    await Promise.all([this.#own.stop(), this.#elder.stop()])
  }
}
