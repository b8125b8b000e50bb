/** So many programs of one export run at once; the others wait, and those of other exports do not notice. */
export class Turns {
  readonly #atOnce: number
  readonly #running = new Map<string, number>()
  readonly #waiting = new Map<string, (() => void)[]>()

  constructor(atOnce: number) {
    this.#atOnce = atOnce
  }

  async run<T>(name: string, job: () => Promise<T>): Promise<T> {
    const running = this.#running.get(name) ?? 0
    if (running < this.#atOnce) this.#running.set(name, running + 1)
    else await new Promise<void>(resolve => this.#waiting.set(name, [...(this.#waiting.get(name) ?? []), resolve]))
    try {
      return await job()
    } finally {
      this.#next(name)
    }
  }

  /** Whoever waits takes over the place of the one who leaves. */
  #next(name: string): void {
    const [next, ...rest] = this.#waiting.get(name) ?? []
    if (rest.length > 0) this.#waiting.set(name, rest)
    else this.#waiting.delete(name)
    if (next !== undefined) {
      next()
      return
    }
    const running = (this.#running.get(name) ?? 1) - 1
    if (running > 0) this.#running.set(name, running)
    else this.#running.delete(name)
  }
}
