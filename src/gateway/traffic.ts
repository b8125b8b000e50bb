import type { ExportConfig } from '../config/config.ts'
import { BOUNDS_SECONDS } from '../observe/histogram.ts'
import { type ExportTraffic, exportLabel } from '../observe/session-meters.ts'
import { groupBy } from './group-by.ts'

const NO_TIMES: readonly number[] = Array.from({ length: BOUNDS_SECONDS.length + 1 }, () => 0)

/** What all processes have counted, by export; in the order given. There can be many that are listed: those without counts are left out. */
export function sumTraffic(
  exports: readonly Pick<ExportConfig, 'name' | 'isListed'>[],
  processes: readonly (readonly ExportTraffic[])[],
): readonly ExportTraffic[] {
  const counted = groupBy(processes.flat(), ({ name }) => name)
  const shown = exports.map(({ name, isListed }) => ({ name: exportLabel(name), isListed }))
  const meant = shown.filter(({ name, isListed }) => isListed !== true || counted.has(name))
  const names = [...new Set(meant.map(({ name }) => name))]
  return names.map(name => (counted.get(name) ?? []).reduce(plus, nothing(name)))
}

function nothing(name: string): ExportTraffic {
  const counts = { reads: 0, writes: 0, flushes: 0, others: 0, refused: 0, bytesRead: 0, bytesWritten: 0 }
  const latency = { read: NO_TIMES, write: NO_TIMES, flush: NO_TIMES, other: NO_TIMES }
  return { name, ...counts, inFlight: 0, waits: 0, latency }
}

function plus(a: ExportTraffic, b: ExportTraffic): ExportTraffic {
  return {
    name: a.name,
    reads: a.reads + b.reads,
    writes: a.writes + b.writes,
    flushes: a.flushes + b.flushes,
    others: a.others + b.others,
    refused: a.refused + b.refused,
    bytesRead: a.bytesRead + b.bytesRead,
    bytesWritten: a.bytesWritten + b.bytesWritten,
    inFlight: a.inFlight + b.inFlight,
    waits: a.waits + b.waits,
    latency: {
      read: plusTimes(a.latency.read, b.latency.read),
      write: plusTimes(a.latency.write, b.latency.write),
      flush: plusTimes(a.latency.flush, b.latency.flush),
      other: plusTimes(a.latency.other, b.latency.other),
    },
  }
}

function plusTimes(a: readonly number[], b: readonly number[]): readonly number[] {
  return a.map((count, bucket) => count + (b[bucket] ?? 0))
}
