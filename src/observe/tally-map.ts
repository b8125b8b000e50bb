import type { Value } from './metric-family.ts'

/** Counts by label values. */
export class TallyMap {
  readonly #names: readonly string[]
  readonly #counts = new Map<string, { readonly labels: Readonly<Record<string, string>>; count: number }>()

  /** `names`: of the labels. */
  constructor(names: readonly string[]) {
    this.#names = names
  }

  /** Counts one more, or `times`, for these values, in the order of the labels. */
  add(values: readonly string[], times = 1): void {
    const key = values.join('\0')
    const entry = this.#counts.get(key)
    if (entry !== undefined) {
      entry.count += times
      return
    }
    const labels = Object.fromEntries(this.#names.map((name, index) => [name, values[index] ?? '']))
    this.#counts.set(key, { labels, count: times })
  }

  /** These are there from now on, with nothing counted yet; others that nothing was counted of are not. */
  expect(all: readonly (readonly string[])[]): void {
    for (const [key, { count }] of this.#counts) if (count === 0) this.#counts.delete(key)
    for (const values of all) this.add(values, 0)
  }

  values(): readonly Value[] {
    return [...this.#counts.values()].map(({ labels, count }) => [count, labels])
  }
}
