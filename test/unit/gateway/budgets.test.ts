// Budgets that several processes draw on, at a clock that the test moves.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { DrawnBudget } from '../../../src/gateway/drawn-budget.ts'
import { RateDesk } from '../../../src/gateway/rate-desk.ts'
import { RateBook } from '../../../src/gateway/rates.ts'

const NAME = { key: 'export disk', kind: 'read' } as const
const RATE = 1_000_000
const SECONDS = 10

/** A session that asks for requests of `bytes` as fast as its budget lets it, looking every 2 ms; what it got. */
function busy(desk: RateDesk, bytes: number): { readonly got: () => number; look(): void } {
  const budget = new DrawnBudget(RATE, (rate, count) => desk.draw(NAME, rate, count))
  let got = 0
  const look = (): void => {
    while (budget.waitMs() === 0) {
      budget.take(bytes)
      got += bytes
    }
  }
  return { got: () => got, look }
}

async function run(sessions: readonly { look(): void }[], seconds: number): Promise<void> {
  for (let ms = 0; ms < seconds * 1000; ms += 2) {
    for (const each of sessions) each.look()
    await vi.advanceTimersByTimeAsync(2)
  }
}

describe('a budget that two processes draw on', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  it.each([4096, 65_536, 250_000])(
    'is kept to by both together over ten seconds, with requests of %d bytes',
    async bytes => {
      const desk = new RateDesk()
      const [one, two] = [busy(desk, bytes), busy(desk, bytes)]
      await run([one, two], SECONDS)
      const all = one.got() + two.got()
      // A request that has begun may overdraw, by each of the two.
      expect(all).toBeGreaterThan(0.95 * RATE * SECONDS)
      expect(all).toBeLessThan(1.05 * RATE * SECONDS + 2 * bytes)
      expect(one.got()).toBeGreaterThan(0.4 * all)
      expect(two.got()).toBeGreaterThan(0.4 * all)
    },
  )

  it('is all for the one that uses it', async () => {
    const desk = new RateDesk()
    const one = busy(desk, 10_000)
    busy(desk, 10_000)
    await run([one], SECONDS)
    expect(one.got()).toBeGreaterThan(0.95 * RATE * SECONDS)
    expect(one.got()).toBeLessThan(1.05 * RATE * SECONDS)
  })
})

describe('budgets that another process has a part in from now on', () => {
  it('take the place of those that sessions have, at their rates', () => {
    const book = new RateBook()
    const [buckets] = book.take([{ key: 'disk', read: 1000, iops: 10 }])
    const made: unknown[] = []
    const budget = { setRate: () => {}, waitMs: () => 0, take: () => {} }
    book.replace((name, perSecond) => {
      made.push([name.key, name.kind, perSecond])
      return budget
    })
    expect(made).toEqual([
      ['disk', 'read', 1000],
      ['disk', 'iops', 10],
    ])
    expect(buckets).toEqual({ read: budget, iops: budget })
    // And of those who come later.
    book.take([{ key: 'other', write: 5 }])
    expect(made.at(-1)).toEqual(['other', 'write', 5])
  })
})
