import { printable } from '../protocol/strings.ts'
import { ExportMeter, type RequestKind } from './export-meter.ts'
import type { RegionFacts } from './region-counts.ts'
import { RegionWatch } from './region-watch.ts'

/** What a session's relay counts, as far as metrics go. */
export interface Counts {
  readonly reads: number
  readonly writes: number
  readonly flushes: number
  readonly others: number
  readonly refused: number
  readonly bytesRead: number
  readonly bytesWritten: number
}

/** A session in transmission phase. */
export interface Use {
  readonly rights: string
  readonly relay: {
    readonly counters: Counts
    readonly inFlight: number
    readonly keep?: { readonly unflushed: { readonly bytes: number } } | undefined
  }
}

/** How a session begins. */
export interface Beginning {
  readonly export: string
  readonly rights: string
  readonly sizeBytes: bigint
}

/** What has passed on one export, of all its sessions that there are and were. */
export interface ExportTotals {
  /** As metrics name it. */
  readonly name: string
  readonly meter: ExportMeter
  readonly counts: Counts
  readonly inFlight: number
  /** The sessions that there are. */
  readonly uses: readonly Use[]
}

/** The same as plain data, without the sessions. */
export interface ExportTraffic extends Counts {
  /** As metrics name it. */
  readonly name: string
  /** Requests that the upstream has not answered. */
  readonly inFlight: number
  /** How often a session had to wait for its rate limit. */
  readonly waits: number
  /** Answered requests that were timed, by how long the upstream took: a count for each of `BOUNDS_SECONDS`, and for what is longer. */
  readonly latency: Readonly<Record<RequestKind, readonly number[]>>
}

/** Where exports are counted that the configuration does not have any more. */
const OTHER = 'other'

/** Names may have 4096 bytes; labels should not. */
const MAX_LABEL = 128

interface Entry {
  readonly meter: ExportMeter
  readonly uses: Set<Use>
  /** Of sessions that have ended. */
  past: Counts
  /** As the session knows it that has begun last. */
  sizeBytes: number | undefined
}

/** An export as metrics name it. */
export function exportLabel(name: string): string {
  return printable(name, MAX_LABEL)
}

/** The sessions of one process, by export; what has ended stays counted. */
export class SessionMeters {
  readonly #entries = new Map<string, Entry>()
  readonly #watch = new RegionWatch()

  /** Counts by these exports alone; what others have counted goes to one sum, and so does what is still to come of them. */
  retain(names: readonly string[]): void {
    const kept = new Set(names)
    for (const [name, entry] of this.#entries) {
      if (kept.has(name) || name === OTHER) continue
      const other = this.#entry(OTHER)
      other.past = sum([other.past, entry.past])
      other.meter.add(entry.meter)
      for (const use of entry.uses) other.uses.add(use)
      this.#watch.end(entry.meter)
      this.#entries.delete(name)
    }
    for (const name of names) this.#entry(name)
  }

  /** The meter of an export. */
  of(name: string): ExportMeter {
    return this.#entries.get(name)?.meter ?? this.#entry(OTHER).meter
  }

  /** A session has begun; returns what tells that it has ended. */
  begin(relay: Use['relay'], { export: name, rights, sizeBytes }: Beginning): () => void {
    const entry = this.#entries.get(name) ?? this.#entry(OTHER)
    const use = { rights, relay }
    entry.meter.opened++
    entry.sizeBytes = Number(sizeBytes)
    entry.uses.add(use)
    return () => {
      // Its export may have gone from the configuration meanwhile.
      for (const each of this.#entries.values()) {
        if (each.uses.delete(use)) each.past = sum([each.past, relay.counters])
      }
    }
  }

  totals(): readonly ExportTotals[] {
    return [...this.#entries].map(([name, { meter, uses, past }]) => ({
      name: exportLabel(name),
      meter,
      counts: sum([past, ...[...uses].map(({ relay }) => relay.counters)]),
      inFlight: [...uses].reduce((total, { relay }) => total + relay.inFlight, 0),
      uses: [...uses],
    }))
  }

  traffic(): readonly ExportTraffic[] {
    return this.totals().map(({ name, meter, counts, inFlight }) => {
      const { read, write, flush, other } = meter.upstream
      const latency = {
        read: [...read.counts],
        write: [...write.counts],
        flush: [...flush.counts],
        other: [...other.counts],
      }
      return { name, ...counts, inFlight, waits: meter.waits, latency }
    })
  }

  /** What was counted of an export's regions since somebody asks for them; undefined while nothing is known of it. */
  regions(name: string): RegionFacts | undefined {
    const { meter, sizeBytes } = this.#entries.get(name) ?? {}
    return meter === undefined || sizeBytes === undefined ? undefined : this.#watch.look(meter, sizeBytes)
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name) ?? {
      meter: new ExportMeter(),
      uses: new Set(),
      past: sum([]),
      sizeBytes: undefined,
    }
    this.#entries.set(name, entry)
    return entry
  }
}

function sum(all: readonly Counts[]): Counts {
  const total = { reads: 0, writes: 0, flushes: 0, others: 0, refused: 0, bytesRead: 0, bytesWritten: 0 }
  for (const each of all) {
    total.reads += each.reads
    total.writes += each.writes
    total.flushes += each.flushes
    total.others += each.others
    total.refused += each.refused
    total.bytesRead += each.bytesRead
    total.bytesWritten += each.bytesWritten
  }
  return total
}
