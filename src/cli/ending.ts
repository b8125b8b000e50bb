import type { Gateway } from '../gateway/gateway.ts'
import type { Log } from '../observe/log.ts'
import type { Notifier } from './notifier.ts'

/** The end of a gateway: the first signal lets sessions end by themselves, the second ends them. */
export class Ending {
  readonly #gateway: Gateway
  readonly #log: Log
  readonly #notifier: Notifier | undefined
  /** Resolves when the gateway has been told to end, and has. */
  readonly done: Promise<void>
  #resolve: (ended: Promise<void>) => void = () => {}
  #draining = false

  /** Listens for SIGTERM and SIGINT. */
  constructor(gateway: Gateway, log: Log, notifier?: Notifier) {
    this.#gateway = gateway
    this.#log = log
    this.#notifier = notifier
    this.done = new Promise(resolve => {
      this.#resolve = resolve
    })
    process.on('SIGTERM', this.#signalled)
    process.on('SIGINT', this.#signalled)
  }

  /** Begins to drain, if that has not begun yet. */
  drain(why: string): void {
    if (this.#draining) return
    this.#draining = true
    this.#log.info({ signal: why }, 'draining')
    this.#notifier?.stopping('draining: nobody is let in, sessions may end')
    this.#resolve(this.#gateway.drain())
  }

  readonly #signalled = (signal: NodeJS.Signals): void => {
    if (!this.#draining) {
      this.drain(signal)
      return
    }
    this.#log.info({ signal }, 'stopping')
    this.#notifier?.stopping('stopping')
    // What waits in drain() goes on when there is nothing left to wait for.
    void this.#gateway.stop()
  }
}
