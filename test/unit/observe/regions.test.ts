import { afterEach, expect, it, vi } from 'vitest'
import { ExportMeter } from '../../../src/observe/export-meter.ts'
import { RegionCounts, sumRegions } from '../../../src/observe/region-counts.ts'
import { SessionMeters } from '../../../src/observe/session-meters.ts'
import { Cmd } from '../../../src/protocol/constants.ts'
import { Pending } from '../../../src/relay/pending.ts'
import { hex } from '../../support/bytes.ts'

/** A request's offset, in its place of the head. */
function at(offset: bigint): Buffer {
  const head = Buffer.alloc(8)
  head.writeBigUInt64BE(offset)
  return head
}

const MIB = 2 ** 20

it('counts each region that a request touches, once', () => {
  const regions = new RegionCounts(1024 * MIB)
  const ask = (type: number, offset: number, length: number) => regions.count(type, at(BigInt(offset)), 0, length)
  ask(Cmd.READ, 0, 4096)
  ask(Cmd.READ, MIB - 1, 2)
  ask(Cmd.WRITE, 10 * MIB, 3 * MIB)
  ask(Cmd.TRIM, 1023 * MIB, MIB)
  ask(Cmd.WRITE_ZEROES, 12 * MIB, 1)
  for (const type of [Cmd.FLUSH, Cmd.CACHE, Cmd.BLOCK_STATUS, Cmd.DISC]) ask(type, 5 * MIB, MIB)
  ask(Cmd.READ, 7 * MIB, 0)
  const { reads, writes, ...shape } = regions.facts()
  expect(shape).toEqual({ sizeBytes: 1024 * MIB, regionBytes: MIB })
  expect([reads.length, writes.length]).toEqual([1024, 1024])
  expect(reads.flatMap((count, region) => (count > 0 ? [[region, count]] : []))).toEqual([
    [0, 2],
    [1, 1],
  ])
  expect(writes.flatMap((count, region) => (count > 0 ? [[region, count]] : []))).toEqual([
    [10, 1],
    [11, 1],
    [12, 2],
    [1023, 1],
  ])
})

it.each([
  [1, 1, 1],
  [512, 512, 1],
  [1025, 513, 2],
  [10 * 2 ** 40, 1024, 10 * 2 ** 30],
])('a disk of %d bytes has %d regions of %d', (size, count, length) => {
  const regions = new RegionCounts(size)
  regions.count(Cmd.WRITE, at(BigInt(size - 1)), 0, 1)
  const { reads, writes, regionBytes } = regions.facts()
  expect([reads.length, regionBytes, writes.at(-1)]).toEqual([count, length, 1])
})

it('sums what several processes have counted of the same disk', () => {
  const facts = (sizeBytes: number, ...reads: readonly number[]) => ({
    sizeBytes,
    regionBytes: 1,
    reads,
    writes: reads,
  })
  expect(sumRegions([])).toBeUndefined()
  expect(sumRegions([facts(2, 1, 2), facts(1, 9), facts(2, 10, 20)])).toEqual(facts(2, 11, 22))
})

afterEach(() => {
  vi.useRealTimers()
})

it('counts only while somebody asks, and from the first question on', () => {
  vi.useFakeTimers()
  const relay = { counters: { reads: 0, writes: 0, flushes: 0, others: 0, refused: 0, bytesRead: 0, bytesWritten: 0 } }
  const meters = new SessionMeters()
  meters.retain(['disk'])
  expect([meters.regions('disk'), meters.regions('other')]).toEqual([undefined, undefined])
  meters.begin({ ...relay, inFlight: 0 }, { export: 'disk', rights: 'write', sizeBytes: 1024n })
  const meter = meters.of('disk')
  const pending = new Pending(meter)
  // cookie, offset 5, length 1: as they stand in a request
  const read = () => pending.add(hex('0000000000000001 0000000000000005 00000001'), 0, 8, Cmd.READ, 1, 1)
  read()
  expect(meter.regions).toBeUndefined()
  expect(meters.regions('disk')?.reads[5]).toBe(0)
  read()
  expect(meters.regions('disk')?.reads[5]).toBe(1)
  vi.advanceTimersByTime(14_000)
  read()
  expect(meters.regions('disk')?.reads[5]).toBe(2)
  vi.advanceTimersByTime(14_000)
  expect(meter.regions).toBeDefined()
  vi.advanceTimersByTime(2000)
  expect(meter.regions).toBeUndefined()
  expect(meters.regions('disk')?.reads[5]).toBe(0)
  // A disk that has grown has other regions.
  meters.begin({ ...relay, inFlight: 0 }, { export: 'disk', rights: 'read', sizeBytes: 4096n })
  expect(meters.regions('disk')).toMatchObject({ sizeBytes: 4096, regionBytes: 4 })
  meters.retain([])
  expect([meters.regions('disk'), meter.regions]).toEqual([undefined, undefined])
})

it('a meter that nobody watches has nothing to count with', () => {
  expect(new ExportMeter().regions).toBeUndefined()
})
