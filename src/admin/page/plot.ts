import uPlot from 'uplot'
import { cssValue, make, setText } from './dom.ts'
import { clockText } from './format.ts'

const HEIGHT = 190
const LEFT_AXIS = 76
const BOTTOM_AXIS = 28
const ROUND = [1, 2, 5, 10, 20, 50, 100, 200, 500]
const BYTE_STEPS = [0, 1, 2, 3, 4].flatMap(power => ROUND.map(step => step * 1024 ** power))

export interface Line {
  readonly name: string
  /** A custom property of the style sheet. */
  readonly color: string
  readonly isFilled?: boolean
}

export interface PlotOptions {
  readonly title: string
  readonly lines: readonly Line[]
  readonly text: (value: number) => string
  /** The axis reaches this far at least. */
  readonly atLeast: number
  /** Whether its numbers are bytes, which are round in powers of two. */
  readonly isBytes?: boolean
}

/** Lines over time, with what they say at the cursor, or now, in words beneath. */
export class Plot {
  readonly element: HTMLElement
  readonly #options: PlotOptions
  readonly #values: readonly HTMLElement[]
  readonly #when = make('span', { class: 'when' })
  readonly #plot: uPlot

  constructor(options: PlotOptions) {
    this.#options = options
    this.#values = options.lines.map(() => make('b'))
    const key = options.lines.map(({ name, color }, index) =>
      make('span', { class: 'key', 'data-line': color }, make('i'), `${name} `, this.#values[index] ?? ''),
    )
    const heading = make('h3', {}, options.title)
    const canvas = make('div', { class: 'plot-canvas', role: 'img', 'aria-label': options.title })
    this.element = make('figure', { class: 'plot' }, heading, canvas, make('figcaption', {}, ...key, this.#when))
    this.#plot = new uPlot(this.#settings(), [[], ...options.lines.map(() => [])] as uPlot.AlignedData, canvas)
    new ResizeObserver(() => this.#fit(canvas)).observe(canvas)
  }

  /** Times in seconds of the epoch, then a column for each line. */
  show(data: readonly (readonly (number | null)[])[]): void {
    this.#plot.setData(data as uPlot.AlignedData)
    this.#tell()
  }

  /** The colours have changed. */
  repaint(): void {
    this.#plot.redraw(false)
  }

  #fit(canvas: HTMLElement): void {
    const width = Math.floor(canvas.clientWidth)
    if (width > 0 && width !== this.#plot.width) this.#plot.setSize({ width, height: HEIGHT })
  }

  #tell(): void {
    const [times] = this.#plot.data
    const index = this.#plot.cursor.idx ?? times.length - 1
    const isNow = typeof this.#plot.cursor.idx !== 'number'
    for (const [line, element] of this.#values.entries()) {
      const value = this.#plot.data[line + 1]?.[index]
      setText(element, typeof value === 'number' ? this.#options.text(value) : '–')
    }
    const time = times[index]
    setText(this.#when, isNow || time === undefined ? '' : clockText(time * 1000))
  }

  #settings(): uPlot.Options {
    const { lines, text, atLeast, isBytes } = this.#options
    const axis = {
      stroke: () => cssValue('--muted'),
      font: '12px system-ui',
      grid: { stroke: () => cssValue('--grid'), width: 1 },
    }
    const ticks = { show: false }
    return {
      width: 300,
      height: HEIGHT,
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
      scales: { y: { range: (_, __, max) => [0, Math.max(atLeast, (max ?? 0) * 1.1)] } },
      axes: [
        {
          ...axis,
          ticks,
          size: BOTTOM_AXIS,
          space: 80,
          values: (_, splits) => splits.map(time => clockText(time * 1000)),
        },
        {
          ...axis,
          ticks,
          size: LEFT_AXIS,
          space: 34,
          values: (_, splits) => splits.map(text),
          ...(isBytes === true && { incrs: BYTE_STEPS }),
        },
      ],
      series: [{}, ...lines.map(line => seriesOf(line))],
      hooks: { setCursor: [() => this.#tell()] },
    }
  }
}

function seriesOf({ name, color, isFilled }: Line): uPlot.Series {
  const line = { label: name, stroke: () => cssValue(color), width: 1.75, points: { show: false }, spanGaps: false }
  return isFilled === true ? { ...line, fill: () => cssValue(`${color}-fill`) } : line
}
