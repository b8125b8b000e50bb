import { expect, it } from 'vitest'
import { globMatches } from '../../../src/config/glob.ts'

it('a star stands for any text and everything else for itself', () => {
  const cases: readonly (readonly [string, string, boolean])[] = [
    ['*', '', true],
    ['*', 'disk', true],
    ['disk', 'disk', true],
    ['disk', 'disk1', false],
    ['lab-*', 'lab-', true],
    ['lab-*', 'lab', false],
    ['*-lab', 'a-lab', true],
    ['a*a', 'a', false],
    ['a*b*c', 'abc', true],
    ['a*b*c', 'a-b-b-c', true],
    ['a*bc*c', 'abc', false],
    ['a**b', 'ab', true],
    ['.*', 'disk', false],
  ]
  for (const [pattern, name, matches] of cases) expect(globMatches(pattern, name), `${pattern} ${name}`).toBe(matches)
})

it('a pattern of many stars does not take long', () => {
  expect(globMatches(`${'a*'.repeat(2000)}b`, 'a'.repeat(4096))).toBe(false)
})
