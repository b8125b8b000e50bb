import { expect, it } from 'vitest'
import { SessionMeters } from '../../../src/observe/session-meters.ts'

const relay = () => ({
  counters: { reads: 0, writes: 0, flushes: 0, others: 0, refused: 0, bytesRead: 0, bytesWritten: 0 },
  inFlight: 0,
})

const summary = (meters: SessionMeters) =>
  Object.fromEntries(
    meters.totals().map(({ name, counts, uses, inFlight }) => [name, [counts.reads, uses.length, inFlight]]),
  )

it('goes on counting what a session has done after its end, and counts it once', () => {
  const meters = new SessionMeters()
  meters.retain(['disk'])
  const [one, two] = [relay(), relay()]
  const end = meters.begin(one, { export: 'disk', rights: 'write', sizeBytes: 1024n })
  meters.begin(two, { export: 'disk', rights: 'read', sizeBytes: 1024n })
  one.counters.reads = 5
  two.counters.reads = 2
  two.inFlight = 1
  expect(summary(meters)).toEqual({ disk: [7, 2, 1] })
  end()
  end()
  two.counters.reads = 3
  expect(summary(meters)).toEqual({ disk: [8, 1, 1] })
})

it('counts exports that are not configured any more as one, and loses nothing of them', () => {
  const meters = new SessionMeters()
  meters.retain(['a', 'b'])
  const [one, two] = [relay(), relay()]
  const end = meters.begin(one, { export: 'a', rights: 'write', sizeBytes: 1024n })
  meters.begin(two, { export: 'b', rights: 'write', sizeBytes: 1024n })
  meters.of('a').wait(250)
  one.counters.reads = 5
  two.counters.reads = 7
  meters.retain([])
  expect(summary(meters)).toEqual({ other: [12, 2, 0] })
  one.counters.reads = 6
  end()
  expect(summary(meters)).toEqual({ other: [13, 1, 0] })
  expect(meters.of('a').waitMs).toBe(250)
  meters.begin(relay(), { export: 'c', rights: 'read', sizeBytes: 1024n })
  expect(Object.keys(summary(meters))).toEqual(['other'])
})

it('counts exports that an upstream lists one by one while they are used, and with all others in metrics', () => {
  const meters = new SessionMeters()
  meters.retain(['disk'], ['vm1', 'vm2'])
  expect(Object.keys(summary(meters))).toEqual(['disk'])
  const [one, two] = [relay(), relay()]
  const end = meters.begin(one, { export: 'vm1', rights: 'read', sizeBytes: 1024n })
  meters.begin(two, { export: 'vm2', rights: 'write', sizeBytes: 1024n })
  meters.of('vm1').wait(250)
  one.counters.reads = 5
  two.counters.reads = 7
  const seen = () =>
    meters
      .traffic()
      .map(({ name, reads, waits }) => [name, reads, waits])
      .toSorted()
  expect(summary(meters)).toEqual({ disk: [0, 0, 0], other: [12, 2, 0] })
  expect(seen()).toEqual([
    ['disk', 0, 0],
    ['vm1', 5, 1],
    ['vm2', 7, 0],
  ])
  expect(meters.regions('vm1')).toMatchObject({ sizeBytes: 1024 })
  // Not listed any more: what was counted stays in the sum.
  end()
  meters.retain(['disk'], ['vm1'])
  expect(summary(meters)).toEqual({ disk: [0, 0, 0], other: [12, 1, 0] })
  expect(seen()).toEqual([
    ['disk', 0, 0],
    ['other', 7, 0],
    ['vm1', 5, 1],
  ])
})

it('keeps a bounded number of exports that an upstream lists and nobody uses, and loses nothing of the others', () => {
  const meters = new SessionMeters()
  const names = Array.from({ length: 1000 }, (_, at) => `vm${at}`)
  meters.retain([], names)
  for (const name of names) {
    const used = relay()
    const end = meters.begin(used, { export: name, rights: 'read', sizeBytes: 1024n })
    used.counters.reads = 1
    end()
  }
  expect(meters.traffic().length).toBeLessThan(300)
  expect(meters.traffic().at(-1)?.name).toBe('vm999')
  expect(summary(meters)).toEqual({ other: [1000, 0, 0] })
})

it('names exports so that a label can have it', () => {
  const meters = new SessionMeters()
  meters.retain(['a\n\u202eb', 'x'.repeat(4096)])
  const names = meters.totals().map(({ name }) => name)
  expect(names).toEqual(['a\\u{a}\\u{202e}b', `${'x'.repeat(128)}…`])
})
