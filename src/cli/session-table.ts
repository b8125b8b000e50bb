import { printable } from '../protocol/strings.ts'
import { bytesText } from './connect-progress.ts'
import { type Column, fitTable } from './fit-table.ts'

/** What the table shows of a session. */
export interface SessionRow {
  readonly id: number
  readonly who: string
  readonly peer: string
  readonly door: string
  readonly export: string
  readonly rights: string
  readonly lease: string
  /** ISO 8601. */
  readonly since: string
  readonly bytesRead: number
  readonly bytesWritten: number
  /** Its upstream is away, and it waits. */
  readonly upstreamLost: boolean
}

/** The columns of a list of sessions, in order. */
export function sessionColumns(nowMs: number): readonly Column<SessionRow>[] {
  return [
    { head: 'ID', rank: 0, cell: ({ id }) => String(id) },
    { head: 'WHO', rank: 0, cell: ({ who }) => printable(who) },
    { head: 'FROM', rank: 6, cell: ({ peer }) => printable(peer) },
    { head: 'DOOR', rank: 7, cell: ({ door }) => door },
    { head: 'EXPORT', rank: 0, cell: each => (each.export === '' ? '""' : printable(each.export)) },
    { head: 'RIGHTS', rank: 4, cell: ({ rights }) => rights },
    { head: 'LEASE', rank: 8, cell: ({ lease }) => lease },
    { head: 'SINCE', rank: 3, cell: ({ since }) => ageText(nowMs - Date.parse(since)) },
    { head: 'READ', rank: 0, cell: ({ bytesRead }) => bytesText(bytesRead) },
    { head: 'WRITTEN', rank: 0, cell: ({ bytesWritten }) => bytesText(bytesWritten) },
  ]
}

/** Sessions in columns, one a line, no longer than `width`; without any a sentence. */
export function sessionTable(sessions: readonly SessionRow[], nowMs: number, width?: number): string {
  if (sessions.length === 0) return 'nobody is on an export\n'
  const state: Column<SessionRow> = {
    head: 'STATE',
    rank: 1,
    cell: ({ upstreamLost }) => (upstreamLost ? 'waits for its upstream' : 'served'),
  }
  const all = sessionColumns(nowMs)
  return fitTable(sessions.some(({ upstreamLost }) => upstreamLost) ? [...all, state] : all, sessions, width)
    .map(line => `${line}\n`)
    .join('')
}

/** Lines of cells, aligned; all have as many as the first. */
export function columns(lines: readonly (readonly string[])[]): string {
  const widths = (lines[0] ?? []).map((_, column) => Math.max(...lines.map(line => line[column]?.length ?? 0)))
  const text = lines.map(line => line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  '))
  return text.map(line => `${line.trimEnd()}\n`).join('')
}

/** A time span for people, its two largest units: `3d 4h`, `12s`. */
export function ageText(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ] as const
  const first = parts.findIndex(([count]) => count > 0)
  if (first < 0) return '0s'
  return parts
    .slice(first, first + 2)
    .map(([count, unit]) => `${count}${unit}`)
    .join(' ')
}
