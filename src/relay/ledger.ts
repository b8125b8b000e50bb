/** Ranges at the start, and at most: above that they are joined, at worst into one that has them all in it. */
const FIRST_RANGES = 16
const MOST_RANGES = 1024

/** What is not known to be safe. */
export interface Unflushed {
  readonly bytes: number
  readonly ranges: number
}

/**
 * What the upstream has acknowledged and no FLUSH has covered yet: ranges, the oldest first. A FLUSH covers what was
 * acknowledged before it was sent. In doubt a range counts as not covered. Columns of numbers: a write that goes on where
 * the last one has ended allocates nothing, any other hardly ever.
 */
export class Ledger {
  // Those who write nothing have none.
  #starts = new Float64Array(0)
  #ends = new Float64Array(0)
  #count = 0
  #bytes = 0
  /** The number of the range at index 0; they are numbered as they come. */
  #first = 0
  /** Ranges of a lower number were there when a FLUSH was sent: they do not grow. */
  #sealed = 0
  /** By slot of a FLUSH: ranges of a lower number are covered by it. */
  readonly #marks: number[] = []

  /** How much there is, at most. */
  get unflushed(): Unflushed {
    return { bytes: this.#bytes, ranges: this.#count }
  }

  get bytes(): number {
    return this.#bytes
  }

  /** A change of a range has been acknowledged. */
  add(start: number, length: number): void {
    const last = this.#count - 1
    const end = start + length
    if (last >= 0 && this.#first + last >= this.#sealed) {
      const [lastStart = 0, lastEnd = 0] = [this.#starts[last], this.#ends[last]]
      if (start >= lastStart && start <= lastEnd) {
        if (end > lastEnd) this.#bytes += end - lastEnd
        this.#ends[last] = Math.max(end, lastEnd)
        return
      }
    }
    if (this.#count === this.#starts.length) this.#makeRoom()
    this.#starts[this.#count] = start
    this.#ends[this.#count] = end
    this.#count++
    this.#bytes += length
  }

  /** A FLUSH goes out. */
  flushing(slot: number): void {
    this.#sealed = this.#first + this.#count
    this.#marks[slot] = this.#sealed
  }

  /** A FLUSH has succeeded. */
  flushed(slot: number): void {
    const covered = Math.min(this.#count, Math.max(0, (this.#marks[slot] ?? 0) - this.#first))
    for (let at = 0; at < covered; at++) this.#bytes -= (this.#ends[at] ?? 0) - (this.#starts[at] ?? 0)
    this.#starts.copyWithin(0, covered, this.#count)
    this.#ends.copyWithin(0, covered, this.#count)
    this.#count -= covered
    this.#first += covered
  }

  /** Nothing of it is to be waited for any more; what it was. */
  clear(): Unflushed {
    const unflushed = this.unflushed
    this.#first += this.#count
    this.#count = 0
    this.#bytes = 0
    return unflushed
  }

  #makeRoom(): void {
    const { length } = this.#starts
    if (length < MOST_RANGES) {
      this.#starts = grown(this.#starts)
      this.#ends = grown(this.#ends)
    } else this.#join()
  }

  /** Joins what touches; if that leaves too many, all of it. Nobody knows then what a FLUSH that is out has covered. */
  #join(): void {
    const order = Array.from({ length: this.#count }, (_, at) => at)
    const { first, starts, ends } = { first: this.#first + this.#count, starts: this.#starts, ends: this.#ends }
    order.sort((a, b) => (starts[a] ?? 0) - (starts[b] ?? 0))
    const joined: [number, number][] = []
    for (const at of order) {
      const [start = 0, end = 0] = [starts[at], ends[at]]
      const last = joined.at(-1)
      if (last !== undefined && start <= last[1]) last[1] = Math.max(last[1], end)
      else joined.push([start, end])
    }
    const [lowest, highest] = [joined[0]?.[0] ?? 0, joined.at(-1)?.[1] ?? 0]
    const kept: readonly (readonly [number, number])[] = joined.length > MOST_RANGES / 2 ? [[lowest, highest]] : joined
    this.#first = first
    this.#count = 0
    this.#bytes = 0
    for (const [start, end] of kept) {
      starts[this.#count] = start
      ends[this.#count++] = end
      this.#bytes += end - start
    }
    this.#sealed = first
  }
}

function grown(column: Float64Array): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(Math.max(FIRST_RANGES, column.length * 2))
  larger.set(column)
  return larger
}
