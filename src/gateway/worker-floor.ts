/**
 * Sessions in workers: one process each, so that TLS and relaying have all cores. The gates are here, in the main process; a
 * connection that has passed one is handed to the worker that has the fewest, before a byte of it is read. A worker that dies takes
 * its own sessions along, and another one takes its place.
 */
import type { SessionExplanation, SessionFacts } from '../admin/managed.ts'
import type { Config } from '../config/config.ts'
import type { Accepted, Door, GateReception } from '../doors/door.ts'
import type { Listener } from '../doors/listen.ts'
import type { MetricFamily } from '../observe/metric-family.ts'
import type { RegionFacts } from '../observe/region-counts.ts'
import type { ExportTraffic } from '../observe/session-meters.ts'
import { commonMs, type FlushTimes } from '../relay/keep.ts'
import type { Term } from '../sharing/fence.ts'
import { boundFloods } from './bounded-log.ts'
import { DoorSet } from './door-set.ts'
import type { Changed, Floor, Plane } from './floor.ts'
import { GuardDesk } from './guard-desk.ts'
import { LastCounts } from './last-counts.ts'
import { LinkClosedError } from './link.ts'
import { roomsElsewhere } from './prepared-door.ts'
import { addressOf, type WorkerEnd, WorkerProcess } from './worker-process.ts'

/** What workers run, and where their log lines go. */
export interface WorkerProgram {
  /** A program that calls `runWorker` when its command is `worker`. */
  readonly entry: string
  pass(lines: string): void
}

/** How long the gateway waits before it starts another worker in place of one that has died; doubled each time it dies young. */
const FIRST_PAUSE_MS = 100
const LONGEST_PAUSE_MS = 10_000
const GROWN_UP_MS = 10_000

/** How long a worker may take to say what it has. */
const ANSWER_MS = 2000

export class WorkerFloor implements Floor {
  readonly #plane: Plane
  readonly #program: WorkerProgram
  readonly #doorSet: DoorSet
  readonly #count: number
  readonly #guards: GuardDesk
  /** By their numbers; one that has died is missing until there is another. */
  readonly #workers = new Map<number, WorkerProcess>()
  readonly #counts = new LastCounts()
  #turn = 0
  #hasApplied = false
  #isDraining = false
  #isStopping = false

