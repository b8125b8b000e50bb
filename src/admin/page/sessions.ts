import type { SessionFacts } from '../managed.ts'
import { make } from './dom.ts'
import { bytesText, countText, durationText, rateText } from './format.ts'
import { type Column, LiveTable } from './live-table.ts'

/** A session, and what it moves. */
export interface SessionRow extends SessionFacts {
  readonly readPerSecond: number
  readonly writtenPerSecond: number
}

/** What sessions move, by what they had moved at the last look. */
export class SessionRates {
  #before: ReadonlyMap<number, SessionFacts> = new Map()
  #beforeSeconds = 0

  take(now: readonly SessionFacts[], seconds: number): readonly SessionRow[] {
    const took = seconds - this.#beforeSeconds
    const rows = now.map(session => {
      const before = this.#before.get(session.id)
      const rate = (of: (each: SessionFacts) => number): number =>
        before === undefined ? 0 : Math.max(of(session) - of(before), 0) / took
      const readPerSecond = rate(each => each.bytesRead)
      return { ...session, readPerSecond, writtenPerSecond: rate(each => each.bytesWritten) }
    })
    this.#before = new Map(now.map(session => [session.id, session]))
    this.#beforeSeconds = seconds
    return rows
  }
}

/** The table of sessions; `end`: what ends one, where that can be asked for. */
export function sessionTable(filter: HTMLInputElement, end: ((id: number) => void) | undefined): LiveTable<SessionRow> {
  const columns: readonly Column<SessionRow>[] = [
    { head: 'ID', text: ({ id }) => String(id), order: ({ id }) => id, isNumber: true },
    {
      head: 'Who',
      text: ({ who }) => who,
      more: ({ peer, via }) => (via === undefined ? peer : `${peer} via ${via}`),
      title: ({ who, rule }) => `${who}, let in by ${rule}`,
      order: ({ who }) => who,
    },
    { head: 'Door', text: ({ door }) => door, order: ({ door }) => door },
    {
      head: 'Export',
      text: each => each.export,
      more: ({ upstreamLost }) => (upstreamLost ? 'waits for its upstream' : ''),
      title: each => each.export,
      order: each => each.export,
    },
    {
      head: 'Rights',
      text: ({ rights, lease }) => (lease === 'none' ? `${rights}, looks on` : rights),
      kind: ({ rights }) => rights,
      title: ({ rule }) => `by ${rule}`,
      order: ({ rights }) => rights,
    },
    {
      head: 'For',
      text: ({ since }) => durationText(Date.now() - Date.parse(since)),
      title: ({ since }) => `since ${new Date(since).toLocaleString()}`,
      order: ({ since }) => -Date.parse(since),
      isNumber: true,
    },
    {
      head: 'Reads',
      text: each => rateText(each.readPerSecond),
      more: ({ bytesRead }) => bytesText(bytesRead),
      order: each => each.readPerSecond,
      isNumber: true,
    },
    {
      head: 'Writes',
      text: each => rateText(each.writtenPerSecond),
      more: ({ bytesWritten }) => bytesText(bytesWritten),
      order: each => each.writtenPerSecond,
      isNumber: true,
    },
    {
      head: 'In flight',
      text: ({ inFlight }) => countText(inFlight),
      title: ({ refused }) => `${countText(refused)} requests refused`,
      order: ({ inFlight }) => inFlight,
      isNumber: true,
    },
  ]
  const action: Column<SessionRow> = {
    head: '',
    text: () => '',
    control: key => {
      const button = make('button', { type: 'button', class: 'quiet', 'aria-label': `End session ${key}` }, 'End')
      button.addEventListener('click', () => end?.(Number(key)))
      return button
    },
  }
  return new LiveTable({
    caption: 'Sessions',
    columns: end === undefined ? columns : [...columns, action],
    key: ({ id }) => String(id),
    empty: 'nobody is on an export',
    filter,
  })
}
