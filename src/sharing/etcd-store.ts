/**
 * One gateway's life in etcd: it keeps a mirror of what is there, says again and again that it lives, and gives up others
 * that have not said so for as long as they said they would.
 *
 * Why nobody writes at the same time as who was given up: a heartbeat counts from before it is *sent*, for TTL less a
 * margin, on the clock of its gateway. Whoever gives it up has waited TTL since it *saw* that heartbeat, which was after it
 * was sent, on its own clock, and etcd takes the giving up only if no other heartbeat came in between. No clock is compared with
 * another, only the speed of two; and no leases of etcd are in it, which a new leader prolongs and a leader that hangs ends
 * too early (etcd's issues 9888 and 15247).
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { bootMs } from '../platform/libc.ts'
import { CompactedError, type EtcdClient, type TxnResult } from './etcd-client.ts'
import { type Compare, createdAt, put, remove, removeAll, type Step, writtenAt } from './etcd-messages.ts'
import { Mirror, type MirrorListener } from './etcd-mirror.ts'
import type { GatewayRecord, Keys, RequestRecord } from './etcd-records.ts'
import type { Term } from './fence.ts'

/** Heartbeats in a TTL, and looks at those of others. */
const BEATS = 5
const LOOKS = 20
const MAX_LOOK_MS = 200
/**
 * What the speed of two clocks may differ by, and what closing a connection may take. A process that has not closed them in the
 * first half of it is ended.
 */
const MARGIN = 0.1
const MIN_MARGIN_MS = 200
/** When etcd is asked again after it has failed: soon, and then less and less often. */
const RETRY_MS = 50
const MAX_RETRY_MS = 1000
/** etcd takes 128 steps in a transaction (--max-txn-ops). */
const MAX_STEPS = 100

/** A life of this gateway in etcd. */
export interface Life {
  readonly gateway: string
  /** The revision at which it began. */
  readonly began: number
  /** Lives as long as this. */
  term: Term
}

export interface StoreListener extends Omit<MirrorListener, 'answered' | 'garbage'> {
  /** The life lasts longer, and with it all leases. */
  extended(term: Term): void
  /** The life has ended; all leases have. */
  ended(life: Life, why: string): void
}

/** What is worth a line in the log. */
export interface StoreLog {
  warn(facts: Readonly<Record<string, unknown>>, message: string): void
  info(facts: Readonly<Record<string, unknown>>, message: string): void
  error(facts: Readonly<Record<string, unknown>>, message: string): void
}

export interface StoreOptions {
  readonly client: EtcdClient
  readonly keys: Keys
  readonly record: GatewayRecord
  readonly log: StoreLog
  readonly listener: StoreListener
}

export class EtcdStore {
  readonly mirror: Mirror
  readonly #options: StoreOptions
  readonly #closing = new AbortController()
  readonly #looks: NodeJS.Timeout
  #life: Life | undefined
  #isSynced = false
  #watching = new AbortController()
  #beat: { readonly revision: number; readonly atMs: number } | undefined
  #problem: unknown
  #failures = 0
  /** The heartbeat on which a gateway was tried to give up. */
  readonly #tried = new Map<string, number>()
  readonly #garbage = new Set<string>()
  #reached: { readonly revision: number; readonly resolve: () => void }[] = []
  readonly #questions = new Set<string>()
  readonly #loops: Promise<unknown>

  constructor(options: StoreOptions) {
    this.#options = options
    const { keys, listener, record } = options
    this.mirror = new Mirror(
      keys,
      { ...relayed(listener), answered: id => this.#questions.delete(id), garbage: key => this.#tellGarbage(key) },
      bootMs,
    )
    this.#looks = setInterval(() => this.#look(), Math.min(record.ttlMs / LOOKS, MAX_LOOK_MS))
    this.#loops = Promise.all([this.#follow(), this.#live()])
  }

  /** The life of now; undefined while there is none: nothing can be held then. */
  get life(): Life | undefined {
    this.#checkDeadline()
    return this.#life
  }

  /** Why there is no life. */
  get problem(): string {
    return this.#problem instanceof Error ? this.#problem.message : 'it has not answered yet'
  }

  get ttlMs(): number {
    return this.#options.record.ttlMs
  }

  get keys(): Keys {
    return this.#options.keys
  }

  /** All or nothing, and only while `life` lasts. @throws EtcdError */
  async txn(
    life: Life,
    compare: readonly Compare[],
    success: readonly Step[],
    failure: readonly Step[] = [],
  ): Promise<TxnResult> {
    const lives = createdAt(this.keys.gateway(life.gateway), life.began)
    return await this.#options.client.txn([lives, ...compare], success, failure)
  }

  /** Resolves when the mirror has all up to a revision, or after a bound; whether it has. */
  async reached(revision: number, boundMs = this.ttlMs): Promise<boolean> {
    if (this.mirror.revision >= revision) return true
    await new Promise<void>(resolve => {
      const done = (): void => {
        clearTimeout(timer)
        resolve()
      }
      const timer = setTimeout(done, boundMs)
      this.#reached.push({ revision, resolve: done })
    })
    return this.mirror.revision >= revision
  }

  /** Asks another gateway for something; how the question is called. @throws EtcdError */
  async ask(gateway: string, question: Omit<RequestRecord, 'version'>): Promise<string> {
    const id = randomBytes(8).toString('hex')
    this.#questions.add(id)
    await this.#options.client.txn(
      [],
      [put(this.keys.request(gateway, id), JSON.stringify({ version: 1, ...question }))],
    )
    return id
  }

