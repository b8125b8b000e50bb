/** Tables that fit a terminal: columns that matter less go first, then long cells are cut. */

export interface Column<Row> {
  readonly head: string
  readonly cell: (row: Row) => string
  /** 0: stays whatever happens; of the others the highest goes first. */
  readonly rank: number
}

const GAP = '  '

/** What an elastic column keeps at least. */
const LEAST = 4

/** The header and a line for each row, no longer than `width` (undefined: as long as they are). */
export function fitTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  width?: number,
): readonly string[] {
  const all = columns.map(({ head, cell, rank }) => {
    const cells = [head, ...rows.map(cell)]
    return { rank, cells, width: cells.reduce((most, each) => Math.max(most, widthOf(each)), 0) }
  })
  const shown = width === undefined ? all : shrink(dropped(all, width), width)
  return [{}, ...rows].map((_, line) => {
    const text = shown.map(({ cells, width: room }) => padded(cells[line] ?? '', room)).join(GAP)
    return cut(text.trimEnd(), width ?? Infinity)
  })
}

interface Measured {
  readonly rank: number
  readonly cells: readonly string[]
  readonly width: number
}

const total = (columns: readonly Measured[]): number =>
  columns.reduce((sum, { width }) => sum + width, GAP.length * Math.max(columns.length - 1, 0))

function dropped(columns: readonly Measured[], width: number): readonly Measured[] {
  let left = columns
  while (total(left) > width) {
    const rank = Math.max(...left.map(each => each.rank))
    if (rank === 0) return left
    const last = left.findLastIndex(each => each.rank === rank)
    left = left.filter((_, index) => index !== last)
  }
  return left
}

/** Takes from the widest column until all fit. */
function shrink(columns: readonly Measured[], width: number): readonly Measured[] {
  const left = columns.map(each => ({ ...each }))
  while (total(left) > width) {
    const widest = left.reduce((most, each) => (each.width > most.width ? each : most), { width: 0 })
    if (widest.width <= LEAST) break
    widest.width--
  }
  return left
}

function padded(text: string, width: number): string {
  const shown = cut(text, width)
  return shown + ' '.repeat(Math.max(width - widthOf(shown), 0))
}

/** The text, its end replaced by `…` where it is too long. */
export function cut(text: string, width: number): string {
  if (widthOf(text) <= width) return text
  let [shown, room] = ['', width - 1]
  for (const char of text) {
    room -= widthOf(char)
    if (room < 0) break
    shown += char
  }
  return width > 0 ? `${shown}…` : ''
}

const MARKS = /[\p{Mn}\p{Me}]/gu
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\u4dbf\u4e00-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/gu

/** How many cells of a terminal a text takes. */
export function widthOf(text: string): number {
  // Nearly all that comes here is ASCII.
  if (/^[\x20-\x7e]*$/.test(text)) return text.length
  const plain = text.replace(MARKS, '')
  return [...plain].length + (plain.match(WIDE)?.length ?? 0)
}
