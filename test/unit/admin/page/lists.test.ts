import { expect, it } from 'vitest'
import { byEnd } from '../../../../src/admin/page/certificates.ts'
import { EventParser } from '../../../../src/admin/page/event-parser.ts'
import { leaseRows } from '../../../../src/admin/page/leases.ts'
import { Refusals } from '../../../../src/admin/page/refusals.ts'
import { alertsOf } from '../../../../src/admin/page/summary.ts'
import type { GatewayEvent } from '../../../../src/observe/event-feed.ts'
import { LEASE, managed } from '../managed.ts'

const refused = (facts: GatewayEvent['facts'], time = '2026-11-25T10:00:00.000Z'): GatewayEvent => ({
  kind: 'refused',
  time,
  what: 'refused',
  facts,
})

it('reads events at every place where the stream can be cut', () => {
  const [one, two] = [refused({ who: 'ä', reason: 'no rule' }), refused({ export: 'disk' })]
  const lines = [one, two].map(event => `event: refused\ndata: ${JSON.stringify(event)}\n\n`)
  const text = `: nbdgate events\n\n${lines.join(': \n\n')}`
  for (let cut = 0; cut <= text.length; cut++) {
    const parser = new EventParser()
    expect([...parser.feed(text.slice(0, cut)), ...parser.feed(text.slice(cut))]).toEqual([one, two])
  }
  const parser = new EventParser()
  expect([...text].flatMap(letter => parser.feed(letter))).toEqual([one, two])
})

it('keeps nothing of a line that does not end', () => {
  const parser = new EventParser()
  for (let piece = 0; piece < 20; piece++) expect(parser.feed('x'.repeat(100_000))).toEqual([])
  const event = refused({})
  expect(parser.feed(`\n\ndata: ${JSON.stringify(event)}\n\n`)).toEqual([event])
})

it('tells who was refused what, and why', () => {
  const refusals = new Refusals()
  refusals.add(refused({ who: 'cert:cn=bob', peer: '192.0.2.1:5', export: 'disk', reason: 'deny', rule: 'n.yaml:7' }))
  refusals.add(refused({ peer: '192.0.2.1:5', code: 'TLS' }))
  expect(refusals.rows).toMatchObject([
    { who: '–', peer: '192.0.2.1:5', what: 'refused', reason: 'TLS' },
    { who: 'cert:cn=bob', peer: '192.0.2.1:5', what: 'refused: disk', reason: 'deny, n.yaml:7' },
  ])
})

it('keeps a hundred refusals, however long it is left open, each under a key of its own', () => {
  const refusals = new Refusals()
  refusals.replace([refused({ reason: 'old' })])
  for (let each = 0; each < 250; each++) refusals.add(refused({ reason: `r${each}` }))
  expect(refusals.rows).toHaveLength(100)
  expect(refusals.rows[0]?.reason).toBe('r249')
  expect(new Set(refusals.rows.map(({ key }) => key)).size).toBe(100)
})

it('counts the refusals of the last minutes', () => {
  const refusals = new Refusals()
  refusals.add(refused({}, '2026-11-25T10:00:00.000Z'))
  refusals.add(refused({}, '2026-11-25T10:04:00.000Z'))
  expect(refusals.since(Date.parse('2026-11-25T10:01:00.000Z'))).toBe(1)
})

it('shows who waits behind who holds, by export', () => {
  const waiting = managed().waiting()
  const rows = leaseRows([{ ...LEASE, export: 'z' }, LEASE], waiting)
  expect(rows.map(each => [each.export, each.state, each.who])).toEqual([
    ['disk', 'holds', 'cert:cn=alice'],
    ['disk', 'waits', 'cert:cn=bob'],
    ['z', 'holds', 'cert:cn=alice'],
  ])
})

const certificate = { use: 'server', file: 'a', ends: '2027-01-01T00:00:00.000Z', state: 'good' } as const

it('what ends first comes first', () => {
  const never = { ...certificate, file: 'never', ends: undefined }
  const broken = { ...certificate, file: 'broken', ends: undefined, state: 'unreadable' } as const
  const sooner = { ...certificate, file: 'b', ends: '2026-12-01T00:00:00.000Z' }
  expect(byEnd([never, certificate, broken, sooner]).map(({ file }) => file)).toEqual(['broken', 'b', 'a', 'never'])
})

it('has a sentence for each thing that an operator should look at', async () => {
  const gateway = managed().about()
  if (gateway === undefined) throw new Error('it is running')
  const exports = await managed().exports()
  const facts = { gateway, exports, certificates: [certificate], sessions: 0, waiting: 0, refusedLately: 0 }
  expect(alertsOf(facts)).toEqual([])
  const alerts = alertsOf({
    ...facts,
    gateway: { ...gateway, draining: true, auditFailing: true, lastReload: 'failed' },
    exports: exports.map(each => ({ ...each, upstreamState: 'down' })),
    certificates: [
      { ...certificate, state: 'soon' },
      { ...certificate, state: 'over' },
      { ...certificate, ends: undefined, state: 'unreadable' },
    ],
  })
  expect(alerts).toEqual([
    'The gateway is draining: nobody is let in any more.',
    'The audit trail can not be written.',
    'The last reload has failed: the configuration before it is in force.',
    'disk: the upstream nbd://127.0.0.1:10810/disk does not answer.',
    'a ends on 2027-01-01.',
    'a has ended on 2027-01-01.',
    'a can not be read.',
  ])
})
