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
    expect(await one.acquire('narrow')).toBe(true)
    expect(await one.acquire('narrow')).toBe(false)
    one.release('narrow')
    expect(await one.acquire('narrow')).toBe(true)
  })

  it('does not count a no', async () => {
    const one = control()
    await one.acquire('narrow')
    await one.acquire('narrow')
    one.release('narrow')
    expect(await one.acquire('narrow')).toBe(true)
    expect(await one.acquire('narrow')).toBe(false)
  })

  it('has no limit where none is written, and nothing of what does not exist', async () => {
    const one = control()
    const taken = await Promise.all(Array.from({ length: 100 }, () => one.acquire('open')))
    expect(taken.every(Boolean)).toBe(true)
    expect(await one.acquire('nowhere')).toBe(false)
  })
})
