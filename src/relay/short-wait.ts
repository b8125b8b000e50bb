/**
 * Keeps the event loop awake for the moment in which an answer is due. A loop that sleeps for 30 µs pays as much again to
 * be woken, in a virtual machine above all; kernels poll before they sleep for the same reason (net.core.busy_poll, KVM's
 * halt_poll_ns). One loop for all sessions of the process, and only while answers do come that fast.
 */
import { availableParallelism } from 'node:os'

/** How long to stay awake; an answer that takes longer gains nothing from it. */
export const AWAKE_MS = 0.06

/** Waits that are slept through after one that took longer than that. */
export const SKIPPED_AFTER_LONG = 63

/** On one core the loop would keep the answer from being made. */
const HAS_OTHER_CORES = availableParallelism() > 1

let awakeUntil = 0
let awake = false

function look(): void {
  if (performance.now() < awakeUntil) setImmediate(look)
  else awake = false
}

/** One kind of wait of one session, and what was learned of its length. */
export class ShortWait {
  readonly #isWorthIt: boolean
  #until = 0
  #skip = 0

  constructor(isWorthIt = HAS_OTHER_CORES) {
    this.#isWorthIt = isWorthIt
  }

  /** The wait begins: something was sent to which one answer is due. */
  begin(): void {
    if (!this.#isWorthIt) return
    if (this.#skip > 0) {
      this.#skip--
      return
    }
    this.#until = performance.now() + AWAKE_MS
    awakeUntil = this.#until
    if (awake) return
    awake = true
    setImmediate(look)
  }

  /** The wait is over. */
  end(): void {
    if (this.#until === 0) return
    if (performance.now() > this.#until) this.#skip = SKIPPED_AFTER_LONG
    this.#until = 0
  }
}
