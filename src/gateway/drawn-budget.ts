import type { Budget } from '../relay/throttle.ts'

/** How much of a budget a process takes at once: few messages, and little that is left unused elsewhere. */
const CHUNK_S = 0.02

/** When who has to wait asks again; the next chunk comes when it comes. */
const WAIT_MS = 2

/** A part of a budget that several processes draw on; draws the next chunk before this one is used up. */
export class DrawnBudget implements Budget {
  readonly #draw: (perSecond: number, count: number) => Promise<void>
  #perSecond: number
  #left = 0
  #isDrawing = false

  /** `draw` resolves when so much was taken. */
  constructor(perSecond: number, draw: (perSecond: number, count: number) => Promise<void>) {
    this.#perSecond = perSecond
    this.#draw = draw
    this.#fill()
  }

  setRate(perSecond: number): void {
    this.#perSecond = perSecond
  }

  waitMs(): number {
    this.#fill()
    return this.#left > 0 ? 0 : WAIT_MS
  }

  take(count: number): void {
    this.#left -= count
    this.#fill()
  }

  #fill(): void {
    const chunk = Math.max(1, this.#perSecond * CHUNK_S)
    if (this.#isDrawing || this.#left > chunk / 2) return
    const count = chunk - this.#left
    this.#isDrawing = true
    this.#draw(this.#perSecond, count).then(
      () => {
        this.#left += count
        this.#isDrawing = false
      },
      // The other process has gone, and this one is about to.
      () => {},
    )
  }
}
