import { expect, it } from 'vitest'
import { eventStream } from '../../../src/admin/event-stream.ts'
import { EventFeed } from '../../../src/observe/event-feed.ts'

function begin() {
  const feed = new EventFeed()
  const closing = new AbortController()
  let ends = 0
  const stream = eventStream(
    listener => feed.listen(listener),
    closing.signal,
    () => ends++,
  )
  const reader = stream.getReader()
  const read = async () => {
    const { done, value } = await reader.read()
    return done ? undefined : new TextDecoder().decode(value)
  }
  return { feed, closing, reader, read, ends: () => ends }
}

it('writes events in the form of server-sent events, without what errors carry', async () => {
  const { feed, read, reader } = begin()
  expect(await read()).toBe(': nbdgate events\n\n')
  feed.tell('refused', 'refused', { conn: 3, export: 'a\nb', err: new Error('secret') })
  const text = (await read()) ?? ''
  expect(text).toMatch(/^event: refused\ndata: \{.*\}\n\n$/)
  expect(JSON.parse(text.split('data: ')[1] ?? '')).toEqual({
    kind: 'refused',
    time: expect.any(String),
    what: 'refused',
    facts: { conn: 3, export: 'a\nb' },
  })
  const waiting = read()
  feed.tell('reloaded', 'reloaded', {})
  expect(await waiting).toContain('event: reloaded')
  await reader.cancel()
})

it('keeps no more than 256 events for who does not read, and tells how many it left out', async () => {
  const { feed, read, reader } = begin()
  for (let conn = 0; conn < 100_000; conn++) feed.tell('opened', 'session opened', { conn })
  const text = (await read()) ?? ''
  expect(text.match(/^event: opened$/gm)).toHaveLength(255)
  expect(text).toMatch(/event: skipped\ndata: .*"count":99745\}\}\n\n$/)
  feed.tell('opened', 'session opened', { conn: 'next' })
  expect(await read()).toContain('"next"')
  await reader.cancel()
})

it('is over when its reader goes, and when the gateway does', async () => {
  const gone = begin()
  await gone.reader.cancel()
  gone.feed.tell('opened', 'session opened', {})
  gone.closing.abort()
  expect(gone.ends()).toBe(1)

  const closed = begin()
  await closed.read()
  const waiting = closed.read()
  closed.closing.abort()
  expect(await waiting).toBeUndefined()
  expect(closed.ends()).toBe(1)
})
