import { afterEach, describe, expect, it } from 'vitest'
import { parseConfig } from '../../../src/config/load.ts'
import { createControl, type LocalControl } from '../../../src/gateway/control.ts'
import { Discoveries } from '../../../src/gateway/discovery.ts'
import type { ListEntry } from '../../../src/negotiation/host.ts'
import { openLog } from '../../../src/observe/log.ts'
import { whoProblem } from '../../../src/policy/who.ts'
import { MemoryLeases } from '../../../src/sharing/memory-leases.ts'

const YAML = `version: 1
doors:
  - unix: a.sock
exports:
  - name: lab-own
    description: written down
    upstream: nbd://127.0.0.1:10810/other
    allow: [{ who: anyone, rights: read }]
  - from: nbd://127.0.0.1:10810/
    name: lab-vm*
    prefix: lab-
    allow: [{ who: "uid:7", rights: write }]
  - from: nbd://127.0.0.1:10810/
    prefix: lab-
    description: of the lab
    allow: [{ who: "uid:8", rights: read }]
`
const seven = { identity: { uid: 7 }, door: 'unix' } as const
const eight = { identity: { uid: 8 }, door: 'unix' } as const

interface Scene {
  readonly control: LocalControl
  readonly discoveries: Discoveries
  /** How often the upstream was asked. */
  readonly asked: () => number
  readonly lists: (entries: readonly ListEntry[] | Error) => void
}

const open: Discoveries[] = []
afterEach(() => {
  for (const each of open.splice(0)) each.close()
})

async function scene(first: readonly ListEntry[] | Error, yaml = YAML): Promise<Scene> {
  const config = parseConfig(yaml, 'nbdgate.yaml', { validateWho: whoProblem })
  let answer = first
  let asked = 0
  const list = async (): Promise<readonly ListEntry[]> => {
    asked++
    if (answer instanceof Error) throw answer
    return answer
  }
  const log = openLog({ level: 'silent' })
  const changed = async (): Promise<void> => void control.replace(discoveries.extend(config))
  const discoveries = new Discoveries(log, changed, list)
  open.push(discoveries)
  const control = createControl(config, new MemoryLeases(), each => discoveries.seek(each))
  await discoveries.prepare(config)
  return { control, discoveries, asked: () => asked, lists: entries => (answer = entries) }
}

const names = async (control: LocalControl, asker: Parameters<LocalControl['visible']>[0]): Promise<string[]> =>
  (await control.visible(asker)).map(({ name }) => name)

describe('what an upstream lists', () => {
  it('is published under the rules of the first entry that means it, and what is written down wins', async () => {
    const { control, asked } = await scene([{ name: 'vm1' }, { name: 'own' }, { name: 'disk', description: 'd' }])
    expect(await names(control, seven)).toEqual(['lab-own', 'lab-vm1'])
    expect(await control.visible(eight)).toEqual([
      { name: 'lab-own', description: 'written down' },
      { name: 'lab-disk', description: 'of the lab' },
    ])
    expect(await control.decide('lab-vm1', seven)).toMatchObject({
      rights: 'write',
      rule: 'nbdgate.yaml:12',
      upstream: { host: '127.0.0.1', port: 10810, export: 'vm1' },
    })
    expect(await control.decide('lab-own', seven)).toMatchObject({ upstream: { export: 'other' } })
    expect(asked()).toBe(1)
  })

  it('is left out where a name has control characters, was no UTF-8, is too long or comes twice', async () => {
    const bad = ['vm\n', 'vm\u001b[2J', 'vm\u202e', 'vm\ufffd', `vm${'x'.repeat(4095)}`]
    const { control } = await scene([...bad, 'vm1', 'vm1'].map(name => ({ name, description: '\u0007' })))
    expect(await control.visible(seven)).toEqual([
      { name: 'lab-own', description: 'written down' },
      { name: 'lab-vm1', description: undefined },
    ])
  })

  it('is cut at 10,000', async () => {
    const { control } = await scene(Array.from({ length: 12_000 }, (_, at) => ({ name: `vm${at}` })))
    expect(await names(control, seven)).toHaveLength(10_001)
  })

  it('is asked for again when somebody asks for a name that could be new, once a second, and only for who may have it', async () => {
    const { control, asked, lists, discoveries } = await scene([{ name: 'vm1' }])
    lists([{ name: 'vm1' }, { name: 'vm2' }])
    const nobody = { identity: { uid: 9 }, door: 'unix' } as const
    expect(await control.decide('lab-vm2', nobody)).toMatchObject({ kind: 'refused' })
    expect(await control.decide('vm2', seven)).toMatchObject({ kind: 'refused' })
    expect(asked()).toBe(1)
    const one = parseConfig(YAML, 'nbdgate.yaml').discoveries?.[0]
    if (one === undefined) throw new Error('no discovery')
    await discoveries.prepare(parseConfig(YAML, 'nbdgate.yaml'))
    expect(asked()).toBe(2)
    expect(await control.decide('lab-vm2', seven)).toMatchObject({ kind: 'granted' })
    expect(await control.decide('lab-vm3', seven)).toMatchObject({ kind: 'refused' })
    expect(asked()).toBe(2)
  })

  it('holds while the upstream does not answer', async () => {
    const { control, lists, discoveries } = await scene([{ name: 'vm1' }])
    lists(new Error('away'))
    await discoveries.prepare(parseConfig(YAML, 'nbdgate.yaml'))
    expect(await names(control, seven)).toEqual(['lab-own', 'lab-vm1'])
    lists([])
    await discoveries.prepare(parseConfig(YAML, 'nbdgate.yaml'))
    expect(await names(control, seven)).toEqual(['lab-own'])
  })
})

describe('an entry with `from`', () => {
  const problems = (entry: string): string[] => {
    try {
      parseConfig(`version: 1\ndoors: [{ unix: a.sock }]\nexports:\n  - ${entry}\n`, 'nbdgate.yaml')
      return []
    } catch (error) {
      return error instanceof Error ? error.message.split('\n') : []
    }
  }
  it('has no upstream of its own, and its keys mean nothing without it', () => {
    expect(problems('{ from: nbd://host/, upstream: nbd://host/a }').join()).toContain('can not stand beside `from`')
    expect(problems('{ name: a, upstream: nbd://host/a, prefix: b }').join()).toContain('`prefix` needs `from`')
    expect(problems('{ name: a }').join()).toContain('`upstream` is missing')
    expect(problems('{ upstream: nbd://host/a }').join()).toContain('`name` is missing')
    expect(problems('{ from: nbd://host/, refresh: 10ms }').join()).toContain('at least 1s')
    expect(problems('{ from: { file: a } }').join()).toContain('NBD URI')
    expect(problems('{ from: nbd://host/ }')).toEqual([])
  })
})
