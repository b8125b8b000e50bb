/** Columns of numbers over time, of a length that never changes: the oldest falls out. A gap is NaN. */
export class History<Name extends string> {
  readonly times: Float64Array
  readonly #columns: Readonly<Record<Name, Float64Array>>
  readonly #names: readonly Name[]

  constructor(names: readonly Name[], length: number) {
    this.#names = names
    this.times = new Float64Array(length).fill(Number.NaN)
    const columns = names.map(name => [name, new Float64Array(length).fill(Number.NaN)] as const)
    this.#columns = Object.fromEntries(columns) as Record<Name, Float64Array>
  }

  add(time: number, values: Readonly<Record<Name, number | undefined>>): void {
    push(this.times, time)
    for (const name of this.#names) push(this.#columns[name], values[name] ?? Number.NaN)
  }

  /** The times and these columns as a plot wants them: from the first time on, null for a gap. */
  plot(...names: readonly Name[]): [number[], ...(number | null)[][]] {
    const from = this.times.findIndex(time => !Number.isNaN(time))
    if (from < 0) return [[], ...names.map(() => [])]
    const gaps = (column: Float64Array): (number | null)[] =>
      Array.from(column.subarray(from), value => (Number.isNaN(value) ? null : value))
    return [[...this.times.subarray(from)], ...names.map(name => gaps(this.#columns[name]))]
  }

  last(name: Name): number | undefined {
    const value = this.#columns[name].at(-1)
    return value === undefined || Number.isNaN(value) ? undefined : value
  }

  /** The last so many values. */
  tail(name: Name, count: number): Float64Array {
    return this.#columns[name].subarray(-count)
  }
}

function push(column: Float64Array, value: number): void {
  column.copyWithin(0, 1)
  column[column.length - 1] = value
}
