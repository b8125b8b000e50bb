import type { LeaseFacts, WaitingFacts } from '../managed.ts'
import { durationText } from './format.ts'
import { LiveTable } from './live-table.ts'

/** Who holds an export, or waits for it. */
export interface LeaseRow {
  readonly key: string
  readonly export: string
  readonly state: 'holds' | 'waits'
  readonly who: string
  readonly peer: string
  readonly access: string
  readonly sharing: string
  readonly since: string
  readonly gateway: string | undefined
}

/** Holders and those who wait, the latter behind the holders of their export. */
export function leaseRows(leases: readonly LeaseFacts[], waiting: readonly WaitingFacts[]): readonly LeaseRow[] {
  const held = leases.map(
    ({ export: name, holder, peer, access, sharing, since, gateway }): LeaseRow => ({
      key: `${name}\n${holder}\n${gateway ?? ''}\n${since}`,
      export: name,
      state: 'holds',
      who: holder,
      peer,
      access,
      sharing,
      since,
      gateway,
    }),
  )
  const late = waiting.map(
    (each): LeaseRow => ({ ...each, key: `waits ${each.id}`, state: 'waits', gateway: undefined }),
  )
  return [...held, ...late].toSorted((a, b) => (a.export === b.export ? 0 : a.export < b.export ? -1 : 1))
}

export function leaseTable(): LiveTable<LeaseRow> {
  return new LiveTable<LeaseRow>({
    caption: 'Leases and who waits for one',
    key: ({ key }) => key,
    empty: 'nobody holds an export',
    columns: [
      { head: 'Export', text: each => each.export, title: each => each.export, order: each => each.export },
      { head: 'State', text: ({ state }) => state, kind: ({ state }) => state, order: ({ state }) => state },
      {
        head: 'Who',
        text: ({ who }) => who,
        more: ({ peer, gateway }) => (gateway === undefined ? peer : `${peer}, through ${gateway}`),
        title: ({ who }) => who,
        order: ({ who }) => who,
      },
      { head: 'Access', text: ({ access }) => access, kind: ({ access }) => access, order: ({ access }) => access },
      { head: 'Sharing', text: ({ sharing }) => sharing, order: ({ sharing }) => sharing },
      {
        head: 'For',
        text: ({ since }) => durationText(Date.now() - Date.parse(since)),
        title: ({ since }) => `since ${new Date(since).toLocaleString()}`,
        order: ({ since }) => -Date.parse(since),
        isNumber: true,
      },
    ],
  })
}
