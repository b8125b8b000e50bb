import { LinkClosedError } from './link.ts'

/** How long a session may hold a lock that others wait for: a WRITE of a header is a matter of milliseconds. */
const HOLD_MS = 5000

interface Watched {
  readonly name: string
  /** As far as writes have passed by here. */
  header: Buffer
  readonly users: Set<number>
  holder: number | undefined
  /** Those who wait for the lock. */
  readonly waiting: Map<number, (header: Buffer | undefined) => void>
  timer: NodeJS.Timeout | undefined
}

/** The LUKS headers that sessions in several processes watch over; one session at a time may judge what changes a header. */
export class GuardDesk {
  readonly #byName = new Map<string, Watched>()
  readonly #bySession = new Map<number, Watched>()
  readonly #yieldLock: (conn: number) => Promise<void>

  /** `yieldLock` takes the lock away from a session, and resolves when that does not judge by it any more. */
  constructor(yieldLock: (conn: number) => Promise<void>) {
    this.#yieldLock = yieldLock
  }

  guard(conn: number, name: string, header: Buffer): void {
    const fresh = { name, header, users: new Set<number>(), holder: undefined, waiting: new Map(), timer: undefined }
    const watched: Watched = this.#byName.get(name) ?? fresh
    this.#byName.set(name, watched)
    this.#bySession.set(conn, watched)
    watched.users.add(conn)
  }

  /** Resolves with the header when the session has the lock; undefined if it has no guard any more. */
  async lock(conn: number): Promise<Buffer | undefined> {
    const watched = this.#bySession.get(conn)
    if (watched === undefined) return undefined
    return await new Promise(resolve => {
      watched.waiting.set(conn, resolve)
      this.#next(watched)
    })
  }

  /** The lock is free again; `header` as it is now, undefined if it has not changed. */
  unlock(conn: number, header: Buffer | undefined): void {
    const watched = this.#bySession.get(conn)
    if (watched?.holder !== conn) return
    if (header !== undefined) watched.header = header
    this.#free(watched)
  }

  unguard(conn: number): void {
    const watched = this.#bySession.get(conn)
    if (watched === undefined) return
    this.#bySession.delete(conn)
    watched.users.delete(conn)
    watched.waiting.get(conn)?.(undefined)
    watched.waiting.delete(conn)
    if (watched.users.size === 0) this.#byName.delete(watched.name)
    if (watched.holder === conn) this.#free(watched)
  }

  #free(watched: Watched): void {
    clearTimeout(watched.timer)
    watched.timer = undefined
    watched.holder = undefined
    this.#next(watched)
  }

  #next(watched: Watched): void {
    const [next] = watched.waiting
    if (next === undefined) return
    if (watched.holder !== undefined) {
      watched.timer ??= setTimeout(() => this.#takeAway(watched), HOLD_MS)
      return
    }
    const [conn, granted] = next
    watched.waiting.delete(conn)
    watched.holder = conn
    granted(watched.header)
    this.#next(watched)
  }

  #takeAway(watched: Watched): void {
    const { holder } = watched
    if (holder === undefined) return
    this.#yieldLock(holder).then(
      () => this.unlock(holder, undefined),
      (error: unknown) => {
        // Then all its sessions are gone, and have been forgotten.
        if (!(error instanceof LinkClosedError)) throw error
      },
    )
  }
}
