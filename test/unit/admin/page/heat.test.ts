import { expect, it } from 'vitest'
import { Heat } from '../../../../src/admin/page/heat.ts'

const counts = (reads: readonly number[], writes: readonly number[] = reads.map(() => 0)) => ({
  sizeBytes: reads.length,
  regionBytes: 1,
  reads,
  writes,
})

it('warms what was asked for since the last answer, and cools down to nothing', () => {
  const heat = new Heat()
  heat.feed(counts([0, 0, 0]))
  heat.feed(counts([0, 1, 0], [0, 0, 5000]))
  expect(heat.reads[0]).toBe(0)
  const [read, written] = [heat.reads[1] ?? 0, heat.writes[2] ?? 0]
  expect(read).toBeGreaterThan(0.5)
  expect(written).toBeGreaterThan(read)
  expect(written).toBeLessThanOrEqual(1)
  expect(heat.cool(1500)).toBe(true)
  expect(heat.reads[1]).toBeCloseTo(read / 2)
  expect(heat.cool(60_000)).toBe(false)
  expect([...heat.reads, ...heat.writes]).toEqual([0, 0, 0, 0, 0, 0])
  expect([...heat.touched]).toEqual([0, 1, 2])
})

it('what is not asked for any more stays cold, and is remembered', () => {
  const heat = new Heat()
  for (const each of [counts([1, 0], [1, 0]), counts([1, 0], [1, 0])]) {
    heat.feed(each)
    heat.cool(60_000)
  }
  expect([...heat.reads, ...heat.writes]).toEqual([0, 0, 0, 0])
  expect([...heat.touched]).toEqual([3, 0])
})

it('counts that begin again are taken for new ones', () => {
  const heat = new Heat()
  heat.feed(counts([100, 100]))
  heat.cool(60_000)
  heat.feed(counts([2, 0]))
  expect(heat.reads[0]).toBeGreaterThan(0.5)
  expect(heat.reads[1]).toBe(0)
})

it('another disk has nothing of the one before', () => {
  const heat = new Heat()
  heat.feed(counts([1, 1, 1]))
  heat.feed(counts([0, 0]))
  expect([...heat.reads, ...heat.touched]).toEqual([0, 0, 0, 0])
  heat.feed(counts([1, 0]))
  heat.clear()
  expect([heat.facts, heat.reads.length]).toEqual([undefined, 0])
})
