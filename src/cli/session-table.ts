import { bytesText } from './connect-progress.ts'

/** What the table shows of a session. */
export interface SessionRow {
  readonly id: number
  readonly who: string
  readonly peer: string
  readonly door: string
  readonly export: string
  readonly rights: string
  /** ISO 8601. */
  readonly since: string
  readonly bytesRead: number
  readonly bytesWritten: number
}

const HEADS = ['ID', 'WHO', 'FROM', 'DOOR', 'EXPORT', 'RIGHTS', 'SINCE', 'READ', 'WRITTEN'] as const

/** Sessions in columns, one a line; without any a sentence. */
export function sessionTable(sessions: readonly SessionRow[], nowMs: number): string {
  if (sessions.length === 0) return 'nobody is on an export\n'
  const lines: readonly (readonly string[])[] = [HEADS, ...sessions.map(each => cells(each, nowMs))]
  const widths = HEADS.map((_, column) => Math.max(...lines.map(line => line[column]?.length ?? 0)))
  const text = lines.map(line => line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  '))
  return text.map(line => `${line.trimEnd()}\n`).join('')
}

function cells(session: SessionRow, nowMs: number): readonly string[] {
  const { id, who, peer, door, rights, since, bytesRead, bytesWritten } = session
  const name = session.export === '' ? '""' : session.export
  const age = ageText(nowMs - Date.parse(since))
  return [String(id), who, peer, door, name, rights, age, bytesText(bytesRead), bytesText(bytesWritten)]
}

/** A time span for people, its two largest units: `3d 4h`, `12s`. */
function ageText(ms: number): string {
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
