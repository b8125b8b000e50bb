import type { Log } from '../observe/log.ts'
import { areDescriptorsKnown, sendDatagram } from '../platform/descriptors.ts'
import type { Activation } from './activation.ts'

/** What the service manager shows while all is well. */
export const SERVING = 'serving'

/** How often the watchdog hears of us in the time that it waits: sd_watchdog_enabled(3) wants it halved. */
const WATCHDOG_PART = 2

/** Tells the service manager what becomes of the gateway: sd_notify(3). Does nothing where there is none. */
export class Notifier {
  readonly #socket: string | undefined
  #watchdog: NodeJS.Timeout | undefined

  constructor({ notify, watchdogMs }: Activation, log: Log) {
    this.#socket = notify
    if (notify === undefined) return
    const why = 'koffi is missing'
    if (!areDescriptorsKnown()) log.warn({ socket: notify, why }, 'the service manager can not be told') // From the one loop that does everything: when it hangs, nobody says that it lives.
    if (watchdogMs !== undefined) {
      this.#watchdog = setInterval(() => this.#tell('WATCHDOG=1'), Math.max(1, watchdogMs / WATCHDOG_PART))
      this.#watchdog.unref()
    }
  }

  /** The gateway serves. */
  ready(status: string): void {
    this.#tell('READY=1', `STATUS=${status}`)
  }

  /** It takes another configuration, and will be `ready` again, whatever comes of that. */
  reloading(): void {
    // systemd wants the time of CLOCK_MONOTONIC, which is what hrtime reads.
    this.#tell('RELOADING=1', `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`, 'STATUS=reloading')
  }

  /** Another process is the gateway from now on. */
  handOver(pid: number): void {
    this.close()
    this.#tell(`MAINPID=${pid}`)
  }

  /** It lets nobody in any more. */
  stopping(status: string): void {
    this.#tell('STOPPING=1', `STATUS=${status}`)
  }

  close(): void {
    clearInterval(this.#watchdog)
  }

  #tell(...lines: readonly string[]): void {
    if (this.#socket !== undefined) sendDatagram(this.#socket, Buffer.from(lines.join('\n')))
  }
}
