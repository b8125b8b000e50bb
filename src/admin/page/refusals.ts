import type { GatewayEvent } from '../../observe/event-feed.ts'
import { clockText } from './format.ts'
import { LiveTable } from './live-table.ts'

/** As many as the gateway keeps. */
const MAX_REFUSALS = 100

export interface RefusalRow {
  readonly key: string
  readonly time: string
  readonly who: string
  readonly peer: string
  readonly what: string
  readonly reason: string
}

/** The last refusals, the newest first; never more than a hundred. */
export class Refusals {
  #rows: readonly RefusalRow[] = []
  #count = 0

  get rows(): readonly RefusalRow[] {
    return this.#rows
  }

  /** What the gateway has kept. */
  replace(events: readonly GatewayEvent[]): void {
    this.#rows = events.slice(0, MAX_REFUSALS).map(event => this.#row(event))
  }

  /** One that has just happened. */
  add(event: GatewayEvent): RefusalRow {
    const row = this.#row(event)
    this.#rows = [row, ...this.#rows.slice(0, MAX_REFUSALS - 1)]
    return row
  }

  /** Those since then, in milliseconds of the epoch. */
  since(ms: number): number {
    return this.#rows.filter(({ time }) => Date.parse(time) >= ms).length
  }

  #row({ time, what, facts }: GatewayEvent): RefusalRow {
    const text = (name: string): string => {
      const value = facts[name]
      return typeof value === 'string' || typeof value === 'number' ? String(value) : ''
    }
    const rule = text('rule') === '' ? '' : `, ${text('rule')}`
    const place = text('export') === '' ? what : `${what}: ${text('export')}`
    const reason = `${text('reason') || text('code') || what}${rule}`
    return { key: String(this.#count++), time, who: text('who') || '–', peer: text('peer'), what: place, reason }
  }
}

export function refusalTable(): LiveTable<RefusalRow> {
  return new LiveTable<RefusalRow>({
    caption: 'Refusals',
    key: ({ key }) => key,
    empty: 'nobody was refused',
    columns: [
      {
        head: 'When',
        text: ({ time }) => clockText(Date.parse(time)),
        title: ({ time }) => new Date(time).toLocaleString(),
        order: ({ time }) => -Date.parse(time),
      },
      {
        head: 'Who',
        text: ({ who }) => who,
        more: ({ peer }) => peer,
        title: ({ who }) => who,
        order: ({ who }) => who,
      },
      { head: 'What', text: ({ what }) => what, title: ({ what }) => what, order: ({ what }) => what },
      { head: 'Why', text: ({ reason }) => reason, title: ({ reason }) => reason, order: ({ reason }) => reason },
    ],
  })
}
