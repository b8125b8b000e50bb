import type { ExportFacts } from '../managed.ts'
import { cssValue, make, setAttribute } from './dom.ts'
import { countText, latencyText, rateText } from './format.ts'
import { LiveTable } from './live-table.ts'
import type { TrafficBook } from './traffic.ts'

/** Metrics cut names; the counts are under that name. */
const MAX_LABEL = 128
const SPARK = { width: 96, height: 22, points: 60 } as const

/** An export as its counts name it. */
export function labelOf(name: string): string {
  return name.length > MAX_LABEL ? `${name.slice(0, MAX_LABEL)}…` : name
}

/** The table of exports, one of which is chosen. */
export function exportTable(
  book: TrafficBook,
  choose: (name: string) => void,
  chosen: () => string | undefined,
  filter: HTMLInputElement,
): LiveTable<ExportFacts> {
  const last = (name: string, series: 'read' | 'written' | 'p50' | 'p99'): number | undefined =>
    book.of(labelOf(name)).last(series)
  return new LiveTable<ExportFacts>({
    caption: 'Exports',
    key: ({ name }) => name,
    empty: 'there are none',
    filter,
    columns: [
      {
        head: 'Export',
        text: ({ name }) => name,
        more: ({ listed }) => (listed ? 'listed by its upstream' : ''),
        order: ({ name }) => name,
        control: name => {
          const shown = name === '' ? '(default export)' : name
          const button = make('button', { type: 'button', class: 'choice', 'aria-pressed': 'false' }, shown)
          button.addEventListener('click', () => choose(name))
          return button
        },
        refresh: (button, { name, description }) => {
          setAttribute(button, 'aria-pressed', String(name === chosen()))
          if (description !== undefined) setAttribute(button, 'title', description)
        },
      },
      {
        head: 'Upstream',
        text: ({ upstreamState }) => ({ up: 'up', down: 'down', unknown: 'not asked' })[upstreamState],
        kind: ({ upstreamState }) => upstreamState,
        more: ({ upstream }) => upstream,
        title: ({ upstream }) => upstream,
        order: ({ upstreamState }) => upstreamState,
      },
      { head: 'Sharing', text: ({ sharing }) => sharing, order: ({ sharing }) => sharing },
      {
        head: 'Sessions',
        text: ({ sessions }) => countText(sessions.length),
        order: ({ sessions }) => sessions.length,
        isNumber: true,
      },
      {
        head: 'Reads',
        text: ({ name }) => rateText(last(name, 'read') ?? 0),
        order: ({ name }) => last(name, 'read') ?? 0,
        isNumber: true,
      },
      {
        head: 'Writes',
        text: ({ name }) => rateText(last(name, 'written') ?? 0),
        order: ({ name }) => last(name, 'written') ?? 0,
        isNumber: true,
      },
      {
        head: 'Latency',
        text: ({ name }) => latencyText(last(name, 'p50')),
        more: ({ name }) => `p99 ${latencyText(last(name, 'p99'))}`,
        title: () => 'median of what the upstream took for READ and WRITE in the last second',
        order: ({ name }) => last(name, 'p99') ?? 0,
        isNumber: true,
      },
      {
        head: 'Last minute',
        text: () => '',
        control: () => make('canvas', { class: 'spark', role: 'img', 'aria-label': 'throughput of the last minute' }),
        refresh: (canvas, { name }) => {
          if (canvas instanceof HTMLCanvasElement) drawSpark(canvas, book, labelOf(name))
        },
      },
    ],
  })
}

/** Writes and reads, one on the other, as far as they go in the last minute. */
function drawSpark(canvas: HTMLCanvasElement, book: TrafficBook, name: string): void {
  const history = book.of(name)
  const [reads, writes] = [history.tail('read', SPARK.points), history.tail('written', SPARK.points)]
  const at = (column: Float64Array, index: number): number => column[index] || 0 // nothing known: NaN
  const top = reads.reduce((most, _, index) => Math.max(most, at(reads, index) + at(writes, index)), 1)
  const key = top === 1 ? 'still' : String(history.times.at(-1))
  if (canvas.dataset.drawn === key) return
  canvas.dataset.drawn = key
  const scale = devicePixelRatio
  canvas.width = SPARK.width * scale
  canvas.height = SPARK.height * scale
  const ink = canvas.getContext('2d')
  if (ink === null) return
  const step = canvas.width / SPARK.points
  const bar = (index: number, from: number, value: number, color: string): void => {
    ink.fillStyle = color
    const high = (value / top) * canvas.height
    ink.fillRect(index * step, canvas.height - from - high, Math.max(step - scale, 1), high)
  }
  const [read, write] = [cssValue('--read'), cssValue('--write')]
  for (let index = 0; index < reads.length; index++) {
    bar(index, 0, at(reads, index), read)
    bar(index, (at(reads, index) / top) * canvas.height, at(writes, index), write)
  }
}
