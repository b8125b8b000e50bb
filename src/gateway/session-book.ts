import type { SessionExplanation, SessionFacts } from '../admin/managed.ts'
import type { Offence, Visitor } from '../doors/door.ts'
import type { FlushTimes } from '../relay/keep.ts'
import type { SessionContext } from './context.ts'
import { FlushBook } from './flush-book.ts'
import { type Session, startSession } from './session.ts'
import { settleAll } from './takeover.ts'

const STOPPED = 'gateway stopped'

/** What a session gets beside what the book itself knows. */
export type BookContext = Omit<SessionContext, 'secured' | 'isDraining' | 'conn' | 'entered' | 'charge'>

/** What a book tells of its sessions. */
export interface BookListener {
  /** One is in: it is not half open any more. */
  entered(): void
  /** One has ended. */
  left(address: string | undefined, hasEntered: boolean, door: string): void
  charge(address: string | undefined, offence: Offence): void
}

/** The sessions of one process, by `conn`. */
export class SessionBook {
  /** The oldest first. */
  readonly #sessions = new Map<number, Session>()
  readonly #contextOf: (conn: number) => BookContext
  readonly #listener: BookListener
  readonly #flushes = new FlushBook()
  #isDraining = false

  constructor(contextOf: (conn: number) => BookContext, listener: BookListener) {
    this.#contextOf = contextOf
    this.#listener = listener
  }

  /** Starts a session of somebody who has come by the door at this place. */
  enter(visitor: Visitor, conn: number, door: string): void {
    const { address } = visitor.identity
    let hasEntered = false
    const session = startSession(visitor, {
      ...this.#contextOf(conn),
      conn,
      isDraining: () => this.#isDraining,
      entered: () => {
        hasEntered = true
        this.#listener.entered()
      },
      charge: offence => {
        if (offence !== undefined) this.#listener.charge(address, offence)
      },
    })
    this.#sessions.set(conn, session)
    void session.done.finally(() => {
      this.#sessions.delete(conn)
      const flushes = session.flushes()
      if (flushes !== undefined) this.#flushes.leave(flushes.key, flushes.times)
      this.#listener.left(address, hasEntered, door)
    })
  }

  /** Those in transmission phase, the oldest first. */
  facts(): readonly SessionFacts[] {
    return [...this.#sessions.values()].flatMap(session => session.facts() ?? [])
  }

  /** What the rules say of one of them now; undefined if there is none of this number. */
  async explain(conn: number): Promise<SessionExplanation | undefined> {
    return await this.#relaying(conn)?.explain()
  }

  /** Ends one of them now; false if there is none of this number. */
  kick(conn: number): boolean {
    const session = this.#relaying(conn)
    session?.retire('kicked')
    return session !== undefined
  }

  /** Ends these, whatever they do; resolves when they have. */
  async retire(conns: readonly number[], why: string): Promise<void> {
    const sessions = this.#among(conns)
    for (const session of sessions) session.retire(why)
    await Promise.all(sessions.map(session => session.done))
  }

  /** Ends these now, whatever they do. */
  cut(conns: readonly number[], why: string): void {
    for (const session of this.#among(conns)) session.stop(why)
  }

  /** Resolves when no write that these have been sent up to now can still land. Never rejects. */
  async settle(conns: readonly number[]): Promise<void> {
    await settleAll(this.#among(conns))
  }

  /** What connections of this key say of what they have flushed, all but one of them; those that have ended together. */
  flushTimes(key: string, butConn: number): readonly FlushTimes[] {
    const others = [...this.#sessions].flatMap(([conn, session]) => (conn === butConn ? [] : (session.flushes() ?? [])))
    return [others.filter(each => each.key === key).map(each => each.times), this.#flushes.of(key) ?? []].flat()
  }

  /** Ends those whose rights are gone; their numbers. */
  async recheck(): Promise<readonly number[]> {
    const rechecked = [...this.#sessions].map(async ([conn, session]) => ((await session.recheck()) ? [conn] : []))
    return (await Promise.all(rechecked)).flat()
  }

  /** Tells those who haggle that nobody is let in any more. */
  drain(): void {
    this.#isDraining = true
  }

  /** Resolves when those that are there now have ended. */
  async ended(): Promise<void> {
    await Promise.all([...this.#sessions.values()].map(session => session.done))
  }

  /** Ends all of them in good order; resolves when they have ended. */
  async shutDown(): Promise<void> {
    this.#isDraining = true
    await Promise.all([...this.#sessions.values()].map(session => session.shutDown(STOPPED)))
    await this.ended()
  }

  /** Ends all of them now. */
  async stop(): Promise<void> {
    this.#isDraining = true
    for (const session of this.#sessions.values()) session.stop(STOPPED)
    await this.ended()
  }

  #relaying(conn: number): Session | undefined {
    const session = this.#sessions.get(conn)
    return session?.facts() === undefined ? undefined : session
  }

  #among(conns: readonly number[]): readonly Session[] {
    return conns.flatMap(conn => this.#sessions.get(conn) ?? [])
  }
}
