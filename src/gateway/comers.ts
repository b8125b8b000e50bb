/** From where connections have come: an address (undefined: a Unix socket, or a balancer that has not said whom it speaks for), by which door, how many. */
export type Comer = readonly [address: string | undefined, count: number, door: string | undefined]

/** Counts connections by address and door together. */
export class Comers {
  readonly #counts = new Map<string, Comer>()

  add(address: string | undefined, door: string | undefined, count = 1): void {
    const key = keyOf(address, door)
    const before = this.#counts.get(key)?.[1] ?? 0
    this.#counts.set(key, [address, before + count, door])
  }

  remove(address: string | undefined, door: string | undefined): void {
    const key = keyOf(address, door)
    const left = (this.#counts.get(key)?.[1] ?? 0) - 1
    if (left > 0) this.#counts.set(key, [address, left, door])
    else this.#counts.delete(key)
  }

  list(): readonly Comer[] {
    return [...this.#counts.values()]
  }
}

/** No address has a blank in it. */
function keyOf(address: string | undefined, door: string | undefined): string {
  return `${address ?? ''} ${door ?? ''}`
}
