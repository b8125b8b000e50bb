/** Counts by key. A reload does not forget them. */
export class Tally {
  readonly #counts = new Map<string, number>()

  /** Counts one more for each key, or for none if that would be more than one of them may have (undefined: any number). */
  add(keys: readonly (readonly [key: string, most: number | undefined])[]): boolean {
    const isFull = keys.some(([key, most]) => most !== undefined && (this.#counts.get(key) ?? 0) >= most)
    if (isFull) return false
    for (const [key] of keys) this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1)
    return true
  }

  /** Counts one less for each key; what was not counted is left alone. */
  remove(keys: readonly string[]): void {
    for (const key of keys) {
      const left = (this.#counts.get(key) ?? 0) - 1
      if (left > 0) this.#counts.set(key, left)
      else this.#counts.delete(key)
    }
  }
}
