import type { RangeGuard } from '../relay/requests.ts'
import { LuksGuard } from '../sharing/luks-guard.ts'
import type { MainCalls } from './calls.ts'
import type { Link } from './link.ts'
import type { Guards } from './luks-check.ts'

/** Headers stay as they are from now on. */
export interface Frozen {
  isOn: boolean
}

/** Where a session is. */
interface Seat {
  readonly link: Link<MainCalls>
  readonly conn: number
  readonly frozen: Frozen
}

/**
 * The guard of one session over a header that sessions in other processes may change too: it judges with the lock, which comes with
 * the header as it is. Without it, nothing that touches the header passes.
 */
export class RemoteGuard implements RangeGuard {
  readonly #link: Link<MainCalls>
  readonly #conn: number
  readonly #first: LuksGuard
  readonly #frozen: Frozen
  #judge: LuksGuard | undefined
  #isAsking = false

  constructor({ link, conn, frozen }: Seat, first: LuksGuard) {
    this.#link = link
    this.#conn = conn
    this.#first = first
    this.#frozen = frozen
  }

  isReady(): boolean {
    if (this.#judge !== undefined || this.#frozen.isOn) return true
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
    if (judge === undefined || this.#frozen.isOn) return false
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
export function remoteGuards(seat: Seat, guards: Map<number, RemoteGuard>): Guards {
  const { link, conn } = seat
  return {
    take: (name, fresh) => {
      link.tell('guard', conn, name, fresh.header)
      const guard = new RemoteGuard(seat, fresh)
      guards.set(conn, guard)
      return guard
    },
    giveBack: () => {
      guards.delete(conn)
      link.tell('unguard', conn)
    },
  }
}