  /** Whether it has not been answered yet. */
  isAsking(id: string): boolean {
    return this.#questions.has(id)
  }

  /** Answers a request, or takes it back. @throws EtcdError */
  async answer(gateway: string, id: string): Promise<void> {
    await this.#options.client.txn([], [remove(this.keys.request(gateway, id))])
  }

  /** Takes away what a life that has ended held; to be called when nothing of it can write any more. */
  async bury({ gateway }: Life): Promise<void> {
    const { revision } = await this.#options.client.txn([], this.#giveUpSteps(gateway))
    await this.#clean(gateway, revision)
  }

  /** Ends the life and all asking. What is still held is left to the others to take over. */
  async close(): Promise<void> {
    clearInterval(this.#looks)
    this.#closing.abort()
    this.#watching.abort()
    await this.#loops
    const life = this.#life
    this.#life = undefined
    try {
      if (life !== undefined) await this.txn(life, [], [remove(this.keys.gateway(life.gateway))])
    } catch {
      // It runs out by itself.
    }
    this.#options.client.close()
  }

  get #isClosed(): boolean {
    return this.#closing.signal.aborted
  }

  /** Keeps the mirror true. */
  async #follow(): Promise<void> {
    const { client, keys } = this.#options
    while (!this.#isClosed) {
      try {
        if (!this.#isSynced) {
          const { found, revision } = await client.all(keys.prefix)
          this.mirror.replace(found, revision)
          this.#isSynced = true
          this.#wake()
          void this.#cleanAll(revision)
        }
        this.#watching = new AbortController()
        await client.watch(
          keys.prefix,
          this.mirror.revision + 1,
          news => this.#news(news.events),
          this.#watching.signal,
        )
      } catch (error) {
        if (error instanceof CompactedError) this.#isSynced = false
        else if (!this.#isClosed) {
          this.#tellProblem(error)
          client.turn()
        }
        await this.#pause(this.#retryMs())
      }
    }
  }

  /** Begins a life, and again when one has ended; says that it goes on. */
  async #live(): Promise<void> {
    while (!this.#isClosed) {
      try {
        if (!this.#isSynced && this.#life === undefined) await this.#pause(RETRY_MS)
        else {
          await (this.#life === undefined ? this.#begin() : this.#goOn(this.#life))
          this.#tellFine()
          await this.#pause(this.ttlMs / BEATS)
        }
      } catch (error) {
        this.#tellProblem(error)
        await this.#pause(this.#retryMs())
      }
    }
  }

  async #begin(): Promise<void> {
    const gateway = randomBytes(8).toString('hex')
    const key = this.keys.gateway(gateway)
    const sentMs = bootMs()
    const answer = await this.#options.client.txn([createdAt(key, 0)], [put(key, JSON.stringify(this.#options.record))])
    const term = this.#term(gateway, sentMs)
    if (!answer.succeeded || bootMs() >= term.untilMs) return
    this.#beat = { revision: answer.revision, atMs: bootMs() }
    this.#life = { gateway, began: answer.revision, term }
    this.#options.log.info({ gateway, revision: answer.revision }, 'leases are kept in etcd')
  }

  async #goOn(life: Life): Promise<void> {
    const sentMs = bootMs()
    const key = this.keys.gateway(life.gateway)
    const answer = await this.txn(life, [], [put(key, JSON.stringify(this.#options.record))])
    // It may have ended while the question was out.
    if (this.life !== life) return
    if (!answer.succeeded) return this.#end('another gateway has given this one up, or its key was deleted')
    this.#beat = { revision: answer.revision, atMs: bootMs() }
    life.term = this.#term(life.term.id, sentMs)
    this.#options.listener.extended(life.term)
  }

  #term(id: string, sentMs: number): Term {
    const marginMs = Math.max(MIN_MARGIN_MS, this.ttlMs * MARGIN)
    const untilMs = sentMs + this.ttlMs - marginMs
    return { id, untilMs, goneMs: untilMs + marginMs / 2 }
  }

  #checkDeadline(): void {
    if (this.#life !== undefined && bootMs() >= this.#life.term.untilMs) this.#end('etcd was not reached in time')
  }

  #end(why: string): void {
    const life = this.#life
    if (life === undefined) return
    this.#life = undefined
    this.#options.log.error({ gateway: life.gateway, why }, 'leases lost')
    this.#options.listener.ended(life, why)
  }

  /** Looks for gateways that are silent, for time that has passed, and for a watch that says nothing. */
  #look(): void {
    this.#checkDeadline()
    const now = bootMs()
    for (const [gateway, { record, revision, seenMs }] of this.mirror.members) {
      if (gateway === this.#life?.gateway || record === undefined || now < seenMs + record.ttlMs) continue
      if (this.#tried.get(gateway) === revision) continue
      this.#tried.set(gateway, revision)
      void this.#giveUp(gateway, record, revision)
    }
    const changed = this.mirror.expire()
    if (changed.size > 0) this.#options.listener.changed(changed)
    const isDeaf = this.#beat !== undefined && this.mirror.revision < this.#beat.revision
    if (isDeaf && now > (this.#beat?.atMs ?? now) + this.ttlMs / BEATS) {
      this.#beat = undefined
      this.#watching.abort()
    }
  }

  async #giveUp(gateway: string, record: GatewayRecord, seen: number): Promise<void> {
    try {
      const { client, log } = this.#options
      const answer = await client.txn([writtenAt(this.keys.gateway(gateway), seen)], this.#giveUpSteps(gateway))
      if (!answer.succeeded) return
      log.warn({ gateway, name: record.name }, 'gateway given up')
      await this.#clean(gateway, answer.revision)
    } catch {
      // Another look tries it again.
      this.#tried.delete(gateway)
    }
  }

  #giveUpSteps(gateway: string): readonly Step[] {
    return [remove(this.keys.gateway(gateway)), put(this.keys.fenced(gateway), '{"version":1}')]
  }

  /** Takes away what a gateway held that was given up at a revision; it can not hold more any more. */
  async #clean(gateway: string, revision: number): Promise<void> {
    if (!(await this.reached(revision))) return
    const keys = this.mirror.holdKeys(gateway)
    for (let at = 0; at < keys.length; at += MAX_STEPS) {
      await this.#options.client.txn([], keys.slice(at, at + MAX_STEPS).map(remove))
    }
    await this.#options.client.txn([], [removeAll(this.keys.requestsOf(gateway)), remove(this.keys.fenced(gateway))])
  }

  async #cleanAll(revision: number): Promise<void> {
    for (const gateway of [...this.mirror.fenced]) await this.#clean(gateway, revision).catch(() => {})
  }

  #news(events: Parameters<Mirror['apply']>[0]): void {
    this.mirror.apply(events)
    for (const { key, isGone } of events) {
      const facts = this.keys.factsOf(key)
      if (isGone && facts.kind === 'gateway' && facts.gateway === this.#life?.gateway) {
        this.#end('another gateway has given this one up, or its key was deleted')
      }
    }
    this.#wake()
  }

  #wake(): void {
    const { revision } = this.mirror
    for (const each of this.#reached.filter(each => each.revision <= revision)) each.resolve()
    this.#reached = this.#reached.filter(each => each.revision > revision)
  }

  async #pause(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: this.#closing.signal }).catch(() => {})
  }

  #retryMs(): number {
    return Math.min(RETRY_MS * 2 ** this.#failures, MAX_RETRY_MS, this.ttlMs / BEATS)
  }

  #tellProblem(error: unknown): void {
    this.#failures++
    const isNew = this.#problem === undefined || codeOf(error) !== codeOf(this.#problem)
    this.#problem = error
    if (isNew) this.#options.log.error({ err: error }, 'etcd can not be used')
  }

  #tellFine(): void {
    this.#failures = 0
    if (this.#problem !== undefined) this.#options.log.info({}, 'etcd can be used again')
    this.#problem = undefined
  }

  #tellGarbage(key: string): void {
    if (this.#garbage.size > 1000 || this.#garbage.has(key)) return
    this.#garbage.add(key)
    this.#options.log.error({ key }, 'a key in etcd that no gateway writes')
  }
}

function relayed(listener: StoreListener): Omit<MirrorListener, 'answered' | 'garbage'> {
  return {
    changed: exports => listener.changed(exports),
    requested: (gateway, id, value) => listener.requested(gateway, id, value),
    gatewayGone: gateway => listener.gatewayGone(gateway),
    holdGone: (name, gateway) => listener.holdGone(name, gateway),
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : error
}
