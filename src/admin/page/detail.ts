import { make, setText } from './dom.ts'
import { labelOf } from './exports.ts'
import { latencyText, rateText } from './format.ts'
import { Plot } from './plot.ts'
import { RegionMap } from './region-map.ts'
import type { TrafficBook } from './traffic.ts'

const LEAST_BYTES = 10_240
const LEAST_SECONDS = 0.0002

/** What one export does: throughput, latency, and where on the disk. */
export class Detail {
  readonly map = new RegionMap()
  readonly #title: HTMLElement
  readonly #book: TrafficBook
  readonly #throughput = new Plot({
    title: 'Throughput',
    text: rateText,
    atLeast: LEAST_BYTES,
    isBytes: true,
    lines: [
      { name: 'read', color: '--read', isFilled: true },
      { name: 'written', color: '--write', isFilled: true },
    ],
  })
  readonly #latency = new Plot({
    title: 'Latency of the upstream',
    text: latencyText,
    atLeast: LEAST_SECONDS,
    lines: [
      { name: 'median', color: '--median' },
      { name: '99 of 100 below', color: '--tail' },
    ],
  })
  #name: string | undefined

  constructor(place: HTMLElement, title: HTMLElement, book: TrafficBook) {
    this.#title = title
    this.#book = book
    const plots = make('div', { class: 'plots' }, this.#throughput.element, this.#latency.element)
    place.append(plots, make('h3', {}, 'Where on the disk'), this.map.element)
  }

  get name(): string | undefined {
    return this.#name
  }

  /** Shows this export from now on. */
  choose(name: string): void {
    if (name === this.#name) return
    this.#name = name
    setText(this.#title, name === '' ? '(default export)' : name)
    this.map.clear()
    this.refresh()
  }

  /** Shows what has come since. */
  refresh(): void {
    if (this.#name === undefined) return
    const history = this.#book.of(labelOf(this.#name))
    this.#throughput.show(history.plot('read', 'written'))
    this.#latency.show(history.plot('p50', 'p99'))
  }

  /** The colours have changed. */
  repaint(): void {
    this.#throughput.repaint()
    this.#latency.repaint()
    this.map.repaint()
  }
}
