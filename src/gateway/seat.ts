/**
 * What there is once for all sessions, as a process has it that may have to give it away: places, leases, the audit trail, rates. It is
 * this process's own; held while another one takes it over, when all who ask wait; then away, and whoever asks is asking that other
 * process. What its sessions have is noted here, for it goes along.
 */
import type { Offence, TurnedAway } from '../doors/door.ts'
import { type Audit, NO_AUDIT } from '../observe/audit.ts'
import type { AuditFacts } from '../observe/trail-record.ts'
import type { Preparing } from '../preparing/preparing.ts'
import type { MainCalls } from './calls.ts'
import type { LocalControl, Place, Visit } from './control.ts'
import type { Estate } from './estate.ts'
import type { Limits } from './limits.ts'
import type { Link } from './link.ts'
import { acquireThrough } from './remote-plane.ts'

type State =
  | { readonly kind: 'own' }
  | { readonly kind: 'held'; readonly over: Promise<void>; readonly end: () => void }
  | { readonly kind: 'away'; readonly link: Link<MainCalls> }

/** Counts connections: what `Limits` does, here or in another process. */
export interface Places {
  admit(address: string | undefined, door?: string): TurnedAway | undefined | Promise<TurnedAway | undefined>
  entered(): void
  leave(address: string | undefined, hasEntered: boolean, door?: string): void
  charge(address: string | undefined, offence: Offence): void
}

/** What this process has while it decides. */
interface Own {
  readonly control: LocalControl
  readonly limits: Limits
  readonly preparing: Preparing
}

export class Seat {
  readonly control: LocalControl
  readonly audit: Audit
  readonly limits: Places
  readonly preparing: Preparing
  readonly #own: Own
  #trail: Audit = NO_AUDIT
  #state: State = { kind: 'own' }
  /** What was told while it was held. */
  #told: (() => void)[] = []
  /** What the trail says of sessions that are open, by `conn`. */
  readonly #opened = new Map<unknown, AuditFacts>()
  /** Connections that the other process has let in. */
  readonly #numbers: number[] = []
  #count = 0
  #isEmpty: () => void = () => {}

