// Who sees which export with which rights: generated rules, an oracle that is as naive as can be, and nbdinfo as witness.
import { join } from 'node:path'
import { expect } from 'vitest'
import { seededFile } from '../support/disk.ts'
import { test } from '../support/fixtures.ts'
import type { RunningGateway } from '../support/gateway.ts'
import type { TestPki } from '../support/pki.ts'
import { run } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { config, type Entry, tcpDoor, tlsDoor } from './configs.ts'

const EXPORTS = 100
const SEED = 20_261_125

/** What is true of a visitor, in the words of the rules. */
interface Visitor {
  readonly title: string
  readonly door: 'tls' | 'tcp' | 'unix'
  readonly facts: ReadonlySet<string>
  readonly uri: (running: RunningGateway) => string
}

interface Rule {
  readonly who: string | readonly string[]
  readonly rights: 'read' | 'write'
  readonly until?: string
}

interface Rules {
  readonly name: string
  readonly allow: readonly Rule[]
  readonly deny: readonly (string | readonly string[])[]
  readonly doors?: readonly Visitor['door'][]
}

const UIDS = [process.getuid?.() ?? 0, 4_000_000_000] as const

/** Every condition, and the facts of which one must be there for it to hold. */
const CONDITIONS: Readonly<Record<string, readonly string[]>> = {
  anyone: ['anybody'],
  'cert:cn=alice': ['alice'],
  'cert:cn=bob': ['bob'],
  'cert:cn=*': ['alice', 'bob', 'carol'],
  'cert:ou=lab': ['carol'],
  'cert:cn=ali': [],
  'address:127.0.0.0/8': ['v4'],
  'address:::1/128': ['v6'],
  'address:10.0.0.0/8': [],
  [`uid:${UIDS[0]}`]: ['local'],
  [`uid:${UIDS[1]}`]: [],
}

/** Numbers that look like chance and are the same each time (Park and Miller). */
function dice(seed: number): <T>(faces: readonly T[]) => T {
  let state = seed
  return faces => {
    state = (state * 48_271) % 2_147_483_647
    const face = faces[state % faces.length]
    if (face === undefined) throw new RangeError('a dice without faces')
    return face
  }
}

function generate(): readonly Rules[] {
  const roll = dice(SEED)
  const who = (): string | string[] => {
    const one = () => roll(Object.keys(CONDITIONS))
    return roll([1, 1, 2]) === 1 ? one() : [one(), one()]
  }
  const times = <T>(counts: readonly number[], make: () => T): T[] => Array.from({ length: roll(counts) }, make)
  return Array.from({ length: EXPORTS }, (_, nth) => ({
    name: `export-${nth}`,
    allow: times([0, 1, 2, 2, 3, 4], () => ({
      who: who(),
      rights: roll(['read', 'read', 'write'] as const),
      ...roll([{}, {}, {}, { until: '2001-01-01T00:00:00Z' }, { until: '2999-01-01T00:00:00Z' }]),
    })),
    deny: times([0, 0, 0, 1, 2], who),
    ...roll([{}, {}, {}, { doors: ['tls'] as const }, { doors: ['tcp', 'unix'] as const }]),
  }))
}

/** What the rules say, read word by word. */
function oracle(rules: Rules, visitor: Visitor): 'nothing' | 'read' | 'write' {
  const holds = (who: string | readonly string[]) =>
    [who].flat().every(each => (CONDITIONS[each] ?? []).some(fact => visitor.facts.has(fact)))
  if (rules.doors !== undefined && !rules.doors.includes(visitor.door)) return 'nothing'
  if (rules.deny.some(holds)) return 'nothing'
  const rights = rules.allow.filter(rule => rule.until !== '2001-01-01T00:00:00Z' && holds(rule.who))
  if (rights.some(rule => rule.rights === 'write')) return 'write'
  return rights.length > 0 ? 'read' : 'nothing'
}

function visitors(pki: TestPki): readonly Visitor[] {
  const carol = pki.client('carol', { organizationalUnit: 'lab' })
  const people = { alice: pki.alice.dir, bob: pki.bob.dir, carol: carol.dir } as const
  const [v4, v6] = [{ host: '127.0.0.1', fact: 'v4' } as const, { host: '[::1]', fact: 'v6' } as const]
  const portAt = (running: RunningGateway, kind: string, host: string): string => {
    const found = running.doors.find(door => door.kind === kind && door.address.startsWith(host))
    return found?.address.slice(host.length + 1) ?? 'none'
  }
  const byTls = [v4, v6].flatMap(({ host, fact }) =>
    Object.entries(people).map(([name, dir]) => ({
      title: `${name} by TLS over ${fact}`,
      door: 'tls' as const,
      facts: new Set(['anybody', fact, name]),
      uri: (running: RunningGateway) => `nbds://${host}:${portAt(running, 'tls', host)}/?tls-certificates=${dir}`,
    })),
  )
  const byTcp = [v4, v6].map(({ host, fact }) => ({
    title: `somebody over ${fact}`,
    door: 'tcp' as const,
    facts: new Set(['anybody', fact]),
    uri: (running: RunningGateway) => `nbd://${host}:${portAt(running, 'tcp', host)}`,
  }))
  const local: Visitor = {
    title: 'a local user',
    door: 'unix',
    facts: new Set(['anybody', 'local']),
    uri: running => `nbd+unix:///?socket=${running.address('unix')}`,
  }
  return [...byTls, ...byTcp, local]
}

/** What nbdinfo finds: each export with what may be done with it. */
async function seen(uri: string): Promise<Readonly<Record<string, string>>> {
  const { code, stdout, stderr } = await run(['nbdinfo', '--list', '--json', uri])
  if (code !== 0) return stderr.includes('does not have a default export') ? {} : { failed: stderr }
  const { exports } = JSON.parse(stdout) as { exports?: { 'export-name': string; is_read_only: boolean }[] }
  return Object.fromEntries((exports ?? []).map(each => [each['export-name'], each.is_read_only ? 'read' : 'write']))
}

requires('nbdinfo')('every visitor', () => {
  test('sees of every export what its rules say, and no more', { timeout: 120_000 }, async ({ dir, gateway, pki }) => {
    const file = await seededFile(join(dir, 'disk.img'), 1)
    const rules = generate()
    const exports: Entry[] = rules.map(each => ({ ...each, upstream: { file } }))
    const doors = [
      tlsDoor(pki),
      tlsDoor(pki, { tls: '[::1]:0' }),
      tcpDoor(),
      tcpDoor({ tcp: '[::1]:0', from: ['::1/128'] }),
      { unix: join(dir, 'nbd.sock') },
    ]
    const running = await gateway(config(doors, exports))
    const everybody = visitors(pki)
    const verdicts = { nothing: 0, read: 0, write: 0 }
    for (const visitor of everybody) {
      const wanted = rules.map(each => [each.name, oracle(each, visitor)] as const)
      for (const [, verdict] of wanted) verdicts[verdict]++
      const visible = Object.fromEntries(wanted.filter(([, verdict]) => verdict !== 'nothing'))
      expect(await seen(visitor.uri(running)), visitor.title).toEqual(visible)
    }
    // The dice made enough of each, or the agreement would mean little.
    expect(rules.length * everybody.length).toBeGreaterThanOrEqual(500)
    for (const count of Object.values(verdicts)) expect(count).toBeGreaterThan(50)
  })
})
