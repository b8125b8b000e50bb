import type { RangeGuard } from '../relay/requests.ts'
import { LuksGuard } from '../sharing/luks-guard.ts'
import type { MainCalls } from './calls.ts'
import type { Link } from './link.ts'
import type { Guards } from './luks-check.ts'

/**
 * The guard of one session over a header that sessions in other processes may change too: it judges with the lock, which comes with
 * the header as it is. Without it, nothing that touches the header passes.
 */
export class RemoteGuard implements RangeGuard {
  readonly #link: Link<MainCalls>
  readonly #conn: number
  readonly #first: LuksGuard
  #judge: LuksGuard | undefined
  #isAsking = false

  constructor(link: Link<MainCalls>, conn: number, first: LuksGuard) {
    this.#link = link
    this.#conn = conn
    this.#first = first
  }

  isReady(): boolean {
    if (this.#judge !== undefined) return true
    if (this.#isAsking) return false
    this.#isAsking = true
    this.#link.ask('lock', this.#conn).then(
      header => {
        this.#isAsking = false
        // A header has passed the channel as the bytes that it is.
        if (header !== undefined) this.#judge = new LuksGuard(this.#first.at, Buffer.from(header))
      },
      // The main process has gone, and this one is about to.
      () => {},
    )
    return false
  }

  touches(offset: number, length: number): boolean {
    return this.#first.touches(offset, length)
  }

  admits(offset: number, bytes: Buffer | number): boolean {
    const judge = this.#judge
    if (judge === undefined) return false
    const isGood = judge.admits(offset, bytes)
    this.#judge = undefined
    this.#link.tell('unlock', this.#conn, isGood ? judge.header : undefined)
    return isGood
  }

  /** Others wait for the lock. A write that was held back for it is refused. */
  yieldLock(): void {
    this.#judge = undefined
  }
}

/** The guards of one session. */
export function remoteGuards(link: Link<MainCalls>, conn: number, guards: Map<number, RemoteGuard>): Guards {
  return {
    take: (name, fresh) => {
      link.tell('guard', conn, name, fresh.header)
      const guard = new RemoteGuard(link, conn, fresh)
      guards.set(conn, guard)
      return guard
    },
    giveBack: () => {
      guards.delete(conn)
      link.tell('unguard', conn)
    },
  }
}
