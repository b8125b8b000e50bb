/**
 * A worker: the process in which sessions run where there are several. It gets its configuration, its connections and its end from
 * the main process, and asks it for all that is counted or shared; TLS, SSH, haggling, dialling and relaying are done here.
 */
import type { Socket } from 'node:net'
import type { SessionExplanation, SessionFacts } from '../admin/managed.ts'
import type { Config } from '../config/config.ts'
import type { Accepted, RoomReception } from '../doors/door.ts'
import { type Log, logLines } from '../observe/log.ts'
import type { MetricFamily } from '../observe/metric-family.ts'
import type { RegionFacts } from '../observe/region-counts.ts'
import type { ExportTraffic } from '../observe/session-meters.ts'
import { Telemetry } from '../observe/telemetry.ts'
import { rightsClock } from '../platform/rights-clock.ts'
import type { FlushTimes } from '../relay/keep.ts'
import { Fences, type Term } from '../sharing/fence.ts'
import { MemoryLeases } from '../sharing/memory-leases.ts'
import { DialQueue } from '../upstreams/dial-queue.ts'
import { boundFloods } from './bounded-log.ts'
import type { MainCalls, WorkerCalls, WorkerStart } from './calls.ts'
import { createControl } from './control.ts'
import { DrawnBudget } from './drawn-budget.ts'
import { Link } from './link.ts'
import { roomsHere } from './prepared-door.ts'
import { ProcessMemory } from './process-memory.ts'
import { RateBook } from './rates.ts'
import { type Frozen, type RemoteGuard, remoteGuards } from './remote-guards.ts'
import { remoteAudit, remoteControl, remotePreparing } from './remote-plane.ts'
import { RoomSet } from './room-set.ts'
import { SessionBook } from './session-book.ts'

/** The main process decides when a worker ends: a signal to the whole group reaches both. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Serves the process that has started this one, until that lets go of it. @throws TypeError if there is none */
export async function runWorker(): Promise<void> {
  if (process.send === undefined) throw new TypeError('a worker is started by the gateway')
  for (const signal of SIGNALS) process.on(signal, () => {})
  // What can not be sent any more is not missed: the end of the channel is the end of this process.
  const channel = { send: (message: object): void => void process.send?.(message, undefined, {}, () => {}) }
  const link: Link<MainCalls> = new Link(channel, new Worker(() => link))
  process.on('message', link.receive)
  await new Promise<void>(resolve => process.once('disconnect', resolve))
  // Whatever its sessions are doing: nobody is there any more who counts and writes down what they do.
  process.exit(0)
}

/** What a worker has once it was started. */
interface Running {
  readonly book: SessionBook
  readonly rooms: RoomSet
  readonly memory: ProcessMemory
  /** Puts a configuration into force. */
  readonly replace: (config: Config) => void
}

class Worker implements WorkerCalls {
  readonly #link: () => Link<MainCalls>
  readonly #guards = new Map<number, RemoteGuard>()
  readonly #frozen: Frozen = { isOn: false }
  readonly #telemetry = new Telemetry()
  readonly #fences = new Fences()
  /** Numbers of connections that have a place and are no sessions yet. */
  readonly #numbers: number[] = []
  #config: Config | undefined
  #running: Running | undefined
  #prepared: (() => void) | undefined

  constructor(link: () => Link<MainCalls>) {
    this.#link = link
  }

  start({ config, worker, workers, isDraining }: WorkerStart): void {
    this.#config = config
    this.#running = this.#run(config, workers, worker === 1)
    this.prepare(config)
    this.#prepared?.()
    if (isDraining) this.drain()
  }

  arrive(place: string, conn: number, { ends, isBalancer }: Omit<Accepted, 'socket'>, socket?: Socket): void {
    const link = this.#link()
    link.tell('received')
    const address = isBalancer ? undefined : ends?.source.address
    if (socket === undefined) {
      link.tell('left', address, false, place)
      return
    }
    // As listen() makes them in one process: a client may end its direction and still wants the replies.
    socket.allowHalfOpen = true
    socket.on('error', () => {})
    this.#numbers.push(conn)
    if (this.#running?.rooms.take(place, { socket, ends, isBalancer }) === true) return
    socket.destroy()
    this.#left(address, false, place)
  }

  prepare(config: Config): void {
    const { rooms, replace, memory } = this.#here
    // Throws for rules that can not be compiled, before anything changes.
    createControl(config, new MemoryLeases())
    const open = rooms.prepare(config.doors, config.limits.negotiationMs)
    this.#prepared = () => {
      rightsClock.follow()
      this.#config = config
      this.#telemetry.retain(config.exports)
      replace(config)
      memory.follow(config.limits)
      open()
    }
  }

  replace(config: Config): void {
    this.#config = config
    this.#telemetry.retain(config.exports)
    this.#here.replace(config)
  }

  async commit(): Promise<readonly number[]> {
    this.#prepared?.()
    this.#prepared = undefined
    return await this.#here.book.recheck()
  }

