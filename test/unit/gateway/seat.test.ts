import { describe, expect, it } from 'vitest'
import { parseConfig } from '../../../src/config/load.ts'
import type { MainCalls } from '../../../src/gateway/calls.ts'
import { createControl, type Visit } from '../../../src/gateway/control.ts'
import { Limits } from '../../../src/gateway/limits.ts'
import { type Entry, Link } from '../../../src/gateway/link.ts'
import { Seat } from '../../../src/gateway/seat.ts'
import { NO_AUDIT } from '../../../src/observe/audit.ts'
import type { Preparing } from '../../../src/preparing/preparing.ts'
import { MemoryLeases } from '../../../src/sharing/memory-leases.ts'

const NEVER = new AbortController().signal
const NOBODY: Preparing = {
  authorize: async () => ({ kind: 'granted', rights: 'read' }),
  prepare: async () => ({ kind: 'down', problem: '' }),
  finish: () => {},
}
const config = parseConfig(
  JSON.stringify({
    version: 1,
    doors: [{ unix: '/nbd.sock' }],
    exports: [
      {
        name: 'disk',
        upstream: 'nbd://127.0.0.1/',
        allow: [{ who: 'anyone', rights: 'write' }],
        'when-busy': 'wait=30s',
      },
    ],
  }),
  '/nbdgate.yaml',
)

function visit(conn: number, uid: number): Visit {
  return { asker: { identity: { uid, gid: 0 }, door: 'unix' }, conn, peer: `uid ${uid}` }
}

/** A seat, and a process that answers what it is asked and keeps what it is told. */
function seated(answers: Readonly<Record<string, unknown>> = {}) {
  const leases = new MemoryLeases()
  const limits = new Limits({ sessions: 3, sessionsPerAddress: 3 })
  const seat = new Seat({ control: createControl(config, leases), limits, preparing: NOBODY })
  seat.keep(NO_AUDIT)
  const heard: unknown[] = []
  const link = new Link<MainCalls>(
    {
      send: batch => {
        for (const [kind, id, ...rest] of batch as readonly Entry[]) {
          if (kind !== 'call') continue
          heard.push([rest[0], ...(rest[1] as readonly unknown[])])
          if (id > 0) setImmediate(() => link.receive([['answer', id, answers[String(rest[0])]]]))
        }
      },
    },
    {},
  )
  return { seat, leases, limits, link, heard }
}

describe('a seat', () => {
  it('says what its sessions have', async () => {
    const { seat, limits } = seated()
    expect(limits.admit('10.0.0.7', 'tcp 10.0.0.1:1')).toBeUndefined()
    expect(limits.admit(undefined, '/run/nbd.sock')).toBeUndefined()
    await seat.control.acquire('disk', visit(4, 1), NEVER)
    await seat.audit.write('session opened', { conn: 4, who: 'uid:1' })
    expect(seat.hold(4)).toEqual({
      number: 4,
      places: [
        ['10.0.0.7', 1, 'tcp 10.0.0.1:1'],
        [undefined, 1, '/run/nbd.sock'],
      ],
      halfOpen: 2,
      charged: [],
      holdings: [{ name: 'disk', visit: visit(4, 1), lease: 'write', sinceMs: expect.any(Number) }],
      opened: [[4, { conn: 4, who: 'uid:1' }]],
    })
  })

  it('has all who ask wait while it changes hands, and goes on by itself if it does not', async () => {
    const { seat, limits } = seated()
    seat.hold(0)
    let isIn = false
    const admitted = Promise.resolve(seat.limits.admit('10.0.0.7')).then(reason => {
      isIn = true
      return reason
    })
    const taken = seat.control.acquire('disk', visit(1, 1), NEVER)
    await new Promise(setImmediate)
    expect([isIn, limits.count]).toEqual([false, 0])
    seat.resume()
    expect(await admitted).toBeUndefined()
    expect(limits.count).toBe(1)
    expect(await taken).toMatchObject({ kind: 'taken', rights: 'write' })
  })

  it('asks the other process once it is away, in the order in which things happen', async () => {
    const { seat, limits, link, heard } = seated({ admit: 77, acquire: { kind: 'taken', rights: 'read', others: [] } })
    limits.admit('10.0.0.7', '/a')
    await seat.control.acquire('disk', visit(1, 1), NEVER)
    seat.hold(1)
    const admitted = seat.limits.admit('10.0.0.8', '/b')
    seat.control.release('disk', visit(1, 1))
    seat.limits.entered()
    seat.limits.leave('10.0.0.7', true, '/a')
    let isEmpty = false
    void seat.giveAway(link).then(() => {
      isEmpty = true
    })
    expect(await admitted).toBeUndefined()
    expect(seat.number()).toBe(77)
    expect(seat.number()).toBeUndefined()
    expect(await seat.control.acquire('disk', visit(77, 2), NEVER)).toMatchObject({ rights: 'read' })
    seat.limits.leave('10.0.0.8', false, '/b')
    await new Promise(setImmediate)
    await new Promise(setImmediate)
    expect(heard).toEqual([
      ['release', 'disk', visit(1, 1)],
      ['entered'],
      ['left', '10.0.0.7', true, '/a'],
      ['admit', '10.0.0.8', '/b'],
      ['acquire', 'disk', visit(77, 2)],
      ['left', '10.0.0.8', false, '/b'],
    ])
    expect(isEmpty).toBe(true)
  })

  it('asks again there for whoever was waiting here', async () => {
    const { seat, leases, link, heard } = seated({ acquire: { kind: 'taken', rights: 'write', others: [] } })
    await seat.control.acquire('disk', visit(1, 1), NEVER)
    const waiting = seat.control.acquire('disk', visit(2, 2), NEVER)
    seat.hold(2)
    void seat.giveAway(link)
    leases.dismiss()
    expect(await waiting).toMatchObject({ kind: 'taken', rights: 'write' })
    expect(heard).toEqual([['acquire', 'disk', visit(2, 2)]])
  })
})

describe('an estate', () => {
  it('is held by the control that takes it over', async () => {
    const { seat } = seated()
    await seat.control.acquire('disk', visit(1, 1), NEVER)
    const { holdings } = seat.hold(1)
    const leases = new MemoryLeases()
    const heir = createControl(config, leases)
    heir.restore(holdings)
    expect(leases.list()).toMatchObject([{ export: 'disk', who: 'uid:1', access: 'write', sessions: [1] }])
    expect(await heir.acquire('disk', visit(5, 1), NEVER)).toMatchObject({ kind: 'taken', others: [1] })
    const late = new AbortController()
    const refused = heir.acquire('disk', visit(6, 2), late.signal)
    late.abort()
    expect(await refused).toMatchObject({ kind: 'refused', reason: 'busy' })
    heir.release('disk', visit(5, 1))
    heir.release('disk', visit(1, 1))
    expect(await heir.acquire('disk', visit(7, 2), NEVER)).toMatchObject({ kind: 'taken', others: [] })
  })
})
