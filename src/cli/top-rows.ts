import type { ListedSession } from './session-list.ts'

/** A session with what it does at the moment. */
export interface TopRow extends ListedSession {
  readonly readPerSecond: number
  readonly writtenPerSecond: number
  readonly requestsPerSecond: number
}

/** What rows can be sorted by, in the order in which `s` goes through them. */
export const SORTS = ['traffic', 'read', 'written', 'requests', 'who', 'export', 'age'] as const
export type Sort = (typeof SORTS)[number]

/** Two looks at the same gateway. */
export interface Looks {
  readonly before: readonly ListedSession[]
  readonly now: readonly ListedSession[]
  /** Between the two. */
  readonly seconds: number
}

/** What each session does: how much has moved since the look before. One that has just come has moved nothing yet. */
export function topRows({ before, now, seconds }: Looks): readonly TopRow[] {
  const known = new Map(before.map(each => [each.id, each]))
  return now.map(each => {
    const old = known.get(each.id) ?? each
    const rate = (from: number, to: number): number => (seconds > 0 ? Math.max(to - from, 0) / seconds : 0)
    return {
      ...each,
      readPerSecond: rate(old.bytesRead, each.bytesRead),
      writtenPerSecond: rate(old.bytesWritten, each.bytesWritten),
      requestsPerSecond: rate(old.reads + old.writes, each.reads + each.writes),
    }
  })
}

const ORDERS: Readonly<Record<Sort, (a: TopRow, b: TopRow) => number>> = {
  traffic: (a, b) => b.readPerSecond + b.writtenPerSecond - a.readPerSecond - a.writtenPerSecond,
  read: (a, b) => b.readPerSecond - a.readPerSecond,
  written: (a, b) => b.writtenPerSecond - a.writtenPerSecond,
  requests: (a, b) => b.requestsPerSecond - a.requestsPerSecond,
  who: (a, b) => compare(a.who, b.who),
  export: (a, b) => compare(a.export, b.export),
  age: (a, b) => Date.parse(a.since) - Date.parse(b.since),
}

/** Sorted; among equals the oldest first. */
export function sortRows(rows: readonly TopRow[], sort: Sort, reversed = false): readonly TopRow[] {
  const sign = reversed ? -1 : 1
  return rows.toSorted((a, b) => sign * ORDERS[sort](a, b) || a.id - b.id)
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