  families(): readonly MetricFamily[] {
    return [...this.#telemetry.families(), ...(this.#running?.memory.families() ?? [])]
  }

  traffic(): readonly ExportTraffic[] {
    return this.#telemetry.meters.traffic()
  }

  regions(name: string): RegionFacts | undefined {
    return this.#telemetry.meters.regions(name)
  }

  sessions(): readonly SessionFacts[] {
    return this.#here.book.facts()
  }

  async explain(conn: number): Promise<SessionExplanation | undefined> {
    return await this.#here.book.explain(conn)
  }

  kick(conn: number): boolean {
    return this.#here.book.kick(conn)
  }

  async retire(conns: readonly number[], why: string): Promise<void> {
    await this.#here.book.retire(conns, why)
  }

  async settle(conns: readonly number[]): Promise<void> {
    await this.#here.book.settle(conns)
  }

  flushTimes(key: string, butConn: number): readonly FlushTimes[] {
    return this.#here.book.flushTimes(key, butConn)
  }

  cut(conns: readonly number[], why: string): void {
    this.#here.book.cut(conns, why)
  }

  extend(term: Term): void {
    this.#fences.extend(term)
  }

  endTerm(id: string, why: string): void {
    this.#fences.end(id, why)
  }

  yieldLock(conn: number): void {
    this.#guards.get(conn)?.yieldLock()
  }

  freeze(): void {
    this.#frozen.isOn = true
  }

  drain(): void {
    this.#here.book.drain()
    this.#here.rooms.close()
  }

  async ended(): Promise<void> {
    await this.#here.book.ended()
  }

  async shutDown(): Promise<void> {
    await this.#here.book.shutDown()
  }

  async stop(): Promise<void> {
    this.#here.rooms.close()
    await this.#here.book.stop()
  }

  get #here(): Running {
    if (this.#running === undefined) throw new TypeError('the worker was not started')
    return this.#running
  }

  #run(config: Config, workers: number, isFirst: boolean): Running {
    const link = this.#link()
    const telemetry = this.#telemetry
    const log = boundFloods(telemetry.hear(logLines(config.log.level, { write: line => link.tell('log', line) })))
    telemetry.events.listen(event => link.tell('event', event))
    const policy = createControl(config, new MemoryLeases(), each => link.ask('seek', each))
    const shared = {
      control: remoteControl(policy, link),
      audit: remoteAudit(link, config.audit !== undefined),
      preparing: remotePreparing(link),
      dials: new DialQueue(workers),
      rates: new RateBook(
        (name, perSecond) => new DrawnBudget(perSecond, (rate, count) => link.ask('draw', name, rate, count)),
      ),
      log,
      meters: telemetry.meters,
      fences: this.#fences,
      settle: (conns: readonly number[]) => link.ask('settle', conns),
    }
    const memory = new ProcessMemory(workers)
    const book = new SessionBook(
      conn => ({
        ...shared,
        flushTimes: key => link.ask('flushTimes', key, conn),
        guards: remoteGuards({ link, conn, frozen: this.#frozen }, this.#guards),
        limits: this.#limits,
        memory: memory.session(this.#limits),
      }),
      {
        entered: () => link.tell('entered'),
        left: (address, hasEntered, door) => link.tell('left', address, hasEntered, door),
        charge: (address, offence) => link.tell('charge', address, offence),
      },
    )
    // What is wrong with a file is said once, not by each worker.
    const rooms = new RoomSet(
      roomsHere(place => this.#reception(book, log, place)),
      isFirst ? log : quiet(log),
    )
    return { book, rooms, memory, replace: next => void policy.replace(next) }
  }

  get #limits(): Config['limits'] {
    if (this.#config === undefined) throw new TypeError('the worker was not started')
    return this.#config.limits
  }

  #reception(book: SessionBook, log: Log, door: string): RoomReception {
    const vanishedMs = (): number => this.#config?.leases.vanishedMs ?? 0
    return {
      get vanishedMs() {
        return vanishedMs()
      },
      admit: async address => {
        const answer = await this.#link().ask('admit', address, door)
        if (typeof answer !== 'number') return answer
        this.#numbers.push(answer)
        return undefined
      },
      known: () => this.#link().tell('entered'),
      left: (address, wasKnown) => this.#left(address, wasKnown, door),
      charge: (address, offence) => this.#link().tell('charge', address, offence),
      enter: visitor => {
        const conn = this.#numbers.shift()
        if (conn === undefined) throw new TypeError('a visitor without a place')
        book.enter(visitor, conn, door)
      },
      turnedAway: (peer, reason, facts) => log.warn({ peer, reason, ...facts }, 'turned away'),
      failed: error => log.error({ err: error }, 'door failed'),
    }
  }

  #left(address: string | undefined, wasKnown: boolean, door: string): void {
    this.#numbers.pop()
    this.#link().tell('left', address, wasKnown, door)
  }
}

/** For what the main process or another worker says already. */
const SAID_ELSEWHERE = ['key material', 'ssh key file']

function quiet(log: Log): Log {
  return {
    debug: (facts, message) => log.debug(facts, message),
    info: (facts, message) => log.info(facts, message),
    warn: (facts, message) => {
      if (!SAID_ELSEWHERE.includes(message)) log.warn(facts, message)
    },
    error: (facts, message) => log.error(facts, message),
  }
}
