import type { Change, Pending } from './pending.ts'

/**
 * Bytes of requests that tell that a client is alive: more than the kernel's receive buffer and ours can have held
 * (tcp(7), tcp_rmem), so the last of them were sent after the first.
 */
const ALIVE_BYTES = 8 * 1024 * 1024

/** What a settling looks at. */
export interface Traffic {
  readonly pending: Pending
  /** Nothing of what the client has sent waits in this process, and no request is half there. */
  isQuiet(): boolean
}

interface Settling {
  readonly changes: readonly Change[]
  readonly sinceBytes: number
  readonly done: () => void
}

/**
 * Tells when all writes that a client had sent before a moment are done. A client that has vanished sends nothing after
 * it: then it is the first time that nothing is out and nothing waits. One that is there may never be so quiet: then it
 * has sent more meanwhile than could have waited in buffers.
 */
export class Settlings {
  readonly #traffic: Traffic
  #requestBytes = 0
  #settlings: readonly Settling[] = []

  constructor(traffic: Traffic) {
    this.#traffic = traffic
  }

  /** Resolves when what was sent up to now is done. Never rejects. */
  async add(): Promise<void> {
    await new Promise<void>(done => {
      const changes = this.#traffic.pending.changes()
      this.#settlings = [...this.#settlings, { changes, sinceBytes: this.#requestBytes, done }]
      this.look()
    })
  }

  /** The client has sent so many bytes. */
  count(bytes: number): void {
    this.#requestBytes += bytes
  }

  /** To be called whenever something has moved. */
  look(): void {
    if (this.#settlings.length === 0) return
    const isDone = this.#traffic.isQuiet() && this.#traffic.pending.changes().length === 0
    this.#settlings = this.#settlings.filter(settling => {
      if (!isDone && !this.#isOutlived(settling)) return true
      settling.done()
      return false
    })
  }

  /** Nothing can reach the upstream any more. */
  end(): void {
    for (const { done } of this.#settlings) done()
    this.#settlings = []
  }

  #isOutlived({ changes, sinceBytes }: Settling): boolean {
    const isAlive = this.#requestBytes - sinceBytes > ALIVE_BYTES
    return isAlive && !changes.some(change => this.#traffic.pending.isOut(change))
  }
}
