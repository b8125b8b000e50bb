import {
  FIRST_BYTES,
  LUKS2_HEADER_SIZES,
  luks1Problem,
  luks2HeaderBytes,
  luks2Problem,
  luksVersion,
} from './luks-header.ts'

/** Reads from an export. */
export type ReadBytes = (offset: number, length: number) => Promise<Buffer>

/** What was found where a LUKS header has to be. */
export type Found =
  | { readonly kind: 'luks'; readonly version: 1 | 2; readonly guard: LuksGuard }
  | { readonly kind: 'none'; readonly problem: string }

/**
 * The LUKS header of an export as it is now, as far as writes have passed by here, and what a further write would make
 * of it. One good copy is enough, as it is for cryptsetup, which writes one after the other.
 */
export class LuksGuard {
  /** Where its first byte is. */
  readonly at: number
  #header: Buffer
  #isFrozen = false

  /** `header`: all bytes from `at` on in which headers are. */
  constructor(at: number, header: Buffer) {
    this.at = at
    this.#header = header
  }

  /** The header as it is now. */
  get header(): Buffer {
    return this.#header
  }

  /** Whether a range has a byte of the header in it. */
  touches(offset: number, length: number): boolean {
    return offset < this.at + this.#header.length && offset + length > this.at
  }

  /** The header stays as it is from now on: somebody else judges it, and does not hear of what passes by here. */
  freeze(): void {
    this.#isFrozen = true
  }

  /** Takes a write if it leaves a LUKS header; false: it would not. `bytes`: what is written, or how many zeroes. */
  admits(offset: number, bytes: Buffer | number): boolean {
    if (this.#isFrozen) return false
    const next = Buffer.from(this.#header)
    const from = offset - this.at
    if (typeof bytes === 'number') next.fill(0, Math.max(0, from), Math.min(next.length, from + bytes))
    else bytes.copy(next, Math.max(0, from), Math.max(0, -from))
    if (headerProblem(next) !== undefined) return false
    this.#header = next
    return true
  }
}

/** Looks for a LUKS header at `at` of an export of `sizeBytes`. Throws what `read` throws. */
export async function findLuks(read: ReadBytes, at: number, sizeBytes: bigint): Promise<Found> {
  const has = (bytes: number): boolean => BigInt(at + bytes) <= sizeBytes
  if (!has(FIRST_BYTES)) return { kind: 'none', problem: 'it is too small' }
  const first = await read(at, FIRST_BYTES)
  if (luksVersion(first) === 1) return found(1, at, first)
  const size = luks2HeaderBytes(first)
  // Where the first copy is gone, the second can be at each of the places that there are.
  const sizes = luksVersion(first) === 2 && size !== undefined ? [size] : LUKS2_HEADER_SIZES
  let problem = first.every(byte => byte === 0) ? 'it is empty' : 'it has no LUKS header'
  for (const each of sizes.filter(each => has(2 * each))) {
    const second = await read(at + each, FIRST_BYTES)
    if (size !== each && luks2HeaderBytes(second) !== each) continue
    const answer = found(2, at, Buffer.concat([await read(at, each), await read(at + each, each)]))
    if (answer.kind === 'luks') return answer
    problem = answer.problem
  }
  return { kind: 'none', problem }
}

function found(version: 1 | 2, at: number, header: Buffer): Found {
  const problem = headerProblem(header)
  return problem === undefined
    ? { kind: 'luks', version, guard: new LuksGuard(at, header) }
    : { kind: 'none', problem: `it has ${problem}` }
}

function headerProblem(header: Buffer): string | undefined {
  if (luksVersion(header) === 1) return luks1Problem(header)
  const half = header.length / 2
  const second = (): string | undefined => luks2Problem(header.subarray(half), half)
  const problem = luks2Problem(header.subarray(0, half), 0)
  return problem === undefined || second() === undefined ? undefined : problem
}
