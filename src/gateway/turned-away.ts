import type { TurnedAway } from '../doors/door.ts'
import type { Log } from '../observe/log.ts'

/** Lines a second for each reason; of what comes beyond them only the number is said. */
const LINES_PER_SECOND = 20
const SECOND_MS = 1000

/** Says who was turned away. A flood must not fill the disk with its log. */
export class TurnedAwayLog {
  readonly #log: Log
  /** Of this second: lines by reason. */
  readonly #said = new Map<TurnedAway, number>()
  readonly #unsaid = new Map<TurnedAway, number>()
  #timer: NodeJS.Timeout | undefined

  constructor(log: Log) {
    this.#log = log
  }

  readonly say = (peer: string, reason: TurnedAway, facts?: Readonly<Record<string, unknown>>): void => {
    const said = this.#said.get(reason) ?? 0
    this.#timer ??= setTimeout(this.#secondIsOver, SECOND_MS).unref()
    if (said >= LINES_PER_SECOND) {
      this.#unsaid.set(reason, (this.#unsaid.get(reason) ?? 0) + 1)
      return
    }
    this.#said.set(reason, said + 1)
    this.#log.warn({ peer, reason, ...facts }, 'turned away')
  }

  readonly #secondIsOver = (): void => {
    this.#timer = undefined
    for (const [reason, times] of this.#unsaid) this.#log.warn({ reason, times }, 'turned away')
    this.#said.clear()
    this.#unsaid.clear()
  }
}
