import { describe, expect, it } from 'vitest'
import { parseConfig } from '../../../src/config/load.ts'
import { type Asker, type Control, createControl, type LocalControl } from '../../../src/gateway/control.ts'
import { whoProblem } from '../../../src/policy/who.ts'
import { MemoryLeases } from '../../../src/sharing/memory-leases.ts'

const YAML = `version: 1
doors:
  - tcp: 127.0.0.1:0
    from: [192.0.2.0/24]
exports:
  - name: open
    description: for everybody
    upstream: nbd://127.0.0.1:10810/a
    allow:
      - who: anyone
        rights: read
  - name: narrow
    upstream: nbd://127.0.0.1:10810/b
    allow:
      - who: address:192.0.2.7
        rights: write
    limits: { sessions: 1 }
  - name: closed
    upstream: nbd://127.0.0.1:10810/c
`
const seven = { identity: { address: '192.0.2.7' }, door: 'tcp' } as const
const eight = { identity: { address: '192.0.2.8' }, door: 'tcp' } as const
const made = (text: string): LocalControl =>
  createControl(parseConfig(text, 'nbdgate.yaml', { validateWho: whoProblem }), new MemoryLeases())
const control = () => made(YAML)

const visit = (asker: Asker, conn = 1) => ({ asker, conn, peer: `${asker.identity.address}:50312` })

async function acquire(one: Control, name: string, asker: Asker, conn = 1): Promise<boolean> {
  return (await one.acquire(name, visit(asker, conn), AbortSignal.abort())).kind === 'taken'
}

describe('the control plane', () => {
  it('shows the exports that the asker may use, and no other', async () => {
    expect(await control().visible(seven)).toEqual([
      { name: 'open', description: 'for everybody' },
      { name: 'narrow', description: undefined },
    ])
    expect((await control().visible(eight)).map(({ name }) => name)).toEqual(['open'])
  })

  it('grants with the rights, the line of the rule and the way to the upstream', async () => {
    expect(await control().decide('narrow', seven)).toEqual({
      kind: 'granted',
      rights: 'write',
      rule: 'nbdgate.yaml:15',
      description: undefined,
      rates: [],
      luks: undefined,
      align: false,
      outage: { reconnectMs: 60_000, replayBytes: 0 },
      upstream: { kind: 'tcp', tls: false, host: '127.0.0.1', port: 10810, export: 'b' },
    })
  })

  it('refuses without a word of the upstream', async () => {
    expect(await control().decide('narrow', eight)).toEqual({ kind: 'refused', reason: 'no rule' })
    expect(await control().decide('closed', seven)).toEqual({ kind: 'refused', reason: 'no rule' })
    expect(await control().decide('nowhere', seven)).toEqual({ kind: 'refused', reason: 'no such export' })
  })

  it('gives out as many sessions of an export as its limit says', async () => {
    const one = control()
    expect(await acquire(one, 'narrow', seven)).toBe(true)
    expect(await acquire(one, 'narrow', seven)).toBe(false)
    one.release('narrow', visit(seven))
    expect(await acquire(one, 'narrow', seven)).toBe(true)
  })

  it('does not count a no', async () => {
    const one = control()
    await acquire(one, 'narrow', seven)
    await acquire(one, 'narrow', seven)
    one.release('narrow', visit(seven))
    expect(await acquire(one, 'narrow', seven)).toBe(true)
    expect(await acquire(one, 'narrow', seven)).toBe(false)
  })

  it('has no limit where none is written, and nothing of what does not exist', async () => {
    const one = control()
    const taken = await Promise.all(Array.from({ length: 100 }, (_, conn) => acquire(one, 'open', seven, conn)))
    expect(taken.every(Boolean)).toBe(true)
    expect(await acquire(one, 'nowhere', seven)).toBe(false)
  })

  it('gives out as many sessions to one identity as its rule says, and to another as many again', async () => {
    const limits = 'limits: { sessions: 1, read: 10MB/s }'
    const text = YAML.replace('rights: read\n', `rights: read\n        ${limits}\n`)
    const one = made(text)
    expect(await acquire(one, 'open', seven)).toBe(true)
    expect(await acquire(one, 'open', seven)).toBe(false)
    expect(await acquire(one, 'open', eight)).toBe(true)
    one.release('open', visit(seven))
    expect(await acquire(one, 'open', seven)).toBe(true)
    const keys = [seven, eight].map(async asker => await one.decide('open', asker))
    expect(await Promise.all(keys)).toMatchObject([
      { rates: [{ key: 'address 192.0.2.7 export open', read: 10_000_000 }] },
      { rates: [{ key: 'address 192.0.2.8 export open', read: 10_000_000 }] },
    ])
  })

  it('takes two keys that come from one address for two holders', async () => {
    const one = made(YAML.replace('rights: read\n', 'rights: write\n'))
    const by = (psk: string): Asker => ({ identity: { address: '192.0.2.7', psk }, door: 'tls' })
    expect(await acquire(one, 'open', by('alice'), 1)).toBe(true)
    expect(await acquire(one, 'open', by('bob'), 2)).toBe(false)
    expect(await acquire(one, 'open', by('alice'), 3)).toBe(true)
  })

  it('explains by the rules, and says beside them what the sharing is', async () => {
    const one = made(YAML.replace('limits: { sessions: 1 }', 'sharing: read-only'))
    expect(await one.decide('narrow', seven)).toMatchObject({ kind: 'granted', rights: 'read' })
    expect(await one.explain('narrow', seven)).toMatchObject({
      decision: { kind: 'granted', rights: 'write', rule: 'nbdgate.yaml:15' },
      steps: [{ outcome: 'decides' }],
      sharing: 'read-only',
    })
  })

  it('takes another configuration, and does not forget who is in', async () => {
    const one = control()
    expect(await acquire(one, 'narrow', seven)).toBe(true)
    one.replace(parseConfig(YAML.replace('192.0.2.7', '192.0.2.8'), 'nbdgate.yaml', { validateWho: whoProblem }))
    expect(await one.decide('narrow', seven)).toMatchObject({ kind: 'refused' })
    expect(await acquire(one, 'narrow', eight)).toBe(false)
    one.release('narrow', visit(seven))
    expect(await acquire(one, 'narrow', eight)).toBe(true)
  })
})
