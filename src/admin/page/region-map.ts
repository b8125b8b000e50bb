/**
 * The regions of a disk as a field of cells: what is read and written glows, and cools down; what was touched once since
 * somebody looks keeps a trace of it. Cells are drawn again only when their colour has changed.
 */
import type { RegionFacts } from '../../observe/region-counts.ts'
import { cssValue, make, setAttribute, setText } from './dom.ts'
import { bytesText, countText } from './format.ts'
import { Heat } from './heat.ts'

/** Steps between cold and hot. */
const STEPS = 24
/** Time between two pictures. */
const FRAME_MS = 40
const GAP = 1

const WIDE_COLUMNS = 64
const NARROW_COLUMNS = 32
const NARROW_PIXELS = 520

const JUMPS: Readonly<Record<string, (columns: number) => number>> = {
  ArrowLeft: () => -1,
  ArrowRight: () => 1,
  ArrowUp: columns => -columns,
  ArrowDown: columns => columns,
  Home: () => -Infinity,
  End: () => Infinity,
}

interface Rgb {
  readonly r: number
  readonly g: number
  readonly b: number
}

export class RegionMap {
  readonly element: HTMLElement
  readonly #heat = new Heat()
  readonly #canvas = make('canvas')
  readonly #field: HTMLElement
  readonly #told = make('p', { class: 'note' })
  readonly #ink: CanvasRenderingContext2D
  readonly #isStill = matchMedia('(prefers-reduced-motion: reduce)')
  /** The colour of each cell as it is drawn; -1: not yet. */
  #drawn = new Int32Array(0)
  #palette: readonly string[] = []
  #columns = WIDE_COLUMNS
  #side = 10
  #chosen: number | undefined
  #readOut: number | undefined
  #lastMs = 0
  #isRunning = false

