import { describe, expect, it } from 'vitest'
import { parseConfig } from '../../../src/config/load.ts'
import { createControl } from '../../../src/gateway/control.ts'
import { whoProblem } from '../../../src/policy/who.ts'

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
const control = () => createControl(parseConfig(YAML, 'nbdgate.yaml', { validateWho: whoProblem }))

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
    expect(await one.acquire('narrow', seven)).toBe(true)
    expect(await one.acquire('narrow', seven)).toBe(false)
    one.release('narrow', seven)
    expect(await one.acquire('narrow', seven)).toBe(true)
  })

  it('does not count a no', async () => {
    const one = control()
    await one.acquire('narrow', seven)
    await one.acquire('narrow', seven)
    one.release('narrow', seven)
    expect(await one.acquire('narrow', seven)).toBe(true)
    expect(await one.acquire('narrow', seven)).toBe(false)
  })

  it('has no limit where none is written, and nothing of what does not exist', async () => {
    const one = control()
    const taken = await Promise.all(Array.from({ length: 100 }, () => one.acquire('open', seven)))
    expect(taken.every(Boolean)).toBe(true)
    expect(await one.acquire('nowhere', seven)).toBe(false)
  })

  it('gives out as many sessions to one identity as its rule says, and to another as many again', async () => {
    const limits = 'limits: { sessions: 1, read: 10MB/s }'
    const text = YAML.replace('rights: read\n', `rights: read\n        ${limits}\n`)
    const one = createControl(parseConfig(text, 'nbdgate.yaml', { validateWho: whoProblem }))
    expect(await one.acquire('open', seven)).toBe(true)
    expect(await one.acquire('open', seven)).toBe(false)
    expect(await one.acquire('open', eight)).toBe(true)
    one.release('open', seven)
    expect(await one.acquire('open', seven)).toBe(true)
    const keys = [seven, eight].map(async asker => await one.decide('open', asker))
    expect(await Promise.all(keys)).toMatchObject([
      { rates: [{ key: 'address 192.0.2.7 export open', read: 10_000_000 }] },
      { rates: [{ key: 'address 192.0.2.8 export open', read: 10_000_000 }] },
    ])
  })

  it('takes another configuration, and does not forget who is in', async () => {
    const one = control()
    expect(await one.acquire('narrow', seven)).toBe(true)
    one.replace(parseConfig(YAML.replace('192.0.2.7', '192.0.2.8'), 'nbdgate.yaml', { validateWho: whoProblem }))
    expect(await one.decide('narrow', seven)).toMatchObject({ kind: 'refused' })
    expect(await one.acquire('narrow', eight)).toBe(false)
    one.release('narrow', seven)
    expect(await one.acquire('narrow', eight)).toBe(true)
  })
})
