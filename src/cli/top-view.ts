/** What `nbdgate top` shows: lines for a screen of any size. Knows nothing of terminals but their size and colours. */
import { bytesText } from './connect-progress.ts'
import { type Column, cut, fitTable } from './fit-table.ts'
import { plural } from './plural.ts'
import { sessionColumns } from './session-table.ts'
import type { Sort, TopRow } from './top-rows.ts'

export interface TopScreen {
  /** Sorted. */
  readonly rows: readonly TopRow[]
  /** The `id` of the chosen session; undefined: none. */
  readonly selected: number | undefined
  readonly sort: Sort
  readonly reversed: boolean
  /** A question or a message, in place of the list of keys. */
  readonly message: string | undefined
  readonly size: { readonly columns: number; readonly rows: number }
  readonly colors: boolean
  readonly nowMs: number
}

const KEYS = 'q quit · s sort · r reverse · ↑↓ choose · k end a session'
const Style = { HEAD: '\u001b[1m', CHOSEN: '\u001b[7m', WARN: '\u001b[33m', NONE: '\u001b[0m' } as const

/** Lines beside the sessions: summary, header, keys. */
const FRAME_LINES = 3

/** The lines of a screen, no more and none longer than it has room for. */
export function topLines({
  rows,
  selected,
  sort,
  reversed,
  message,
  size,
  colors,
  nowMs,
}: TopScreen): readonly string[] {
  const paint = (style: string, text: string): string => (colors ? `${style}${text}${Style.NONE}` : text)
  const room = Math.max(size.rows - FRAME_LINES, 1)
  const chosen = rows.findIndex(({ id }) => id === selected)
  // The chosen one is always in sight.
  const from = Math.max(0, Math.min(chosen - room + 1, rows.length - room))
  const shown = rows.slice(from, from + room)
  const [head = '', ...body] = fitTable(topColumns(nowMs), shown, size.columns)
  const marked = body.map((line, index) => {
    const isChosen = shown[index]?.id === selected
    if (!isChosen) return shown[index]?.upstreamLost === true ? paint(Style.WARN, line) : line
    return colors ? paint(Style.CHOSEN, line.padEnd(size.columns)) : cut(`>${line}`, size.columns)
  })
  const last = message === undefined ? cut(KEYS, size.columns) : paint(Style.WARN, cut(message, size.columns))
  const lines = [cut(summary(rows, sort, reversed), size.columns), paint(Style.HEAD, head), ...marked, last]
  return lines.length <= size.rows ? lines : [...lines.slice(0, Math.max(size.rows - 1, 0)), last].slice(-size.rows)
}

/** One plain table, for whatever is no terminal. */
export function topTable(rows: readonly TopRow[], nowMs: number): string {
  if (rows.length === 0) return 'nobody is on an export\n'
  return fitTable(topColumns(nowMs), rows)
    .map(line => `${line}\n`)
    .join('')
}

function topColumns(nowMs: number): readonly Column<TopRow>[] {
  const [id, who, from, door, name, rights, , since] = sessionColumns(nowMs)
  const kept: readonly (Column<TopRow> | undefined)[] = [id, who, from, door, name, rights, since]
  return [
    ...kept.filter(each => each !== undefined),
    // Where it is seen on the narrowest terminal too; nothing moves meanwhile.
    { head: 'READ/S', rank: 0, cell: each => (each.upstreamLost ? 'waits' : bytesText(each.readPerSecond)) },
    { head: 'WRITE/S', rank: 0, cell: each => (each.upstreamLost ? '' : bytesText(each.writtenPerSecond)) },
    { head: 'REQ/S', rank: 2, cell: ({ requestsPerSecond }) => String(Math.round(requestsPerSecond)) },
    { head: 'OUT', rank: 5, cell: ({ inFlight }) => String(inFlight) },
  ]
}

function summary(rows: readonly TopRow[], sort: Sort, reversed: boolean): string {
  const sum = (of: (row: TopRow) => number): number => rows.reduce((total, row) => total + of(row), 0)
  const read = bytesText(sum(({ readPerSecond }) => readPerSecond))
  const written = bytesText(sum(({ writtenPerSecond }) => writtenPerSecond))
  const lost = rows.filter(({ upstreamLost }) => upstreamLost).length
  const waiting = lost === 0 ? '' : lost === 1 ? ', 1 waits for its upstream' : `, ${lost} wait for their upstream`
  const count = `${plural(rows.length, 'session')}${waiting}`
  return `${count}, read ${read}/s, written ${written}/s, by ${sort}${reversed ? ', reversed' : ''}`
}
