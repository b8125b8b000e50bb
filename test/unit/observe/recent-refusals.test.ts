import { expect, it } from 'vitest'
import { EventFeed } from '../../../src/observe/event-feed.ts'
import { RecentRefusals } from '../../../src/observe/recent-refusals.ts'

it('keeps the last hundred refusals, the newest first, and nothing else', () => {
  const feed = new EventFeed()
  const refusals = new RecentRefusals(feed)
  feed.tell('opened', 'session opened', { conn: 0 })
  for (let conn = 1; conn <= 150; conn++) feed.tell('refused', 'refused', { conn, err: new Error('secret') })
  const list = refusals.list()
  expect(list).toHaveLength(100)
  expect(list[0]).toMatchObject({ kind: 'refused', what: 'refused', facts: { conn: 150 } })
  expect(list.at(-1)).toMatchObject({ facts: { conn: 51 } })
  expect(list.filter(({ facts }) => 'err' in facts)).toEqual([])
})