  constructor(plane: Plane, count: number, program: WorkerProgram) {
    const { limits } = plane
    const log = boundFloods(plane.log)
    this.#plane = plane
    this.#program = program
    this.#count = count
    this.#guards = new GuardDesk(async conn => {
      await this.#all(worker => worker.link.ask('yieldLock', conn))
    })
    const receptionAt = (door: string): GateReception => ({
      admit: address => limits.admit(address, door),
      turnedAway: (peer, reason, facts) => log.warn({ peer, reason, ...facts }, 'turned away'),
      failed: error => log.error({ err: error }, 'door failed'),
    })
    const rooms = roomsElsewhere((place, accepted) => this.#handOver(place, accepted))
    this.#doorSet = new DoorSet({ receptionAt, rooms, log, handed: plane.handed })
  }

  get doors(): readonly Door[] {
    return this.#doorSet.doors
  }

  async begin(): Promise<void> {
    const numbers = Array.from({ length: this.#count }, (_, index) => index + 1)
    await Promise.all(numbers.map(number => this.#start(number, FIRST_PAUSE_MS)))
  }

  listeners(): ReadonlyMap<string, Listener> {
    return this.#doorSet.listeners()
  }

  async release(): Promise<void> {
    for (const { link } of this.#workers.values()) link.tell('freeze')
    await this.#doorSet.release()
  }

  async apply(config: Config, commit: () => void): Promise<Changed> {
    // What they were started with is in force until the doors are open.
    const isFirst = !this.#hasApplied
    const prepared = isFirst ? new Set(this.#workers.values()) : await this.#prepareAll(config)
    this.#hasApplied = true
    let rechecked: Promise<readonly (readonly number[])[]> | undefined
    const doors = await this.#doorSet.apply(config.doors, config.limits.negotiationMs, () => {
      commit()
      if (!isFirst) rechecked = this.#all(worker => this.#commit(worker, config, prepared))
    })
    return { doors, ended: ((await rechecked) ?? []).flat() }
  }

  async follow(config: Config): Promise<void> {
    await this.#all(({ link }) => inTime(link.ask('replace', config), undefined))
  }

  async sessions(): Promise<readonly SessionFacts[]> {
    const found = await this.#all(async ({ link, worker }) => {
      const sessions = await inTime(link.ask('sessions'), [])
      return sessions.map(facts => ({ ...facts, worker }))
    })
    return found.flat().toSorted((a, b) => a.id - b.id)
  }

  async gather(): Promise<readonly (readonly MetricFamily[])[]> {
    const workers = await this.#all(async ({ link, worker }) =>
      this.#counts.heard(worker, await inTime(link.ask('families'), [])),
    )
    return [this.#plane.telemetry.families(), ...workers, this.#counts.gone()]
  }

  async traffic(): Promise<readonly (readonly ExportTraffic[])[]> {
    return await this.#all(({ link }) => inTime(link.ask('traffic'), []))
  }

  async regions(name: string): Promise<readonly RegionFacts[]> {
    const found = await this.#all(({ link }) => inTime(link.ask('regions', name), undefined))
    return found.filter(each => each !== undefined)
  }

  async explain(conn: number): Promise<SessionExplanation | undefined> {
    const found = await this.#all(({ link }) => inTime(link.ask('explain', conn), undefined))
    return found.find(each => each !== undefined)
  }

  async kick(conn: number): Promise<boolean> {
    const known = await this.#all(({ link }) => inTime(link.ask('kick', conn), false))
    return known.includes(true)
  }

  async retire(conns: readonly number[], why: string): Promise<void> {
    await this.#all(({ link }) => link.ask('retire', conns, why))
  }

  async settle(conns: readonly number[]): Promise<void> {
    if (conns.length > 0) await this.#all(({ link }) => link.ask('settle', conns))
  }

  async flushTimes(key: string, butConn: number): Promise<readonly FlushTimes[]> {
    // Who does not answer may have lost something.
    const unknown = [{ ackedMs: 0, flushedMs: 0, backMs: 0, lostMs: commonMs() }]
    return (await this.#all(({ link }) => inTime(link.ask('flushTimes', key, butConn), unknown))).flat()
  }

  cut(conns: readonly number[], why: string): void {
    for (const { link } of this.#workers.values()) link.tell('cut', conns, why)
  }

  extend(term: Term): void {
    for (const { link } of this.#workers.values()) link.tell('extend', term)
  }

  endTerm(id: string, why: string): void {
    for (const { link } of this.#workers.values()) link.tell('endTerm', id, why)
  }

  async close(): Promise<void> {
    this.#isDraining = true
    await this.#doorSet.close()
    for (const { link } of this.#workers.values()) link.tell('drain')
  }

  async ended(): Promise<void> {
    await this.#all(({ link }) => link.ask('ended'))
  }

  async shutDown(): Promise<void> {
    await this.#all(({ link }) => link.ask('shutDown'))
  }

  async stop(): Promise<void> {
    this.#isDraining = true
    this.#isStopping = true
    await this.#doorSet.close()
    await Promise.all([...this.#workers.values()].map(worker => worker.stop()))
  }

  /** The one with the fewest connections; where several have as few, they take turns. */
  #handOver(place: string, accepted: Accepted): void {
    const workers = [...this.#workers.values()]
    const ready = workers.filter(({ isReady }) => isReady)
    const able = ready.length > 0 ? ready : workers
    const least = Math.min(...able.map(({ load }) => load))
    const free = able.filter(({ load }) => load === least)
    const worker = free[this.#turn++ % free.length]
    if (worker !== undefined) {
      worker.give({ ...accepted, place, conn: this.#plane.number() })
      return
    }
    accepted.socket.destroy()
    this.#plane.limits.leave(addressOf(accepted), false, place)
  }

  /** Starts a worker; resolves when it is ready. `pauseMs`: before the next one, should this one die young. */
  async #start(number: number, pauseMs: number): Promise<void> {
    const plane = this.#plane
    const shared = {
      plane,
      rates: plane.rates,
      guards: this.#guards,
      settle: (conns: readonly number[]) => plane.settle(conns),
      flushTimes: (key: string, butConn: number) => plane.flushTimes(key, butConn),
      pass: this.#program.pass,
    }
    const worker = new WorkerProcess(this.#program.entry, number, shared)
    const begin = performance.now()
    this.#workers.set(number, worker)
    void worker.ended.then(end => {
      const isYoung = performance.now() - begin < GROWN_UP_MS
      this.#ended(worker, end, isYoung ? pauseMs : FIRST_PAUSE_MS)
    })
    try {
      const rest = { worker: number, workers: this.#count, isDraining: this.#isDraining }
      await worker.start({ config: plane.config(), ...rest })
    } catch (error) {
      worker.kill()
      throw error
    }
    plane.log.info({ worker: number, pid: worker.pid }, 'worker ready')
  }

  #ended(worker: WorkerProcess, end: WorkerEnd, pauseMs: number): void {
    if (this.#isStopping) return
    const { worker: number, pid } = worker
    this.#workers.delete(number)
    this.#counts.died(number)
    this.#plane.log.error({ worker: number, pid, ...end, againInMs: pauseMs }, 'worker died')
    setTimeout(() => void this.#startAgain(number, Math.min(2 * pauseMs, LONGEST_PAUSE_MS)), pauseMs)
  }

  /** Never rejects. */
  async #startAgain(number: number, pauseMs: number): Promise<void> {
    if (this.#isStopping) return
    try {
      await this.#start(number, pauseMs)
    } catch (error) {
      // It is tried again, after its end.
      this.#plane.log.error({ worker: number, err: error }, 'worker does not start')
    }
  }

  /** All that are there load a configuration. Rejects if one of them can not. */
  async #prepareAll(config: Config): Promise<ReadonlySet<WorkerProcess>> {
    const prepared = await this.#all(async worker => {
      await worker.prepare(config)
      return worker
    })
    return new Set(prepared)
  }

  async #commit(
    worker: WorkerProcess,
    config: Config,
    prepared: ReadonlySet<WorkerProcess>,
  ): Promise<readonly number[]> {
    try {
      // It has been started since, with what was in force then.
      if (!prepared.has(worker)) await worker.prepare(config)
      return await worker.link.ask('commit')
    } catch (error) {
      // The others have it by now. Nobody may be served by rules that are not in force any more.
      this.#plane.log.error({ worker: worker.worker, err: error }, 'worker does not follow')
      worker.kill()
      return []
    }
  }

  /** Asks all workers; what was asked of one that dies meanwhile is left out. */
  async #all<T>(ask: (worker: WorkerProcess) => Promise<T>): Promise<readonly T[]> {
    const asked = [...this.#workers.values()].map(async worker => {
      try {
        return [await ask(worker)]
      } catch (error) {
        if (error instanceof LinkClosedError) return []
        throw error
      }
    })
    return (await Promise.all(asked)).flat(1) as readonly T[]
  }
}

/** The answer, or something else if it does not come in time. */
async function inTime<T>(answer: Promise<T>, late: T): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const timedOut = new Promise<T>(resolve => {
    timer = setTimeout(() => resolve(late), ANSWER_MS)
  })
  try {
    return await Promise.race([answer, timedOut])
  } finally {
    clearTimeout(timer)
  }
}
