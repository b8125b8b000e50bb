import { Cmd } from '../protocol/constants.ts'

/** Into how many regions an export is divided at most. */
const REGIONS = 1024

/** How often each region of an export was asked for since somebody watches; the last region may be shorter. */
export interface RegionFacts {
  readonly sizeBytes: number
  /** How long a region is. */
  readonly regionBytes: number
  readonly reads: readonly number[]
  /** WRITE, TRIM and WRITE_ZEROES. */
  readonly writes: readonly number[]
}

/**
 * Counts requests by the regions that they touch. A request costs two additions however long it is: what is kept is where
 * ranges begin and where they have ended, and the sums are made when somebody looks.
 */
export class RegionCounts {
  readonly sizeBytes: number
  readonly #regionBytes: number
  readonly #reads = new Float64Array(REGIONS + 1)
  readonly #writes = new Float64Array(REGIONS + 1)

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes
    this.#regionBytes = Math.max(Math.ceil(sizeBytes / REGIONS), 1)
  }

  /** A request whose offset stands at `offsetAt` of `head`. */
  count(type: number, head: Buffer, offsetAt: number, length: number): void {
    const changes = type === Cmd.WRITE || type === Cmd.TRIM || type === Cmd.WRITE_ZEROES
    if ((!changes && type !== Cmd.READ) || length === 0) return
    const edges = changes ? this.#writes : this.#reads
    const offset = head.readUInt32BE(offsetAt) * 2 ** 32 + head.readUInt32BE(offsetAt + 4)
    const first = this.#regionOf(offset)
    const behind = this.#regionOf(offset + length - 1) + 1
    edges[first] = (edges[first] ?? 0) + 1
    edges[behind] = (edges[behind] ?? 0) - 1
  }

  facts(): RegionFacts {
    const count = Math.ceil(this.sizeBytes / this.#regionBytes)
    const counts = { reads: sums(this.#reads, count), writes: sums(this.#writes, count) }
    return { sizeBytes: this.sizeBytes, regionBytes: this.#regionBytes, ...counts }
  }

  #regionOf(offset: number): number {
    return Math.min(Math.floor(offset / this.#regionBytes), REGIONS - 1)
  }
}

/** What several processes have counted on one export. Where they know it by different sizes the largest counts alone. */
export function sumRegions(all: readonly RegionFacts[]): RegionFacts | undefined {
  const largest = all.toSorted((a, b) => b.sizeBytes - a.sizeBytes)[0]
  if (largest === undefined) return undefined
  const same = all.filter(({ sizeBytes }) => sizeBytes === largest.sizeBytes)
  const sum = (of: (each: RegionFacts) => readonly number[]): readonly number[] =>
    of(largest).map((_, region) => same.reduce((total, each) => total + (of(each)[region] ?? 0), 0))
  return { ...largest, reads: sum(({ reads }) => reads), writes: sum(({ writes }) => writes) }
}

function sums(edges: Float64Array, count: number): readonly number[] {
  let sum = 0
  return Array.from({ length: count }, (_, region) => {
    sum += edges[region] ?? 0
    return sum
  })
}
