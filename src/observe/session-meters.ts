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

/** Where exports are counted that the configuration does not have: not any more, or since an upstream lists them. */
export const OTHER = 'other'

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

/** Of exports that upstreams list: those that nobody uses are kept up to that many. */
const MAX_IDLE_LISTED = 256

/**
 * The sessions of one process, by export; what has ended stays counted. Exports that upstreams list have counts of their own
 * while they are used; in metrics, and later, they are counted with all others.
 */
export class SessionMeters {
  readonly #entries = new Map<string, Entry>()
  readonly #listed = new Map<string, Entry>()
  #listedNames: ReadonlySet<string> = new Set()
  readonly #watch = new RegionWatch()

  /** Counts by these exports alone; what others have counted goes to one sum, and so does what is still to come of them. */
  retain(names: readonly string[], listed: readonly string[] = []): void {
    const kept = new Set(names)
    this.#listedNames = new Set(listed)
    for (const name of this.#entries.keys()) if (!kept.has(name) && name !== OTHER) this.#fold(this.#entries, name)
    for (const name of this.#listed.keys()) if (!this.#listedNames.has(name)) this.#fold(this.#listed, name)
    for (const name of names) this.#entry(name)
  }

  /** The meter of an export. */
  of(name: string): ExportMeter {
    return this.#entryOf(name).meter
  }

  /** A session has begun; returns what tells that it has ended. */
  begin(relay: Use['relay'], { export: name, rights, sizeBytes }: Beginning): () => void {
    const entry = this.#entryOf(name)
    const use = { rights, relay }
    entry.meter.opened++
    entry.sizeBytes = Number(sizeBytes)
    entry.uses.add(use)
    return () => {
      // Its export may have gone from the configuration meanwhile.
      for (const each of [...this.#entries.values(), ...this.#listed.values()]) {
        if (each.uses.delete(use)) each.past = sum([each.past, relay.counters])
      }
    }
  }

  /** By the exports that are kept; all others, and all that upstreams list, are one. */
  totals(): readonly ExportTotals[] {
    if (this.#listed.size === 0) return totalsOf(this.#entries)
    const others = [this.#entries.get(OTHER), ...this.#listed.values()].filter(each => each !== undefined)
    return totalsOf(new Map([...this.#entries, [OTHER, together(others)]]))
  }

  /** The same as plain data, and what is known of each that an upstream lists by itself. */
  traffic(): readonly ExportTraffic[] {
    return [...totalsOf(this.#entries), ...totalsOf(this.#listed)].map(({ name, meter, counts, inFlight }) => {
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
    const { meter, sizeBytes } = this.#entries.get(name) ?? this.#listed.get(name) ?? {}
    return meter === undefined || sizeBytes === undefined ? undefined : this.#watch.look(meter, sizeBytes)
  }

  /** Where an export is counted. */
  #entryOf(name: string): Entry {
    return (
      this.#entries.get(name) ??
      (this.#listedNames.has(name) ? this.#listedEntry(name) : undefined) ??
      this.#entry(OTHER)
    )
  }

  #listedEntry(name: string): Entry {
    const entry = this.#listed.get(name) ?? newEntry()
    // The one that was used last is the last to go.
    this.#listed.delete(name)
    this.#listed.set(name, entry)
    const idle = [...this.#listed].filter(([each, { uses }]) => uses.size === 0 && each !== name)
    for (const [each] of idle.slice(0, Math.max(idle.length - MAX_IDLE_LISTED, 0))) this.#fold(this.#listed, each)
    return entry
  }

  /** Gives what an export has counted to the sum of all others. */
  #fold(entries: Map<string, Entry>, name: string): void {
    const entry = entries.get(name)
    if (entry === undefined) return
    const other = this.#entry(OTHER)
    other.past = sum([other.past, entry.past])
    other.meter.add(entry.meter)
    for (const use of entry.uses) other.uses.add(use)
    this.#watch.end(entry.meter)
    entries.delete(name)
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name) ?? newEntry()
    this.#entries.set(name, entry)
    return entry
  }
}

function newEntry(): Entry {
  return { meter: new ExportMeter(), uses: new Set(), past: sum([]), sizeBytes: undefined }
}

function together(entries: readonly Entry[]): Entry {
  const all = newEntry()
  for (const { meter, uses, past } of entries) {
    all.meter.add(meter)
    all.past = sum([all.past, past])
    for (const use of uses) all.uses.add(use)
  }
  return all
}

function totalsOf(entries: ReadonlyMap<string, Entry>): readonly ExportTotals[] {
  return [...entries].map(([name, { meter, uses, past }]) => ({
    name: exportLabel(name),
    meter,
    counts: sum([past, ...[...uses].map(({ relay }) => relay.counters)]),
    inFlight: [...uses].reduce((total, { relay }) => total + relay.inFlight, 0),
    uses: [...uses],
  }))
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
