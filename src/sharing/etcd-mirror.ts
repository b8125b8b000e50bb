/**
 * What etcd has under our prefix, as far as this gateway has seen it, and what follows from it: which gateways live, and
 * which holds count. Time is this machine's own, and counts from when something was seen: what others wrote into it is
 * read by nobody as a moment.
 */
import type { KeyValue } from './etcd-messages.ts'
import { type GatewayRecord, type HoldsRecord, type Keys, parseGateway, parseHolds } from './etcd-records.ts'

type Event = KeyValue & { readonly isGone: boolean }

/** A gateway that has a heartbeat. */
export interface Member {
  /** Undefined if its record can not be read. */
  readonly record: GatewayRecord | undefined
  /** Its last heartbeat. */
  readonly revision: number
  readonly seenMs: number
}

/** What one gateway holds of an export. */
export interface Holds {
  readonly gateway: string
  /** Undefined if it can not be read. */
  readonly record: HoldsRecord | undefined
  readonly revision: number
  /** The time to live that it said last, if ever. */
  readonly ttlMs: number | undefined
  /** Since when its key is gone without a release: somebody deleted it. */
  readonly goneMs: number | undefined
}

/** Who wants to know; called in the middle of news, so that it must not take long. */
export interface MirrorListener {
  /** Something about these exports has changed. */
  changed(exports: ReadonlySet<string>): void
  /** Another gateway asks for something. */
  requested(gateway: string, id: string, value: string): void
  /** A request is done, or given up. */
  answered(id: string): void
  gatewayGone(gateway: string): void
  /** The key of a hold has gone, and its gateway has not let go of it. */
  holdGone(name: string, gateway: string): void
  /** A key that can not be read. */
  garbage(key: string): void
}

export class Mirror {
  /** All that happened up to here is in. */
  revision = 0
  readonly members = new Map<string, Member>()
  readonly #keys: Keys
  readonly #listener: MirrorListener
  readonly #now: () => number
  readonly #fenced = new Set<string>()
  /** Gateways that hold something and have no heartbeat, and since when. */
  readonly #missing = new Map<string, number>()
  readonly #holds = new Map<string, Map<string, Holds>>()
  /** Keys of requests that are open. */
  readonly #requests = new Set<string>()

  constructor(keys: Keys, listener: MirrorListener, now: () => number) {
    this.#keys = keys
    this.#listener = listener
    this.#now = now
  }

