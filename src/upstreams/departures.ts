interface Waiting {
  parts: number
  readonly sent: (() => void) | undefined
}

/** Tells in the order of the writes when all parts of each have left: by several connections they do as it happens. */
export class Departures {
  readonly #line: Waiting[] = []
  readonly #partLeft: () => void

  /** `partLeft` is told whenever a part has left. */
  constructor(partLeft: () => void) {
    this.#partLeft = partLeft
  }

  /** Writes by `run`, and calls `sent` when all of that and of what was written before has left; never at once. */
  write(sent: (() => void) | undefined, run: (left: () => () => void) => void): void {
    const waiting: Waiting = { parts: 1, sent }
    this.#line.push(waiting)
    const partLeft = (): void => {
      waiting.parts--
      this.#tell()
      this.#partLeft()
    }
    run(() => {
      waiting.parts++
      return partLeft
    })
    waiting.parts--
    if (waiting.parts === 0) queueMicrotask(() => this.#tell())
  }

  #tell(): void {
    while (this.#line[0]?.parts === 0) this.#line.shift()?.sent?.()
  }
}
