import { expect, it } from 'vitest'
import { keepAliveFor } from '../../../src/doors/vanishing.ts'

it.each([
  [3000, { idleS: 1, intervalS: 1, probes: 2, timeoutMs: 3000 }],
  [30_000, { idleS: 10, intervalS: 5, probes: 4, timeoutMs: 30_000 }],
  [86_400_000, { idleS: 28_800, intervalS: 14_400, probes: 4, timeoutMs: 86_400_000 }],
])('asks often enough to know within %i ms', (ms, expected) => {
  expect(keepAliveFor(ms)).toEqual(expected)
})
