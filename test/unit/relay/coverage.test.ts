import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Coverage } from '../../../src/relay/coverage.ts'

describe('bytes of a READ that come out of order', () => {
  it('are taken once each, whatever their order and their cuts, as a list of bytes says', () => {
    const chunk = fc.record({ from: fc.nat(60), size: fc.integer({ min: 1, max: 12 }) })
    fc.assert(
      fc.property(fc.nat(8), fc.array(chunk, { maxLength: 40 }), (before, chunks) => {
        const coverage = new Coverage()
        const isThere = new Set(Array.from({ length: before }, (_, at) => at))
        for (const { from, size } of chunks) {
          const bytes = Array.from({ length: size }, (_, at) => from + at)
          const isNew = bytes.every(each => !isThere.has(each))
          expect(coverage.add(3, before, { from, to: from + size })).toBe(isNew)
          if (!isNew) return
          for (const each of bytes) isThere.add(each)
        }
      }),
    )
  })

  it('are forgotten with their READ, and those of one slot are not another’s', () => {
    const coverage = new Coverage()
    expect(coverage.add(1, 0, { from: 512, to: 1024 })).toBe(true)
    expect(coverage.has(1)).toBe(true)
    expect(coverage.has(2)).toBe(false)
    expect(coverage.add(2, 0, { from: 512, to: 1024 })).toBe(true)
    coverage.forget(1)
    expect(coverage.has(1)).toBe(false)
    expect(coverage.add(1, 0, { from: 512, to: 1024 })).toBe(true)
    expect(coverage.add(2, 0, { from: 512, to: 513 })).toBe(false)
  })

  it('are not taken in more pieces than can be remembered', () => {
    const coverage = new Coverage()
    for (let piece = 0; piece < 4096; piece++) {
      expect(coverage.add(0, 0, { from: 2 * piece + 1, to: 2 * piece + 2 })).toBe(true)
    }
    expect(coverage.add(0, 0, { from: 9001, to: 9002 })).toBe(false)
  })
})
