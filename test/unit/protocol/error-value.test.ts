import { expect, it } from 'vitest'
import { portableError } from '../../../src/protocol/error-value.ts'

it('error values of the spec stay, EFBIG and EDQUOT are ENOSPC, and all others EINVAL', () => {
  for (const value of [0, 1, 5, 12, 22, 28, 75, 95, 108]) expect(portableError(value)).toBe(value)
  for (const value of [27, 122]) expect(portableError(value)).toBe(28)
  for (const value of [2, 13, 30, 107, 999, 0xffff_ffff]) expect(portableError(value)).toBe(22)
})