  /** All there is, as of a revision: at the start, and when news was missed. */
  replace(found: readonly KeyValue[], revision: number): void {
    const there = new Set(found.map(({ key }) => key))
    const known = [
      ...[...this.members.keys()].map(gateway => this.#keys.gateway(gateway)),
      ...[...this.#fenced].map(gateway => this.#keys.fenced(gateway)),
      ...this.#requests,
      ...[...this.#holds].flatMap(([name, all]) => [...all.keys()].map(gateway => this.#keys.holds(name, gateway))),
    ]
    const gone = known
      .filter(key => !there.has(key))
      .map(key => ({ key, value: '', modRevision: revision, createRevision: 0, isGone: true }))
    const put = found.map(each => ({ ...each, isGone: false }))
    // Who was given up first: what such a gateway held is not missed.
    this.apply([...put.filter(({ key }) => this.#keys.factsOf(key).kind === 'fenced'), ...put, ...gone])
    this.revision = Math.max(this.revision, revision)
  }

  /** What has happened since. */
  apply(events: readonly Event[]): void {
    const changed = new Set<string>()
    // In one transaction a gateway is given up and its heartbeat taken away.
    for (const event of events) {
      const facts = this.#keys.factsOf(event.key)
      if (facts.kind === 'fenced' && !event.isGone) this.#fenced.add(facts.gateway)
    }
    for (const event of events) {
      this.#take(event, changed)
      this.revision = Math.max(this.revision, event.modRevision)
    }
    this.#listener.changed(changed)
  }

  /** Whether what a gateway held counts no more. */
  isVoid(gateway: string): boolean {
    return this.#fenced.has(gateway)
  }

  /** Gateways that were given up. */
  get fenced(): ReadonlySet<string> {
    return this.#fenced
  }

  /** What gateways hold of an export and still counts. */
  holdsOf(name: string): readonly Holds[] {
    return [...(this.#holds.get(name)?.values() ?? [])].filter(each => !this.#isOver(each))
  }

  /** Keys of holds that count no more, of an export. */
  deadHolds(name: string): readonly string[] {
    const all = [...(this.#holds.get(name)?.values() ?? [])].filter(
      each => each.goneMs === undefined && this.#isOver(each),
    )
    return all.map(({ gateway }) => this.#keys.holds(name, gateway))
  }

  /** Keys of all that a gateway holds. */
  holdKeys(gateway: string): readonly string[] {
    const names = [...this.#holds].filter(([, all]) => all.has(gateway)).map(([name]) => name)
    return names.map(name => this.#keys.holds(name, gateway))
  }

  exports(): readonly string[] {
    return [...this.#holds.keys()]
  }

  /** Exports of which something counts no more only because time has passed. To be asked now and then. */
  expire(): ReadonlySet<string> {
    const changed = new Set<string>()
    for (const [name, all] of this.#holds) {
      for (const holds of all.values()) {
        if (holds.goneMs !== undefined && this.#isOver(holds)) {
          all.delete(holds.gateway)
          changed.add(name)
        } else if (this.#missing.has(holds.gateway) && this.#isOver(holds)) changed.add(name)
      }
      if (all.size === 0) this.#holds.delete(name)
    }
    return changed
  }

  #take(event: Event, changed: Set<string>): void {
    const facts = this.#keys.factsOf(event.key)
    switch (facts.kind) {
      case 'gateway':
        this.#takeGateway(facts.gateway, event, changed)
        break
      case 'fenced':
        if (event.isGone) this.#fenced.delete(facts.gateway)
        else this.#allOf(facts.gateway, changed)
        break
      case 'holds':
        this.#takeHolds(facts.export, facts.gateway, event)
        changed.add(facts.export)
        break
      case 'request':
        this.#takeRequest(facts.gateway, facts.id, event)
        break
      case 'unknown':
        if (!event.isGone) this.#listener.garbage(event.key)
        break
      default:
        facts satisfies never
    }
  }

  #takeRequest(gateway: string, id: string, { key, value, isGone }: Event): void {
    if (isGone) {
      this.#requests.delete(key)
      this.#listener.answered(id)
    } else if (!this.#requests.has(key)) {
      this.#requests.add(key)
      this.#listener.requested(gateway, id, value)
    }
  }

  #takeGateway(gateway: string, { key, value, modRevision, isGone }: Event, changed: Set<string>): void {
    if (isGone) {
      this.members.delete(gateway)
      if (!this.#fenced.has(gateway)) this.#missing.set(gateway, this.#now())
      this.#allOf(gateway, changed)
      this.#listener.gatewayGone(gateway)
      return
    }
    this.#missing.delete(gateway)
    const record = parseGateway(value)
    const known = this.members.get(gateway)
    if (record === undefined && known?.record === undefined) this.#listener.garbage(key)
    // What can not be read any more keeps what it said: its time to live.
    const seenMs = known?.revision === modRevision ? known.seenMs : this.#now()
    this.members.set(gateway, { record: record ?? known?.record, revision: modRevision, seenMs })
  }

  #takeHolds(name: string, gateway: string, { key, value, modRevision, isGone }: Event): void {
    const all = this.#holds.get(name) ?? new Map<string, Holds>()
    this.#holds.set(name, all)
    const known = all.get(gateway)
    if (isGone) {
      // Who lets go says first that nothing is held.
      const isReleased = this.#fenced.has(gateway) || known?.record?.holds.length === 0
      if (isReleased || known?.ttlMs === undefined) all.delete(gateway)
      else all.set(gateway, { ...known, goneMs: this.#now() })
      if (!isReleased) this.#listener.holdGone(name, gateway)
      if (all.size === 0) this.#holds.delete(name)
      return
    }
    const record = parseHolds(value)
    if (record === undefined) {
      this.#listener.garbage(key)
      this.#listener.holdGone(name, gateway)
    }
    const ttlMs = record?.ttlMs ?? known?.ttlMs
    all.set(gateway, { gateway, record, revision: modRevision, ttlMs, goneMs: undefined })
    const isKnown = this.members.has(gateway) || this.#fenced.has(gateway) || this.#missing.has(gateway)
    if (!isKnown) this.#missing.set(gateway, this.#now())
  }

  /** Whether a hold counts no more. One that can not be read counts until its key is gone. */
  #isOver({ gateway, record, ttlMs = 0, goneMs }: Holds): boolean {
    if (this.#fenced.has(gateway)) return true
    if (goneMs !== undefined) return this.#now() >= goneMs + ttlMs
    if (record === undefined) return false
    if (record.holds.length === 0) return true
    const since = this.members.has(gateway) ? undefined : this.#missing.get(gateway)
    return since !== undefined && this.#now() >= since + ttlMs
  }

  #allOf(gateway: string, changed: Set<string>): void {
    for (const [name, all] of this.#holds) if (all.has(gateway)) changed.add(name)
  }
}
