import { expect, it } from 'vitest'
import { sumTraffic } from '../../../src/gateway/traffic.ts'
import { SessionMeters } from '../../../src/observe/session-meters.ts'
import { Cmd } from '../../../src/protocol/constants.ts'

/** A process with one session on `disk` that has read so much. */
function counted(bytesRead: number): SessionMeters {
  const meters = new SessionMeters()
  meters.retain(['disk', 'idle'])
  const counters = { reads: 1, writes: 2, flushes: 3, others: 4, refused: 5, bytesRead, bytesWritten: 7 }
  meters.begin({ counters, inFlight: 6 }, { export: 'disk', rights: 'read', sizeBytes: 1n })
  meters.of('disk').answered(Cmd.READ, performance.now())
  meters.of('disk').wait(1)
  return meters
}

it('leaves out what upstreams list and nobody has used, and what is no export', () => {
  const meters = new SessionMeters()
  meters.retain(['disk'], ['vm1', 'vm2'])
  const counters = { reads: 1, writes: 0, flushes: 0, others: 0, refused: 0, bytesRead: 9, bytesWritten: 0 }
  for (const name of ['vm2', 'gone']) {
    meters.begin({ counters, inFlight: 0 }, { export: name, rights: 'read', sizeBytes: 1n })
  }
  const exports = [{ name: 'disk' }, { name: 'vm1', isListed: true }, { name: 'vm2', isListed: true }]
  const sums = sumTraffic(exports, [meters.traffic(), meters.traffic()])
  expect(sums.map(({ name, bytesRead }) => [name, bytesRead])).toEqual([
    ['disk', 0],
    ['vm2', 18],
  ])
})

it('adds up what all processes have counted, in the order of the configuration', () => {
  const processes = [counted(100).traffic(), counted(11).traffic()]
  const [idle, disk, ...none] = sumTraffic([{ name: 'idle' }, { name: 'disk' }], processes)
  expect(none).toEqual([])
  expect(idle).toMatchObject({ name: 'idle', reads: 0, inFlight: 0 })
  expect(disk).toMatchObject({ name: 'disk', reads: 2, writes: 4, flushes: 6, others: 8, refused: 10 })
  expect(disk).toMatchObject({ bytesRead: 111, bytesWritten: 14, inFlight: 12, waits: 2 })
  const timed = (times: readonly number[] = []) => times.reduce((sum, count) => sum + count, 0)
  expect(disk && Object.values(disk.latency).map(timed)).toEqual([2, 0, 0, 0])
  expect(disk?.latency.read).toHaveLength(20)
})
