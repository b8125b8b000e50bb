import { Err } from './constants.ts'

/** Values of Linux that servers let through, and what proto.md, "Error values", wants them to be. */
const EFBIG = 27
const EDQUOT = 122

const KNOWN: ReadonlySet<number> = new Set(Object.values(Err))

/**
 * An error value as the spec knows it (proto.md, "Error values"): EFBIG and EDQUOT are ENOSPC, and a client SHOULD treat
 * what it does not expect as EINVAL. 0 stays 0.
 */
export function portableError(value: number): number {
  if (KNOWN.has(value)) return value
  return value === EFBIG || value === EDQUOT ? Err.NOSPC : Err.INVAL
}
