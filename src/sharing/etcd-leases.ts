/**
 * Leases of several gateways, kept in etcd. Among its own sessions a gateway decides in its memory, as one that is alone
 * does; then it asks etcd for the export, once for all sessions of a holder. What excludes nobody is not asked for.
 *
 * An export has one key for each gateway that holds it. A gateway writes its own only if none of the export's keys has
 * changed since it looked, and while it lives itself (etcd-store.ts).
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { SharingMode } from '../config/config.ts'
import { bootMs } from '../platform/libc.ts'
import { put, remove, revisionsOf, unwrittenSince, writtenAt } from './etcd-messages.ts'
import { type HoldRecord, type HoldsRecord, parseRequest, type RequestRecord } from './etcd-records.ts'
import { holdsOf, type Known, KnownSessions } from './etcd-sessions.ts'
import { EtcdStore, type Life, type StoreOptions } from './etcd-store.ts'
import type { Term } from './fence.ts'
import type { Claim, ClaimAnswer, Lease, LeaseListener, Leases, Misfit, Patience, Waiter } from './leases.ts'
import { MemoryLeases } from './memory-leases.ts'
import { canShare, excludes } from './modes.ts'
import { Turns } from './turns.ts'

/** How often a key is tried to write that others write as well. */
const TRIES = 20
/** Longer than another gateway takes to settle or end its sessions, or to be given up beyond its TTL. */
const ANSWER_MS = 20_000
/** When somebody patient asks again whom etcd could not answer. */
const RETRY_MS = 200
/** How long etcd may take until the others know this gateway, and how often it is looked whether they do. */
const BEGUN_MS = 5000
const BEGUN_LOOK_MS = 20
/** Exports that are asked for at once: heartbeats must get through. */
const MAX_EXPORTS = 16
/** Dead keys that are taken away with a transaction: etcd takes 128 steps. */
const MAX_DEAD = 100

type Taken = Exclude<ClaimAnswer, { kind: 'held' }> | { readonly kind: 'held'; readonly known: Known }

export interface EtcdLeasesOptions extends Omit<StoreOptions, 'listener'> {
  readonly listener: LeaseListener
}

export class EtcdLeases implements Leases {
  readonly #local = new MemoryLeases()
  readonly #store: EtcdStore
  readonly #listener: LeaseListener
  readonly #name: string
  readonly #known = new KnownSessions()
  /** Sessions that have a place here and wait for one in etcd. */
  readonly #asking = new Map<number, Waiter>()
  readonly #turns = new Turns(MAX_EXPORTS)
  /** Exports of which etcd may have more than there is. */
  readonly #stale = new Set<string>()
  /** Ended lives of which sessions or keys are left. */
  readonly #past = new Set<Life>()
  readonly #waits = new Set<() => void>()
  #modeOf: (name: string) => SharingMode | undefined = () => undefined
  #isDismissed = false

