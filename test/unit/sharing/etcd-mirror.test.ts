import { describe, expect, it } from 'vitest'
import { Mirror } from '../../../src/sharing/etcd-mirror.ts'
import { Keys } from '../../../src/sharing/etcd-records.ts'

const TTL_MS = 1000
const keys = new Keys('/p/')
const alive = JSON.stringify({ version: 1, name: 'one', ttlMs: TTL_MS })
const alice = { holder: 'alice', who: 'alice', peer: 'p', mode: 'exclusive', access: 'write', sinceMs: 0 }
const held = JSON.stringify({ version: 1, name: 'one', ttlMs: TTL_MS, holds: [alice] })
const nothing = JSON.stringify({ version: 1, name: 'one', ttlMs: TTL_MS, holds: [] })

/** A mirror with a clock that the test sets, and what it says. */
function mirror() {
  const said: string[] = []
  const clock = { ms: 0 }
  let revision = 0
  const listener = {
    changed: () => {},
    requested: (gateway: string, id: string) => void said.push(`asked ${gateway} ${id}`),
    answered: (id: string) => void said.push(`answered ${id}`),
    gatewayGone: (gateway: string) => void said.push(`gone ${gateway}`),
    holdGone: (name: string) => void said.push(`lost ${name}`),
    garbage: (key: string) => void said.push(`garbage ${key}`),
  }
  const made = new Mirror(keys, listener, () => clock.ms)
  const event = (key: string, value: string | undefined) => {
    revision++
    return { key, value: value ?? '', modRevision: revision, createRevision: 1, isGone: value === undefined }
  }
  const apply = (...changes: readonly (readonly [string, string | undefined])[]): void =>
    made.apply(changes.map(([key, value]) => event(key, value)))
  return { mirror: made, said, clock, apply, counts: (name = 'disk') => made.holdsOf(name).length > 0 }
}

describe('a mirror of etcd', () => {
  const hold = keys.holds('disk', 'one')

  it('counts what a gateway holds, until it lets go', () => {
    const { counts, apply, said } = mirror()
    apply([keys.gateway('one'), alive], [hold, held])
    expect(counts()).toBe(true)
    apply([hold, nothing], [hold, undefined])
    expect(counts()).toBe(false)
    expect(said).toEqual([])
  })

  it('counts a key that somebody has deleted for the time to live of its gateway', () => {
    const { counts, apply, said, clock, mirror: made } = mirror()
    apply([keys.gateway('one'), alive], [hold, held], [hold, undefined])
    expect(said).toEqual(['lost disk'])
    clock.ms = TTL_MS - 1
    expect(counts()).toBe(true)
    clock.ms = TTL_MS
    expect(counts()).toBe(false)
    expect([...made.expire()]).toEqual(['disk'])
  })

  it('counts nothing of a gateway that was given up, and all of one whose heartbeat is just gone', () => {
    const { counts, apply, clock } = mirror()
    apply([keys.gateway('one'), alive], [hold, held], [keys.gateway('one'), undefined])
    expect(counts()).toBe(true)
    apply([keys.fenced('one'), '{"version":1}'])
    expect(counts()).toBe(false)
    apply([keys.holds('other', 'two'), held])
    clock.ms = TTL_MS - 1
    expect(counts('other')).toBe(true)
    clock.ms = TTL_MS
    expect(counts('other')).toBe(false)
  })

  it('counts what it can not read until it is gone, and longer if it could be read before', () => {
    const { counts, apply, clock, said } = mirror()
    apply([keys.gateway('one'), alive], [hold, 'x'])
    clock.ms = 10 * TTL_MS
    expect(counts()).toBe(true)
    apply([hold, undefined])
    expect(counts()).toBe(false)
    apply([hold, held], [hold, 'x'], [hold, undefined])
    expect(counts()).toBe(true)
    clock.ms = 11 * TTL_MS
    expect(counts()).toBe(false)
    expect(said).toContain(`garbage ${hold}`)
  })

  it('takes a whole state for news of what has changed, and leaves heartbeats as old as they are', () => {
    const { counts, mirror: made, clock, said, apply } = mirror()
    apply([keys.gateway('one'), alive], [hold, held], [keys.request('one', '7'), '{}'])
    const heartbeat = { key: keys.gateway('one'), value: alive, modRevision: 1, createRevision: 1 }
    clock.ms = 500
    made.replace([heartbeat], 9)
    expect(made.revision).toBe(9)
    expect(made.members.get('one')?.seenMs).toBe(0)
    expect(said).toEqual(['asked one 7', 'answered 7', 'lost disk'])
    expect(counts()).toBe(true)
    clock.ms = 500 + TTL_MS
    expect(counts()).toBe(false)
  })

  it.each(['/p/x/disk', '/p/z/one', '/p/x/%zz/one', '/p/g/a/b/c', '/p/'])(
    'tells of %s, which no gateway writes',
    key => {
      const { apply, said } = mirror()
      apply([key, 'x'])
      expect(said).toEqual([`garbage ${key}`])
    },
  )

  it('finds exports by any name', () => {
    for (const name of ['', 'a/b', 'ü %', '..', 'x'.repeat(200)]) {
      expect(keys.factsOf(keys.holds(name, 'g1'))).toEqual({ kind: 'holds', export: name, gateway: 'g1' })
    }
  })
})