  constructor(own: Own) {
    this.#own = own
    this.preparing = this.#forwardPreparing()
    this.control = this.#forwardControl()
    this.audit = this.#forwardAudit()
    const { limits } = own
    this.limits = {
      admit: (address, door) => this.#admit(address, door),
      leave: (address, hasEntered, door) => this.#leave(address, hasEntered, door),
      entered: () =>
        this.#tell(
          () => limits.entered(),
          link => link.tell('entered'),
        ),
      charge: (address, offence) =>
        this.#tell(
          () => limits.charge(address, offence),
          link => link.tell('charge', address, offence),
        ),
    }
  }

  get isOwn(): boolean {
    return this.#state.kind === 'own'
  }

  /** The audit trail is in this process from now on. */
  keep(trail: Audit): void {
    this.#trail = trail
  }

  /** Has all who ask wait. Returns what there is to be taken over. */
  hold(number: number): Estate {
    let end = (): void => {}
    const over = new Promise<void>(resolve => {
      end = resolve
    })
    this.#state = { kind: 'held', over, end }
    return {
      number,
      places: this.#own.limits.list(),
      halfOpen: this.#own.limits.halfOpen,
      charged: this.#own.limits.charged(),
      holdings: this.#own.control.holdings(),
      opened: [...this.#opened],
    }
  }

  /** It stays with this process, as if nothing had happened. */
  resume(): void {
    this.#change({ kind: 'own' })
  }

  /** Another process has it now. Resolves when no connection is left here. */
  async giveAway(link: Link<MainCalls>): Promise<void> {
    this.#count = this.#own.limits.count
    const empty = new Promise<void>(resolve => {
      this.#isEmpty = resolve
    })
    if (this.#count === 0) this.#isEmpty()
    this.#change({ kind: 'away', link })
    await empty
  }

  /** The number of a connection that the other process has let in. */
  number(): number | undefined {
    return this.#numbers.shift()
  }

  /** Asks where it is now. */
  async ask<T>(own: () => T | Promise<T>, away: (link: Link<MainCalls>) => Promise<T>): Promise<T> {
    while (this.#state.kind === 'held') await this.#state.over
    return this.#state.kind === 'own' ? await own() : await away(this.#state.link)
  }

  #change(state: State): void {
    const before = this.#state
    this.#state = state
    const told = this.#told
    this.#told = []
    for (const tell of told) tell()
    if (before.kind === 'held') before.end()
  }

  #tell(own: () => void, away: (link: Link<MainCalls>) => void): void {
    const state = this.#state
    if (state.kind === 'own') own()
    else if (state.kind === 'away') away(state.link)
    else this.#told.push(() => this.#tell(own, away))
  }

  #admit(address: string | undefined, door: string | undefined): ReturnType<Places['admit']> {
    if (this.#state.kind === 'own') return this.#own.limits.admit(address, door)
    return this.ask<TurnedAway | undefined>(
      () => this.#own.limits.admit(address, door),
      async link => {
        const answer = await link.ask('admit', address, door)
        if (typeof answer !== 'number') return answer
        this.#numbers.push(answer)
        this.#count++
        return undefined
      },
    )
  }

  #leave(address: string | undefined, hasEntered: boolean, door: string | undefined): void {
    this.#tell(
      () => this.#own.limits.leave(address, hasEntered, door),
      link => {
        link.tell('left', address, hasEntered, door)
        if (--this.#count === 0) this.#isEmpty()
      },
    )
  }

  #forwardControl(): LocalControl {
    const { control } = this.#own
    return {
      ...control,
      acquire: async (name, visit, signal) => await this.#acquire(name, visit, signal),
      look: async (name, visit) =>
        await this.ask(
          () => control.look(name, visit),
          link => link.ask('look', name, visit),
        ),
      leaving: conn => {
        control.leaving(conn)
        this.#tell(
          () => {},
          link => link.tell('leaving', conn),
        )
      },
      release: (name, visit) =>
        this.#tell(
          () => control.release(name, visit),
          link => {
            // What it had before it went away: leases in etcd are still this process's.
            if (control.holds(visit.conn)) control.release(name, visit)
            link.tell('release', name, visit)
          },
        ),
    }
  }

  #forwardPreparing(): Preparing {
    const { preparing } = this.#own
    return {
      authorize: async (name, guest, granted) =>
        await this.ask(
          () => preparing.authorize(name, guest, granted),
          link => link.ask('authorize', name, guest, granted),
        ),
      prepare: async (name, guest) =>
        await this.ask(
          () => preparing.prepare(name, guest),
          link => link.ask('prepare', name, guest),
        ),
      finish: conn => {
        preparing.finish(conn)
        this.#tell(
          () => {},
          link => link.tell('finish', conn),
        )
      },
    }
  }

  async #acquire(name: string, visit: Visit, signal: AbortSignal): Promise<Place> {
    const { control } = this.#own
    return await this.ask(
      async () => {
        const place = await control.acquire(name, visit, signal)
        if (this.#state.kind === 'own') return place
        // It has changed hands meanwhile: what was answered here does not count, nor does a no.
        if (place.kind === 'taken') control.release(name, visit)
        return await this.#acquire(name, visit, signal)
      },
      link => acquireThrough(link, name, visit, signal),
    )
  }

  #forwardAudit(): Audit {
    return {
      write: async (kind, facts) => {
        const seq = await this.ask(
          () => this.#trail.write(kind, facts),
          link => link.ask('write', kind, facts),
        )
        const { decision: _decision, ...opened } = facts
        this.#opened.set(facts.conn, { ...opened, ...(seq !== undefined && { opened: seq }) })
        return seq
      },
      note: (kind, facts) => {
        if (kind === 'session ended') this.#opened.delete(facts.conn)
        this.#tell(
          () => this.#trail.note(kind, facts),
          link => link.tell('note', kind, facts),
        )
      },
      state: () => this.#trail.state(),
      close: async () => await this.#trail.close(),
    }
  }
}
