import type { Gateway } from '../gateway/gateway.ts'
import type { Log } from '../observe/log.ts'
import type { Notifier } from './notifier.ts'

const SIGNALS = ['SIGTERM', 'SIGINT'] as const

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
    for (const signal of SIGNALS) process.on(signal, this.#signalled)
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

/**
 * Signals that come before there is anything to end. They end the process as if nobody listened; but one that comes when
 * the log has just said `gateway ready` waits for those who are told next. `areKept`: none ends the process, since sessions
 * of another one have been taken over and would die with it.
 */
export class EarlySignals {
  readonly #areKept: boolean
  readonly #come: NodeJS.Signals[] = []

  constructor({ areKept }: { readonly areKept: boolean }) {
    this.#areKept = areKept
    for (const signal of SIGNALS) process.on(signal, this.#hear)
  }

  /** From now on others listen; what has come. */
  end(): readonly NodeJS.Signals[] {
    for (const signal of SIGNALS) process.off(signal, this.#hear)
    return this.#come
  }

  readonly #hear = (signal: NodeJS.Signals): void => {
    if (this.#areKept) {
      this.#come.push(signal)
      return
    }
    this.end()
    process.kill(process.pid, signal)
  }
}
