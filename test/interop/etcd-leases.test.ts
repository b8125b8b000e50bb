// Leases in etcd, without gateways around them: what every keeper of leases promises, and what only several gateways can do.
import { setImmediate } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { bootMs } from '../../src/platform/libc.ts'
import type { Term } from '../../src/sharing/fence.ts'
import { busyMessage, type Claim } from '../../src/sharing/leases.ts'
import { type EtcdCluster, startEtcd } from '../support/etcd.ts'
import { runOk } from '../support/process.ts'
import { makeTempFolder, removeTempFolder } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'
import { claim, leasesSuite } from '../unit/sharing/leases-suite.ts'
import { type KeepOptions, type Kept, keep } from './etcd-ground.ts'

let dir: string
let etcd: EtcdCluster
let prefixes = 0
const kept: Kept[] = []

const gateway = async (options: Partial<KeepOptions> = {}): Promise<Kept> => {
  const made = await keep({ urls: etcd.urls, prefix: `/test-${prefixes}/`, ...options })
  kept.push(made)
  return made
}

beforeAll(async () => {
  dir = await makeTempFolder()
  etcd = await startEtcd(dir, 'etcd')
})
afterAll(async () => {
  await etcd.stop()
  await removeTempFolder(dir)
})
afterEach(async () => {
  prefixes++
  await Promise.all(kept.splice(0).map(({ leases }) => leases.close()))
})

leasesSuite('etcd', async () => (await gateway()).leases)

const AT_ONCE = { ms: 0, signal: new AbortController().signal }
const PATIENT = { ms: 20_000, signal: new AbortController().signal }
const bob = (more: Partial<Claim> = {}): Claim => claim({ holder: 'bob', session: 2, ...more })

/** Has etcd do something behind the gateways' backs. */
async function etcdctl(...args: readonly string[]): Promise<string> {
  return await runOk(['etcdctl', '--endpoints', etcd.urls.join(','), ...args], { env: { ETCDCTL_API: '3' } })
}

describe('leases of two gateways', () => {
  it.each([
    ['exclusive', 'read', 'read', 'busy'],
    ['readers-or-writer', 'read', 'read', 'held'],
    ['readers-or-writer', 'read', 'write', 'busy'],
    ['readers-or-writer', 'write', 'read', 'busy'],
    ['single-writer', 'write', 'read', 'held'],
    ['single-writer', 'write', 'write', 'busy'],
    ['cluster', 'write', 'write', 'held'],
  ] as const)('%s: beside one who may %s another who may %s, elsewhere, is %s', async (mode, first, second, kind) => {
    const [one, two] = [await gateway({ name: 'one' }), await gateway({ name: 'two' })]
    expect(await one.leases.acquire(claim({ mode, access: first }), AT_ONCE)).toMatchObject({ kind: 'held' })
    const answer = await two.leases.acquire(bob({ mode, access: second }), AT_ONCE)
    expect(answer.kind).toBe(kind)
    if (answer.kind === 'busy')
      expect(busyMessage(answer.by)).toContain('by alice from alice:1 through the gateway one')
  })

  it('are free elsewhere when they are given back, and who waits for them gets them', async () => {
    const [one, two] = [await gateway({ name: 'one' }), await gateway()]
    const first = await one.leases.acquire(claim(), AT_ONCE)
    const waiting = two.leases.acquire(bob(), PATIENT)
    await waitFor('a lease that the other sees', () => two.leases.list().some(({ gateway: name }) => name === 'one'))
    expect(two.leases.list()).toMatchObject([{ export: 'disk', who: 'alice', gateway: 'one', sessions: [] }])
    one.leases.release(1)
    const second = await waiting
    if (first.kind !== 'held' || second.kind !== 'held') throw new Error('not held')
    expect(second.epoch).toBeGreaterThan(first.epoch ?? Infinity)
    expect(second.term?.untilMs).toBeGreaterThan(bootMs())
  })

  it('are all given back when a session ends while etcd hears of another', async () => {
    const [one, two] = [await gateway({ name: 'one' }), await gateway()]
    for (let session = 1; session <= 4; session++) {
      const reader = claim({ holder: `h${session}`, who: `r${session}`, access: 'read', session })
      expect(await one.leases.acquire(reader, AT_ONCE)).toMatchObject({ kind: 'held' })
    }
    for (let session = 1; session <= 4; session++) {
      one.leases.release(session)
      await setImmediate()
    }
    expect(await two.leases.acquire(bob(), PATIENT)).toMatchObject({ kind: 'held' })
  })

  it('go to one of many who ask at the same time', async () => {
    const all = await Promise.all(['one', 'two', 'three'].map(name => gateway({ name })))
    for (let round = 0; round < 20; round++) {
      const claims = all.map(({ leases }, index) =>
        leases.acquire(claim({ export: `disk-${round}`, holder: `h${index}`, session: round }), AT_ONCE),
      )
      const kinds = (await Promise.all(claims)).map(({ kind }) => kind)
      expect(kinds.filter(kind => kind === 'held')).toHaveLength(1)
      expect(kinds.filter(kind => kind === 'busy')).toHaveLength(2)
    }
  })

  it('of one holder are one: the second gateway has the first settle before it says yes', async () => {
    let settle: () => void = () => {}
    const settled = new Promise<void>(resolve => {
      settle = resolve
    })
    const asked: number[][] = []
    const listener = {
      settle: async (sessions: readonly number[]) => {
        asked.push([...sessions])
        await settled
      },
    }
    const [one, two] = [await gateway({ listener }), await gateway()]
    await one.leases.acquire(claim(), AT_ONCE)
    let isIn = false
    const second = two.leases.acquire(claim({ session: 9 }), AT_ONCE).then(answer => {
      isIn = true
      return answer
    })
    await waitFor('the question', () => asked.length > 0)
    expect(asked).toEqual([[1]])
    expect(isIn).toBe(false)
    settle()
    expect(await second).toMatchObject({ kind: 'held', others: [] })
  })

  it('can be taken away from another gateway', async () => {
    const one: Kept = await gateway({
      name: 'one',
      listener: { release: async sessions => void sessions.map(session => one.leases.release(session)) },
    })
    const two = await gateway()
    await one.leases.acquire(claim(), AT_ONCE)
    await waitFor('a lease that the other sees', () => two.leases.list().length === 1)
    expect(await two.leases.evict(name => name === 'disk', 'carol')).toBe(0)
    expect(await two.leases.evict(name => name === 'disk', 'alice')).toBe(1)
    expect(await two.leases.acquire(bob(), AT_ONCE)).toMatchObject({ kind: 'held' })
  })
})

