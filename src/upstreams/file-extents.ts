import { SeekTo, seekFile } from '../platform/libc.ts'

/** A stretch of a file, in bytes; a hole reads as zeroes. */
export interface Extent {
  readonly offset: number
  readonly length: number
  readonly isHole: boolean
}

/** Pieces that a range is told apart in at most; the rest of it counts as data. */
const MOST_PIECES = 16

/**
 * Where a file has data and where it has none. What was once found to be data is not looked at again: a hole that has come
 * there since reads as zeroes too. The other way round nothing is remembered.
 */
export class FileExtents {
  readonly #fd: number
  #dataFrom = 0
  #dataTo = 0
  #isAble: boolean
  #turn: Promise<unknown> = Promise.resolve()

  /** The descriptor stays the caller's; it must stay open until every look has ended. `isSparse`: it is worth looking. */
  constructor(fd: number, isSparse: boolean) {
    this.#fd = fd
    this.#isAble = isSparse
  }

  /** Whether a range is known to be data, or can not be looked at. */
  isData(offset: number, length: number): boolean {
    return !this.#isAble || (offset >= this.#dataFrom && offset + length <= this.#dataTo)
  }

  /** Looks at a range, one look after the other; without gaps. Never rejects: what can not be told is data. */
  async look(offset: number, length: number): Promise<readonly Extent[]> {
    const look = this.#turn.then(() => this.#look(offset, offset + length))
    this.#turn = look
    return await look
  }

  async #look(offset: number, end: number): Promise<readonly Extent[]> {
    const extents: Extent[] = []
    let at = offset
    while (at < end && extents.length < MOST_PIECES && !this.isData(at, end - at)) {
      const data = await this.#data(at, end)
      if (data > at) extents.push({ offset: at, length: data - at, isHole: true })
      at = data
      if (at >= end || this.isData(at, end - at)) break
      const hole = await seekFile(this.#fd, at, SeekTo.HOLE)
      if (hole === undefined || hole <= at) break
      this.#dataFrom = at
      this.#dataTo = hole
      const to = Math.min(hole, end)
      extents.push({ offset: at, length: to - at, isHole: false })
      at = to
    }
    if (at < end) extents.push({ offset: at, length: end - at, isHole: false })
    return extents
  }

  /** Where the next data are, at most `end`. */
  async #data(at: number, end: number): Promise<number> {
    const data = await seekFile(this.#fd, at, SeekTo.DATA)
    if (data !== undefined) return Math.min(data, end)
    // There are none up to the end of the file, if that is not nearer than it was: then reading has to fail.
    const size = await seekFile(this.#fd, 0, SeekTo.END)
    const isHole = size !== undefined && size >= end && (await seekFile(this.#fd, 0, SeekTo.HOLE)) !== undefined
    if (!isHole) this.#isAble = false
    return isHole ? end : at
  }
}
