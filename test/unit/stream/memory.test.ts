import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Memory, Share, SURE_BYTES } from '../../../src/stream/memory.ts'

const MiB = 1024 * 1024
const PIECE = 64 * 1024

/** Takes pieces as long as it may, and gives back what is too much by then. */
function take(share: Share, bytes: number): void {
  while (share.bytes <= share.mostBytes) share.add(bytes)
  while (share.bytes > share.mostBytes) share.add(-bytes)
}

describe('a share of memory', () => {
  it('is its own limit while others hold little', () => {
    const memory = new Memory(100 * MiB)
    const share = new Share(memory, 8 * MiB)
    expect(share.mostBytes).toBe(8 * MiB)
    new Share(memory, Infinity).hold(92 * MiB)
    expect(share.mostBytes).toBe(8 * MiB)
  })

  it('is what is left over where that is less, and never less than what is sure', () => {
    const memory = new Memory(10 * MiB)
    const [share, other] = [new Share(memory, 8 * MiB), new Share(memory, Infinity)]
    other.hold(7 * MiB)
    expect(share.mostBytes).toBe(3 * MiB)
    other.hold(11 * MiB)
    expect(share.mostBytes).toBe(SURE_BYTES)
    memory.setLimit(20 * MiB)
    expect(share.mostBytes).toBe(8 * MiB)
    expect(new Share(new Memory(), 1).mostBytes).toBe(SURE_BYTES)
  })

  it('is nothing any more once it is over, whatever it is told', () => {
    const memory = new Memory(10 * MiB)
    const share = new Share(memory, MiB)
    share.hold(5)
    share.add(3)
    expect([share.bytes, memory.heldBytes]).toEqual([8, 8])
    share.end()
    share.hold(7)
    share.add(7)
    expect([share.bytes, memory.heldBytes]).toEqual([0, 0])
  })

  it('is the same for all who want more than there is, and a part is left for who comes', () => {
    const counts = fc.integer({ min: 1, max: 60 })
    const run = (count: number): void => {
      const memory = new Memory(64 * MiB)
      const shares = Array.from({ length: count }, () => new Share(memory, Infinity))
      for (let round = 0; round < 200; round++) for (const share of shares) take(share, PIECE / 8)
      const part = (64 * MiB) / (count + 1)
      for (const { bytes } of shares) expect(Math.abs(bytes - part)).toBeLessThan(part / 4)
      expect(memory.leftBytes).toBeGreaterThan(part / 2)
      expect(new Share(memory, Infinity).mostBytes).toBeGreaterThan(part / 2)
    }
    fc.assert(fc.property(counts, run), { numRuns: 20 })
  })

  it('never makes all together more than the limit, but for what is sure and one piece of each', () => {
    const steps = fc.array(fc.tuple(fc.nat(39), fc.integer({ min: -3 * MiB, max: 3 * MiB })), { maxLength: 400 })
    const run = (plan: readonly (readonly [number, number])[]): void => {
      const memory = new Memory(8 * MiB)
      const shares = Array.from({ length: 40 }, () => new Share(memory, 4 * MiB))
      for (const [at, bytes] of plan) {
        const share = shares[at]
        if (share === undefined) continue
        if (bytes < 0) share.add(-Math.min(share.bytes, -bytes))
        else for (let left = bytes; left > 0 && share.bytes <= share.mostBytes; left -= PIECE) share.add(PIECE)
        const total = shares.reduce((sum, each) => sum + each.bytes, 0)
        expect(memory.heldBytes).toBe(total)
        const extra = shares.filter(each => each.bytes > 0).length * (SURE_BYTES + PIECE)
        expect(total).toBeLessThanOrEqual(8 * MiB + extra)
        // Who has little can always go on.
        for (const each of shares) if (each.bytes <= SURE_BYTES) expect(each.bytes <= each.mostBytes).toBe(true)
      }
    }
    fc.assert(fc.property(steps, run), { numRuns: 60 })
  })
})