describe('when in doubt nobody writes', () => {
  it('a key that somebody deletes ends who holds it, and is free only when its time is over', async () => {
    const [one, two] = [await gateway(), await gateway()]
    await one.leases.acquire(claim(), AT_ONCE)
    await waitFor('a lease that the other sees', () => two.leases.list().length === 1)
    await etcdctl('del', '--prefix', `/test-${prefixes}/x/`)
    await waitFor('the loss', () => one.heard.lost.includes(1))
    expect(await two.leases.acquire(bob(), AT_ONCE)).toMatchObject({ kind: 'busy' })
    const begin = bootMs()
    expect(await two.leases.acquire(bob(), PATIENT)).toMatchObject({ kind: 'held' })
    expect(bootMs() - begin).toBeGreaterThan(1000)
  })

  it('a gateway whose heartbeat is deleted has lost all leases, and begins anew', async () => {
    const [one, two] = [await gateway(), await gateway()]
    await one.leases.acquire(claim(), AT_ONCE)
    await waitFor('a lease that the other sees', () => two.leases.list().length === 1)
    const lives = (): number => one.log.filter(message => message === 'leases are kept in etcd').length
    await etcdctl('del', '--prefix', `/test-${prefixes}/g/`)
    await waitFor('the loss', () => one.heard.ended.length > 0 && lives() > 1)
    expect(await two.leases.acquire(bob(), AT_ONCE)).not.toMatchObject({ kind: 'held' })
    one.leases.release(1)
    expect(await two.leases.acquire(bob(), PATIENT)).toMatchObject({ kind: 'held' })
  })

  it.each(['', 'no JSON', '{"version":2}'])(
    'a hold that can not be read, "%s", keeps everybody out until it is gone',
    async value => {
      const one = await gateway()
      const key = `/test-${prefixes}/x/disk/somebody`
      await etcdctl('put', key, value)
      await waitFor('the line', () => one.log.includes('a key in etcd that no gateway writes'))
      expect(await one.leases.acquire(claim(), { ...PATIENT, ms: 2500 })).toMatchObject({ kind: 'busy' })
      expect(await one.leases.acquire(claim({ export: 'other' }), AT_ONCE)).toMatchObject({ kind: 'held' })
      await etcdctl('del', key)
      expect(await one.leases.acquire(claim(), PATIENT)).toMatchObject({ kind: 'held' })
    },
  )

  it('what else stands under the prefix is told of, and does no harm', async () => {
    await etcdctl('put', `/test-${prefixes}/other`, 'x')
    await etcdctl('put', `/test-${prefixes}/g/nobody`, 'x')
    await etcdctl('put', `/test-${prefixes}/x/%zz/nobody`, 'x')
    const one = await gateway()
    expect(one.log.filter(message => message === 'a key in etcd that no gateway writes')).toHaveLength(3)
    expect(await one.leases.acquire(claim(), AT_ONCE)).toMatchObject({ kind: 'held' })
  })

  it('a gateway that another has given up writes no key any more', async () => {
    const one = await gateway()
    await one.leases.acquire(claim(), AT_ONCE)
    const { id } = one.heard.term ?? (await waitForTerm(one))
    await etcdctl('del', `/test-${prefixes}/g/${id}`)
    const answer = await one.leases.acquire(claim({ export: 'other', session: 5 }), AT_ONCE)
    const keys = await etcdctl('get', '--prefix', '--keys-only', `/test-${prefixes}/x/other/${id}`)
    expect(keys.trim()).toBe('')
    if (answer.kind === 'held') expect(answer.term?.id).not.toBe(id)
  })
})

describe('many leases', () => {
  it('10,000 exports are held at once, and found by a gateway that comes later', { timeout: 300_000 }, async () => {
    const one = await gateway({ ttlMs: 10_000 })
    for (let first = 0; first < 10_000; first += 100) {
      const claims = Array.from({ length: 100 }, (_, index) =>
        claim({ export: `disk-${first + index}`, session: first + index }),
      )
      const answers = await Promise.all(claims.map(each => one.leases.acquire(each, AT_ONCE)))
      expect(answers.filter(({ kind }) => kind !== 'held')).toEqual([])
    }
    const two = await gateway({ ttlMs: 10_000 })
    expect(two.leases.list()).toHaveLength(10_000)
    expect(await two.leases.acquire(bob({ export: 'disk-9999' }), AT_ONCE)).toMatchObject({ kind: 'busy' })
    expect(one.heard.ended).toEqual([])
  })
})

async function waitForTerm({ heard }: Kept): Promise<Term> {
  await waitFor('a heartbeat', () => heard.term !== undefined)
  if (heard.term === undefined) throw new Error('no term')
  return heard.term
}
