import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Ledger } from '../../../src/relay/ledger.ts'

/** Bytes that a list of changes has touched, each counted once. */
function covered(changes: readonly (readonly [number, number])[]): number {
  return new Set(changes.flatMap(([start, length]) => Array.from({ length }, (_, at) => start + at))).size
}

describe('a ledger of what is not flushed', () => {
  it('joins what goes on where the last change has ended', () => {
    const ledger = new Ledger()
    for (let at = 0; at < 10_000; at++) ledger.add(at * 4096, 4096)
    expect(ledger.unflushed).toEqual({ bytes: 40_960_000, ranges: 1 })
    expect(ledger.clear()).toEqual({ bytes: 40_960_000, ranges: 1 })
    expect(ledger.unflushed).toEqual({ bytes: 0, ranges: 0 })
  })

  it('forgets with a FLUSH what was there when it was sent, and keeps what goes on behind it', () => {
    const ledger = new Ledger()
    ledger.add(0, 10)
    ledger.flushing(3)
    ledger.add(10, 5)
    ledger.flushed(3)
    expect(ledger.unflushed).toEqual({ bytes: 5, ranges: 1 })
  })

  it('has a bound, above which it says more than was written and never less', () => {
    const ledger = new Ledger()
    for (let at = 0; at < 5000; at++) ledger.add(at * 10, 5)
    expect(ledger.unflushed.ranges).toBeLessThanOrEqual(1024)
    expect(ledger.unflushed.bytes).toBeGreaterThanOrEqual(25_000)
    ledger.flushing(0)
    ledger.flushed(0)
    expect(ledger.unflushed).toEqual({ bytes: 0, ranges: 0 })
  })

  it('says nothing is unflushed only when nothing is, whatever comes in which order', () => {
    const step = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          kind: fc.constant('write' as const),
          at: fc.nat(4000),
          length: fc.integer({ min: 1, max: 8 }),
        }),
      },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('flushing' as const), slot: fc.nat(3) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('flushed' as const), slot: fc.nat(3) }) },
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 3000, size: 'max' }), steps => {
        const ledger = new Ledger()
        let open: (readonly [number, number])[] = []
        const sent = new Map<number, readonly (readonly [number, number])[]>()
        for (const each of steps) {
          if (each.kind === 'write') {
            ledger.add(each.at, each.length)
            open.push([each.at, each.length])
          } else if (each.kind === 'flushing') {
            ledger.flushing(each.slot)
            sent.set(each.slot, [...open])
          } else {
            const safe = sent.get(each.slot)
            if (safe === undefined) continue
            sent.delete(each.slot)
            ledger.flushed(each.slot)
            open = open.filter(change => !safe.includes(change))
          }
          const { bytes, ranges } = ledger.unflushed
          expect(ranges).toBeLessThanOrEqual(1024)
          expect(bytes > 0).toBe(ranges > 0)
          if (open.length > 0) expect(ranges).toBeGreaterThan(0)
        }
        expect(ledger.unflushed.bytes).toBeGreaterThanOrEqual(covered(open))
      }),
      { numRuns: 10 },
    )
  })
})