  constructor() {
    const ink = this.#canvas.getContext('2d')
    if (ink === null) throw new TypeError('no canvas')
    this.#ink = ink
    const slider = { role: 'slider', tabindex: '0', 'aria-label': 'Region of the disk', 'aria-valuemin': '1' }
    this.#field = make(
      'div',
      { class: 'region-field', ...slider, 'aria-valuenow': '1', 'aria-valuemax': '1' },
      this.#canvas,
    )
    const keys = [
      make('span', { class: 'key', 'data-line': '--read' }, make('i'), 'read'),
      make('span', { class: 'key', 'data-line': '--write' }, make('i'), 'written'),
      make('span', { class: 'key', 'data-line': '--was-read' }, make('i'), 'was read'),
      make('span', { class: 'key', 'data-line': '--was-written' }, make('i'), 'was written since you look'),
    ]
    this.element = make('div', { class: 'regions' }, this.#field, make('p', { class: 'keys' }, ...keys), this.#told)
    this.#field.addEventListener('keydown', event => this.#key(event))
    this.#canvas.addEventListener('pointermove', event => this.#choose(this.#at(event)))
    this.#canvas.addEventListener('pointerleave', () => this.#choose(undefined))
    this.#field.addEventListener('blur', () => this.#choose(undefined))
    new ResizeObserver(() => this.#fit()).observe(this.#field)
  }

  /** Another export. */
  clear(): void {
    this.#heat.clear()
    this.#chosen = undefined
    this.#fit()
    this.#tell()
  }

  /** Takes new counts. */
  feed(facts: RegionFacts): void {
    const isOther = this.#heat.reads.length !== facts.reads.length
    this.#heat.feed(facts)
    if (isOther) this.#fit()
    this.#tell()
    this.#run()
  }

  /** The colours have changed. */
  repaint(): void {
    const [wasRead, wasWritten] = [colorOf('--was-read'), colorOf('--was-written')]
    const bases = [colorOf('--cell'), wasRead, wasWritten, mix(wasRead, wasWritten, 0.5)]
    this.#palette = paletteOf(bases, colorOf('--read'), colorOf('--write'))
    this.#drawn.fill(-1)
    this.#draw()
  }

  #run(): void {
    if (this.#isRunning) return
    this.#isRunning = true
    this.#lastMs = performance.now()
    requestAnimationFrame(this.#frame)
  }

  readonly #frame = (nowMs: number): void => {
    const ms = nowMs - this.#lastMs
    let isWarm = true
    if (ms >= FRAME_MS) {
      this.#lastMs = nowMs
      isWarm = this.#heat.cool(ms)
      this.#draw()
    }
    // Who does not want things to move sees a new picture with each answer alone.
    this.#isRunning = isWarm && !this.#isStill.matches
    if (this.#isRunning) requestAnimationFrame(this.#frame)
  }

  #fit(): void {
    const width = this.#field.clientWidth
    const count = this.#heat.reads.length
    if (width === 0) return
    this.#columns = width < NARROW_PIXELS ? NARROW_COLUMNS : WIDE_COLUMNS
    const rows = Math.max(Math.ceil(count / this.#columns), 1)
    this.#side = Math.max((width * devicePixelRatio) / this.#columns, 4)
    this.#canvas.width = Math.round(this.#side * this.#columns)
    this.#canvas.height = Math.round(this.#side * rows)
    this.#canvas.style.width = `${this.#canvas.width / devicePixelRatio}px`
    this.#canvas.style.height = `${this.#canvas.height / devicePixelRatio}px`
    this.#drawn = new Int32Array(count).fill(-1)
    if (this.#palette.length === 0) this.repaint()
    else this.#draw()
  }

  #draw(): void {
    const { reads, writes, touched } = this.#heat
    const gap = Math.ceil(GAP * devicePixelRatio)
    for (let region = 0; region < this.#drawn.length; region++) {
      const color = ((touched[region] ?? 0) * STEPS + stepOf(reads[region])) * STEPS + stepOf(writes[region])
      const isChosen = region === this.#chosen
      const key = isChosen ? -2 : color
      if (this.#drawn[region] === key) continue
      this.#drawn[region] = key
      const [x, right] = this.#edges(region % this.#columns)
      const [y, bottom] = this.#edges(Math.floor(region / this.#columns))
      this.#ink.fillStyle = isChosen ? cssValue('--ink') : (this.#palette[color] ?? '')
      this.#ink.fillRect(x, y, right - x - gap, bottom - y - gap)
    }
  }

  /** Where a column or a row begins and ends, on whole pixels. */
  #edges(index: number): readonly [number, number] {
    return [Math.round(index * this.#side), Math.round((index + 1) * this.#side)]
  }

  #at({ offsetX, offsetY }: PointerEvent): number | undefined {
    const column = Math.floor((offsetX * devicePixelRatio) / this.#side)
    const row = Math.floor((offsetY * devicePixelRatio) / this.#side)
    const region = row * this.#columns + column
    return column < this.#columns && region >= 0 && region < this.#drawn.length ? region : undefined
  }

  #key(event: KeyboardEvent): void {
    const jump = JUMPS[event.key]
    if (jump === undefined || this.#drawn.length === 0) return
    event.preventDefault()
    const from = this.#chosen ?? (jump(this.#columns) > 0 ? -1 : 0)
    this.#choose(Math.min(Math.max(from + jump(this.#columns), 0), this.#drawn.length - 1))
  }

  #choose(region: number | undefined): void {
    if (region === this.#chosen) return
    this.#chosen = region
    this.#draw()
    this.#tell()
  }

  #tell(): void {
    const { facts } = this.#heat
    const count = facts?.reads.length ?? 0
    setAttribute(this.#field, 'aria-valuemax', String(Math.max(count, 1)))
    setAttribute(this.#field, 'aria-valuenow', String((this.#chosen ?? 0) + 1))
    const text = facts === undefined || count === 0 ? 'nobody has been on this export yet' : this.#sentence(facts)
    setText(this.#told, text)
    // What is read out must not change by itself while somebody listens.
    if (!this.#field.matches(':focus') || this.#chosen !== this.#readOut) {
      this.#readOut = this.#chosen
      setAttribute(this.#field, 'aria-valuetext', text)
    }
  }

  #sentence(facts: RegionFacts): string {
    const { sizeBytes, regionBytes, reads, writes } = facts
    const region = this.#chosen
    if (region === undefined) {
      const touched = this.#heat.touched.reduce((sum, mark) => sum + Number(mark !== 0), 0)
      const share = `${Math.round((100 * touched) / reads.length)} % touched`
      return `${bytesText(sizeBytes)} in ${countText(reads.length)} regions of ${bytesText(regionBytes)}, ${share}`
    }
    const from = region * regionBytes
    const to = Math.min(from + regionBytes, sizeBytes)
    const counts = `${countText(reads[region] ?? 0)} reads, ${countText(writes[region] ?? 0)} writes`
    return `region ${region + 1}: ${bytesText(from)} to ${bytesText(to)}, ${counts}`
  }
}

function stepOf(heat: number | undefined): number {
  return Math.min(Math.ceil((heat ?? 0) * (STEPS - 1)), STEPS - 1)
}

/** A colour for each base (what was touched how), heat of reads and heat of writes. */
function paletteOf(bases: readonly Rgb[], read: Rgb, write: Rgb): readonly string[] {
  const steps = Array.from({ length: STEPS }, (_, step) => step / (STEPS - 1))
  return bases.flatMap(base =>
    steps.flatMap(reads =>
      steps.map(writes => {
        const hot = mix(read, write, reads + writes === 0 ? 0 : writes / (reads + writes))
        const { r, g, b } = mix(base, hot, Math.max(reads, writes))
        return `rgb(${r} ${g} ${b})`
      }),
    ),
  )
}

function mix(from: Rgb, to: Rgb, share: number): Rgb {
  const at = (a: number, b: number): number => Math.round(a + (b - a) * share)
  return { r: at(from.r, to.r), g: at(from.g, to.g), b: at(from.b, to.b) }
}

/** A `#rrggbb` of the style sheet. */
function colorOf(name: string): Rgb {
  const value = Number.parseInt(cssValue(name).slice(1), 16)
  return { r: value >> 16, g: (value >> 8) & 255, b: value & 255 }
}
