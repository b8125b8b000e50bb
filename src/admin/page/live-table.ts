/**
 * A table that is shown again and again: rows are kept by their keys, and of a row only what has changed is written, so
 * that hundreds of rows cost no layout when a few numbers move. Sorts by its headers; beyond a bound it shows a part.
 */
import { make, setAttribute, setText } from './dom.ts'

/** More rows than anybody reads; the rest is found by the filter, or comes by sorting. */
const MAX_ROWS = 400

export interface Column<Item> {
  readonly head: string
  readonly text: (item: Item) => string
  /** A second, quieter line. */
  readonly more?: (item: Item) => string
  readonly title?: (item: Item) => string
  /** Makes it a mark of this kind: `data-kind` for the style sheet. */
  readonly kind?: (item: Item) => string
  /** What it is sorted by; without it it can not be. */
  readonly order?: (item: Item) => number | string
  readonly isNumber?: boolean
  /** An element of its own beside or in place of the text; made once a row. */
  readonly control?: (key: string) => HTMLElement
  /** Called for each time the row is shown. */
  readonly refresh?: (control: HTMLElement, item: Item) => void
}

export interface LiveTableOptions<Item> {
  readonly caption: string
  readonly columns: readonly Column<Item>[]
  readonly key: (item: Item) => string
  /** In place of rows. */
  readonly empty: string
  /** Finds rows by a text in them. */
  readonly filter?: HTMLInputElement
}

interface Cell {
  readonly td: HTMLElement
  readonly text: Text
  readonly more: HTMLElement | undefined
  readonly control: HTMLElement | undefined
}

interface Row {
  readonly tr: HTMLTableRowElement
  readonly cells: readonly Cell[]
}

export class LiveTable<Item> {
  readonly element: HTMLElement
  readonly #options: LiveTableOptions<Item>
  readonly #table: HTMLTableElement
  readonly #body = make('tbody', { role: 'rowgroup' })
  readonly #note = make('p', { class: 'note' })
  readonly #heads: readonly HTMLElement[]
  readonly #rows = new Map<string, Row>()
  #items: readonly Item[] = []
  #sort: { readonly column: number; readonly down: boolean } | undefined
  #filter = ''

  constructor(options: LiveTableOptions<Item>) {
    this.#options = options
    this.#heads = options.columns.map((column, index) => this.#head(column, index))
    const head = make('thead', { role: 'rowgroup' }, make('tr', { role: 'row' }, ...this.#heads))
    this.#table = make('table', { role: 'table', 'aria-label': options.caption }, head, this.#body)
    this.element = make('div', { class: 'live-table' }, this.#table, this.#note)
    const { filter } = options
    filter?.addEventListener('input', () => {
      this.#filter = filter.value.trim().toLowerCase()
      this.show(this.#items)
    })
  }

  show(items: readonly Item[]): void {
    this.#items = items
    const { filter, empty } = this.#options
    const meant = this.#sorted(items.filter(item => this.#isMeant(item)))
    const shown = meant.slice(0, MAX_ROWS)
    // First, so that all who come after them stay where they are.
    this.#removeAllBut(new Set(shown.map(this.#options.key)))
    let next = this.#body.firstElementChild
    for (const item of shown) {
      const row = this.#row(this.#options.key(item))
      this.#write(row, item)
      if (row.tr === next) next = next.nextElementSibling
      else this.#body.insertBefore(row.tr, next)
    }
    this.#table.hidden = shown.length === 0
    const rest = meant.length - shown.length
    const none = items.length === 0 ? empty : 'nothing matches'
    const way = filter === undefined ? 'come by sorting' : 'are found by the filter'
    setText(this.#note, meant.length === 0 ? none : rest > 0 ? `${rest} more ${way}` : '')
  }

  #removeAllBut(keys: ReadonlySet<string>): void {
    for (const [key, { tr }] of this.#rows) {
      if (keys.has(key)) continue
      tr.remove()
      this.#rows.delete(key)
    }
  }

  #isMeant(item: Item): boolean {
    if (this.#filter === '') return true
    const texts = this.#options.columns.map(({ text, more }) => `${text(item)} ${more?.(item) ?? ''}`)
    return texts.some(text => text.toLowerCase().includes(this.#filter))
  }

  #sorted(items: readonly Item[]): readonly Item[] {
    const { column = -1, down = false } = this.#sort ?? {}
    const order = this.#options.columns[column]?.order
    if (order === undefined) return items
    const sign = down ? -1 : 1
    return items.toSorted((a, b) => {
      const [one, other] = [order(a), order(b)]
      return one === other ? 0 : one < other ? -sign : sign
    })
  }

  #head({ head, order, isNumber }: Column<Item>, index: number): HTMLElement {
    const type = isNumber === true ? { class: 'number' } : {}
    const th = make('th', { scope: 'col', role: 'columnheader', ...type })
    if (order === undefined) th.append(head === '' ? make('span', { class: 'unseen' }, 'actions') : head)
    else {
      const button = make('button', { type: 'button', class: 'sort' }, head)
      button.addEventListener('click', () => this.#sortBy(index))
      th.append(button)
    }
    return th
  }

  #sortBy(column: number): void {
    const isNumber = this.#options.columns[column]?.isNumber === true
    const down = this.#sort?.column === column ? !this.#sort.down : isNumber
    this.#sort = { column, down }
    for (const [index, head] of this.#heads.entries()) {
      if (index === column) head.setAttribute('aria-sort', down ? 'descending' : 'ascending')
      else head.removeAttribute('aria-sort')
    }
    this.show(this.#items)
  }

  #row(key: string): Row {
    const found = this.#rows.get(key)
    if (found !== undefined) return found
    const cells = this.#options.columns.map(column => this.#cell(key, column))
    const row = { tr: make('tr', { role: 'row' }, ...cells.map(({ td }) => td)), cells }
    this.#rows.set(key, row)
    return row
  }

  #cell(key: string, column: Column<Item>): Cell {
    const type = column.isNumber === true ? { class: 'number' } : {}
    const td = make('td', { role: 'cell', 'data-head': column.head, ...type })
    const text = document.createTextNode('')
    const control = column.control?.(key)
    const mark = column.kind === undefined ? text : make('span', { class: 'mark' }, text)
    if (control !== undefined) td.append(control)
    else td.append(mark)
    const more = column.more === undefined ? undefined : make('span', { class: 'more' })
    if (more !== undefined) td.append(more)
    return { td, text, more, control }
  }

  #write({ cells }: Row, item: Item): void {
    for (const [index, { td, text, more, control }] of cells.entries()) {
      const column = this.#options.columns[index]
      if (column === undefined) continue
      if (control === undefined) setText(text, column.text(item))
      else column.refresh?.(control, item)
      if (more !== undefined) setText(more, column.more?.(item) ?? '')
      if (column.title !== undefined) setAttribute(td, 'title', column.title(item))
      if (column.kind !== undefined) setAttribute(text.parentElement ?? td, 'data-kind', column.kind(item))
    }
  }
}