  constructor({ listener, ...options }: EtcdLeasesOptions) {
    this.#listener = listener
    this.#name = options.record.name
    this.#store = new EtcdStore({
      ...options,
      listener: {
        changed: () => this.#wake(),
        requested: (gateway, id, value) => this.#requested(gateway, id, value),
        gatewayGone: () => {},
        holdGone: (name, gateway) => this.#holdGone(name, gateway),
        extended: term => this.#extended(term),
        ended: (life, why) => this.#ended(life, why),
      },
    })
  }

  async acquire(claim: Claim, patience: Patience): Promise<ClaimAnswer> {
    const untilMs = bootMs() + patience.ms
    const answer = await this.#local.acquire(claim, patience)
    if (answer.kind !== 'held' || !this.#needsEtcd(claim)) return answer
    this.#asking.set(claim.session, { claim, sinceMs: Date.now() })
    const taken = await this.#takeInTime(claim, untilMs, patience.signal).finally(() => {
      this.#asking.delete(claim.session)
    })
    if (taken.kind !== 'held') {
      this.#local.release(claim.session)
      return taken
    }
    const { life, epoch } = taken.known
    return { ...answer, term: life.term, epoch }
  }

  async begun(): Promise<void> {
    const end = performance.now() + BEGUN_MS
    while (this.#store.life === undefined && performance.now() < end) await delay(BEGUN_LOOK_MS)
  }

  /** The other process holds it in etcd as long as its session lasts: this one is another gateway to it. */
  restore(): void {}

  async look(claim: Claim): Promise<ClaimAnswer> {
    const answer = await this.#local.look(claim)
    if (answer.kind !== 'held' || !this.#needsEtcd(claim)) return answer
    if (this.#store.life === undefined) return this.#unavailable()
    const by = this.#rival(claim)
    return by === undefined ? answer : { kind: 'busy', by }
  }

  leaving(session: number): void {
    this.#local.leaving(session)
  }

  release(session: number): void {
    const known = this.#known.remove(session)
    this.#local.release(session)
    if (known === undefined) return
    if (known.life === this.#store.life) void this.#giveBack(known.claim.export)
    else void this.#bury(known.life)
  }

  dismiss(): void {
    this.#isDismissed = true
    this.#local.dismiss()
    this.#wake()
  }

  list(): readonly Lease[] {
    const own = this.#local.list().flatMap(lease => {
      const sessions = lease.sessions.filter(session => !this.#asking.has(session))
      return sessions.length === 0 ? [] : [{ ...lease, sessions }]
    })
    return [...own, ...this.#elsewhere().map(({ lease }) => lease)].toSorted((a, b) => a.sinceMs - b.sinceMs)
  }

  waiting(): readonly Waiter[] {
    return [...this.#local.waiting(), ...this.#asking.values()].toSorted((a, b) => a.sinceMs - b.sinceMs)
  }

  adopt(modeOf: (name: string) => SharingMode | undefined): readonly Misfit[] {
    this.#modeOf = modeOf
    const misfits = this.#local.adopt(modeOf)
    // What etcd was not asked for has nothing that ends in time: it comes again, and is asked for.
    const gone = new Set(misfits.map(({ session }) => session))
    const loose = this.#local.list().flatMap(lease => (excludes(lease.mode, lease.access) ? lease.sessions : []))
    const strangers = loose.filter(each => !gone.has(each) && !this.#known.has(each) && !this.#asking.has(each))
    if (strangers.length > 0) this.#listener.lost(strangers, 'sharing has changed, and asks for a lease now')
    this.#wake()
    return misfits
  }

  async evict(isMeant: (name: string) => boolean, who: string | undefined): Promise<number> {
    const meant = this.#elsewhere().filter(
      ({ lease }) => isMeant(lease.export) && (who === undefined || lease.who === who),
    )
    const done = await Promise.all(
      meant.map(({ gateway, lease }) => this.#askFor('release', gateway, lease.export, lease.holder)),
    )
    if (done.includes(false)) throw new Error('another gateway has not let go of it in time')
    return meant.length
  }

  async close(): Promise<void> {
    await this.#turns.idle()
    await this.#store.close()
  }

  #needsEtcd({ export: name, mode, access }: Claim): boolean {
    return excludes(this.#modeOf(name) ?? mode, access)
  }

  async #takeInTime(claim: Claim, untilMs: number, signal: AbortSignal): Promise<Taken> {
    for (;;) {
      const taken = await this.#turns
        .run(claim.export, () => this.#take(claim))
        .catch((error: unknown) => this.#failed(claim, error))
      if (taken.kind === 'held') return await this.#settled(taken)
      const leftMs = untilMs - bootMs()
      if (leftMs <= 0 || signal.aborted || this.#isDismissed) return taken
      if (taken.kind === 'unavailable') await this.#until(() => this.#isDismissed, Math.min(leftMs, RETRY_MS), signal)
      else await this.#until(() => this.#isDismissed || this.#rival(claim) === undefined, leftMs, signal)
    }
  }

  /** Asks etcd for an export, unless the holder has it here already. @throws EtcdError when it may have got it or not */
  async #take(asked: Claim): Promise<Taken> {
    const claim = { ...asked, mode: this.#modeOf(asked.export) ?? asked.mode }
    const { keys, mirror } = this.#store
    for (let attempt = 0; attempt < TRIES; attempt++) {
      const { life } = this.#store
      if (life === undefined) return this.#unavailable()
      const joined = this.#known
        .holding(claim.export, life)
        .find(
          ({ claim: { holder, access } }) => holder === claim.holder && (access === 'write' || claim.access === 'read'),
        )
      const by = this.#rival(claim)
      if (by !== undefined) return { kind: 'busy', by }
      const own = keys.holds(claim.export, life.gateway)
      const record = this.#recordOf([...this.#known.holding(claim.export, life), { claim, sinceMs: Date.now() }])
      const dead = mirror.deadHolds(claim.export).filter(key => key !== own)
      const unchanged = unwrittenSince(keys.holdsOf(claim.export), mirror.revision)
      // Who joins changes nothing, and has to know all the same whether it is alone.
      const steps = joined ? [] : [put(own, JSON.stringify(record)), ...dead.slice(0, MAX_DEAD).map(remove)]
      const answer = await this.#store.txn(life, [unchanged], steps, [revisionsOf(keys.holdsOf(claim.export))])
      if (this.#store.life !== life) return this.#unavailable()
      if (answer.succeeded)
        return { kind: 'held', known: this.#known.add(claim, life, joined?.epoch ?? answer.revision) }
      const latest = Math.max(0, ...answer.found.map(({ modRevision }) => modRevision))
      if (!(await this.#store.reached(latest))) return this.#unavailable()
    }
    return this.#unavailable()
  }

  /** Waits until nothing that the holder has written through other gateways can still land. */
  async #settled(taken: Taken & { kind: 'held' }): Promise<Taken> {
    const { claim, life } = taken.known
    const past = new Set([...this.#past].map(({ gateway }) => gateway))
    const others = this.#store.mirror.holdsOf(claim.export).filter(({ gateway, record }) => {
      const isOther = gateway !== life.gateway && !past.has(gateway)
      return (
        isOther && record?.holds.some(({ holder, access }) => holder === claim.holder && access === 'write') === true
      )
    })
    const settle = others.map(({ gateway }) => this.#askFor('settle', gateway, claim.export, claim.holder))
    const areSettled = (await Promise.all(settle)).every(isDone => isDone)
    if (areSettled && this.#store.life === life && !taken.known.isLost) return taken
    this.#known.remove(claim.session)
    void this.#giveBack(claim.export)
    return this.#unavailable()
  }

  /** Has another gateway do something about a holder; whether it has, or does not hold it any more. */
  async #askFor(kind: RequestRecord['kind'], gateway: string, name: string, holder: string): Promise<boolean> {
    try {
      const id = await this.#store.ask(gateway, { kind, export: name, holder })
      const holds = (): boolean => {
        const own = this.#store.mirror.holdsOf(name).find(each => each.gateway === gateway)
        return own !== undefined && own.record?.holds.some(each => each.holder === holder) !== false
      }
      const isDone = (): boolean => !this.#store.isAsking(id) || !holds()
      await this.#until(isDone, this.#store.ttlMs + ANSWER_MS)
      if (this.#store.isAsking(id)) await this.#store.answer(gateway, id)
      return isDone()
    } catch {
      return false
    }
  }

  #requested(gateway: string, id: string, value: string): void {
    if (gateway !== this.#store.life?.gateway) return
    const request = parseRequest(value)
    const meant = this.#known.of(request?.export ?? '').filter(({ claim }) => claim.holder === request?.holder)
    const sessions = meant.map(({ claim }) => claim.session)
    const done = request === undefined ? Promise.resolve() : this.#carryOut(request, sessions)
    void done.then(async () => await this.#store.answer(gateway, id)).catch(() => {})
  }

  /** @throws Error when it is not done, or etcd does not know it */
  async #carryOut({ kind, export: name }: RequestRecord, sessions: readonly number[]): Promise<void> {
    await this.#listener[kind](sessions)
    // Whoever asked takes the answer for a lease that is free.
    if (kind === 'release' && !(await this.#giveBack(name))) throw new Error('etcd has not been told')
  }

  /** Somebody has deleted our key, or written over it: nobody can tell who holds the export now. */
  #holdGone(name: string, gateway: string): void {
    if (gateway !== this.#store.life?.gateway) return
    const lost = this.#known.holding(name, this.#store.life)
    for (const each of lost) each.isLost = true
    this.#listener.lost(
      lost.map(({ claim }) => claim.session),
      'its key in etcd was deleted or written over',
    )
  }

  #extended(term: Term): void {
    this.#listener.extended(term)
    for (const name of this.#stale) void this.#giveBack(name)
    for (const life of this.#past) void this.#bury(life)
  }

  #ended(life: Life, why: string): void {
    this.#past.add(life)
    this.#stale.clear()
    this.#listener.ended(life.term.id, `leases lost: ${why}`)
    void this.#bury(life)
  }

  /** Takes away the keys of a life that has ended, when its last session has. */
  async #bury(life: Life): Promise<void> {
    if (this.#known.hasAny(life) || !this.#past.has(life)) return
    try {
      await this.#store.bury(life)
      this.#past.delete(life)
    } catch {
      // Tried again with a heartbeat; and the others give it up.
    }
  }

  /** Tells etcd what is left of an export; whether it knows now. */
  async #giveBack(name: string): Promise<boolean> {
    this.#stale.add(name)
    try {
      return await this.#turns.run(name, async () => await this.#tell(name))
    } catch {
      this.#stale.add(name)
      return false
    }
  }

  /** @throws EtcdError when etcd may know or not */
  async #tell(name: string): Promise<boolean> {
    const { life, keys } = this.#store
    if (life === undefined || this.#known.of(name).some(({ isLost }) => isLost)) return false
    // What goes while etcd is being told is told in the next turn.
    if (!this.#stale.delete(name)) return true
    const own = keys.holds(name, life.gateway)
    const left = this.#known.holding(name, life)
    const { revision, succeeded } = await this.#store.txn(life, [], [put(own, JSON.stringify(this.#recordOf(left)))])
    // Said first: a key that goes without that was deleted by somebody.
    if (left.length === 0) await this.#store.txn(life, [writtenAt(own, revision)], [remove(own)])
    return succeeded
  }

  #failed(claim: Claim, error: unknown): Taken {
    // It may have been written all the same.
    void this.#giveBack(claim.export)
    return { kind: 'unavailable', why: error instanceof Error ? error.message : String(error) }
  }

  #recordOf(all: readonly Pick<Known, 'claim' | 'sinceMs'>[]): HoldsRecord {
    return { version: 1, name: this.#name, ttlMs: this.#store.ttlMs, holds: holdsOf(all) }
  }

  /** Who keeps a claim out, through another gateway. */
  #rival(claim: Claim): Lease | undefined {
    const mode = this.#modeOf(claim.export) ?? claim.mode
    const own = this.#store.life?.gateway
    for (const { gateway, record } of this.#store.mirror.holdsOf(claim.export)) {
      if (gateway === own) continue
      if (record === undefined) return unreadable(claim.export, mode, gateway)
      const rival = record.holds.find(
        ({ holder, access, mode: its }) =>
          holder !== claim.holder && !(canShare(mode, access, claim.access) && canShare(its, access, claim.access)),
      )
      if (rival !== undefined) return leaseOf(claim.export, rival, record.name)
    }
    return undefined
  }

  #elsewhere(): readonly { readonly gateway: string; readonly lease: Lease }[] {
    const { mirror, life } = this.#store
    return mirror.exports().flatMap(name =>
      mirror.holdsOf(name).flatMap(({ gateway, record }) => {
        if (gateway === life?.gateway || [...this.#past].some(past => past.gateway === gateway)) return []
        const holds =
          record === undefined
            ? [unreadable(name, 'exclusive', gateway)]
            : record.holds.map(each => leaseOf(name, each, record.name))
        return holds.map(lease => ({ gateway, lease }))
      }),
    )
  }

  #unavailable(): Taken & ClaimAnswer & { kind: 'unavailable' } {
    return { kind: 'unavailable', why: this.#store.problem }
  }

  /** Waits until `fact` holds, as far as etcd's news tell; at most so long. */
  async #until(fact: () => boolean, boundMs: number, signal?: AbortSignal): Promise<void> {
    if (fact()) return
    await new Promise<void>(resolve => {
      const done = (): void => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', done)
        this.#waits.delete(look)
        resolve()
      }
      const look = (): void => {
        if (fact()) done()
      }
      const timer = setTimeout(done, boundMs)
      signal?.addEventListener('abort', done)
      this.#waits.add(look)
    })
  }

  #wake(): void {
    for (const look of [...this.#waits]) look()
  }
}

function leaseOf(name: string, { holder, who, peer, mode, access, sinceMs }: HoldRecord, gateway: string): Lease {
  return { export: name, holder, who, peer, mode, access, sinceMs, sessions: [], gateway }
}

/** Whoever it is: it may write. */
function unreadable(name: string, mode: SharingMode, gateway: string): Lease {
  const who = 'somebody whose key in etcd can not be read'
  return { export: name, holder: '', who, peer: '?', mode, access: 'write', sinceMs: Date.now(), sessions: [], gateway }
}
