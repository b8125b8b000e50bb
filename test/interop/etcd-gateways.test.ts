// Two gateways that share their leases in etcd, as clients and operators see them.
import { describe, expect } from 'vitest'
import { Cmd, Rep } from '../../src/protocol/constants.ts'
import { type EtcdCluster, startEtcd } from '../support/etcd.ts'
import type { GatewayOptions, RunningGateway } from '../support/gateway.ts'
import { childrenOf, isStopped, signalTo } from '../support/procfs.ts'
import { requires } from '../support/requires.ts'
import { settableClock } from '../support/settable-clock.ts'
import { test as base, enter, entered, nbdgate } from './sharing-ground.ts'

const TTL_MS = 3000
const HOUR_S = 3600

/** `whole`: more of the configuration beside its exports. */
type Options = GatewayOptions & { readonly whole?: object }

const test = base
  .extend('etcd', async ({ dir }, { onCleanup }): Promise<EtcdCluster> => {
    const cluster = await startEtcd(dir, 'etcd')
    onCleanup(cluster.stop)
    return cluster
  })
  /** Starts a gateway of this name that the others know; its admin socket. */
  .extend('member', async ({ dir, shared, etcd, gateway }) => {
    return async (
      name: string,
      more = {},
      { whole = {}, ...options }: Options = {},
    ): Promise<{ running: RunningGateway; socket: string }> => {
      const socket = `${dir}/${name}.sock`
      const leases = { etcd: etcd.urls, ttl: `${TTL_MS}ms`, name }
      const running = await gateway(shared.text(more, { admin: { socket }, leases, ...whole }), options)
      await running.waitForLog(({ msg }) => msg === 'leases are kept in etcd', 60_000)
      return { running, socket }
    }
  })

requires(
  'etcd',
  'nbd-server',
  'faketime',
)('gateways that share leases', () => {
  describe('an operator', () => {
    test('sees the leases of all gateways at each, and takes one away from where it is not', {
      timeout: 120_000,
    }, async ({ pki, member }) => {
      const [one, two] = [await member('one'), await member('two')]
      const alice = await entered(one.running.port('tls'), pki.alice)
      const list = async (): Promise<string> => (await nbdgate('lease', 'list', '--socket', two.socket)).stdout
      await expect.poll(list, { timeout: 20_000 }).toMatch(/^disk .*cert:cn=alice .*write .* one$/m)
      const bob = await enter(two.running.port('tls'), pki.bob)
      expect(bob).toMatchObject({ kind: 'refused', reply: Rep.ERR_POLICY })
      expect(bob.kind === 'refused' && bob.text).toContain('through the gateway one')
      expect(await nbdgate('lease', 'release', 'disk', 'cert:cn=alice', '--socket', two.socket)).toMatchObject({
        code: 0,
      })
      await alice.client.closed()
      await entered(two.running.port('tls'), pki.bob)
      const ended = await one.running.waitForLog(({ msg }) => msg === 'session ended')
      expect(ended).toMatchObject({ why: 'lease released' })
    })
  })

  test('one identity may come in through both: its writes of before are done first', { timeout: 120_000 }, async ({
    pki,
    member,
  }) => {
    const [one, two] = [await member('one'), await member('two')]
    const first = await entered(one.running.port('tls'), pki.alice)
    const second = await entered(two.running.port('tls'), pki.alice)
    for (const { client } of [first, second]) {
      client.request(Cmd.WRITE, 1n, 0n, 512, Buffer.alloc(512, 1))
      expect(await client.simpleReply()).toMatchObject({ error: 0 })
    }
  })

  test('without etcd nobody new gets in, who is in is ended in time, and it comes back by itself', {
    timeout: 180_000,
  }, async ({ pki, etcd, member }) => {
    const { running } = await member('one')
    const port = running.port('tls')
    const alice = await entered(port, pki.alice)
    const [node] = etcd.members
    node?.kill('SIGKILL')
    await node?.waitForExit()
    await running.waitForLog(({ msg }) => msg === 'leases lost', 60_000)
    await alice.client.closed()
    const ended = await running.waitForLog(({ msg }) => msg === 'session ended')
    expect(ended.why).toContain('leases lost')
    const bob = await enter(port, pki.bob)
    expect(bob).toMatchObject({ kind: 'refused', reply: Rep.ERR_PLATFORM })
    expect(bob.kind === 'refused' && bob.text).toContain('nobody can tell now who else is on this export')
    await node?.restart()
    await running.waitForLog(({ msg }) => msg === 'etcd can be used again', 60_000)
    await expect.poll(async () => (await enter(port, pki.bob)).kind, { timeout: 30_000 }).toBe('in')
  })

  test('a worker that is stopped for longer than its leases last is ended if somebody writes by it', {
    timeout: 120_000,
  }, async ({ pki, member }) => {
    const { running } = await member('one', {}, { whole: { workers: 2 } })
    const { client } = await entered(running.port('tls'), pki.alice)
    client.request(Cmd.WRITE, 1n, 0n, 512, Buffer.alloc(512, 1))
    expect(await client.simpleReply()).toMatchObject({ error: 0 })
    const workers = childrenOf(running.pid)
    expect(workers).toHaveLength(2)
    for (const pid of workers) signalTo(pid, 'SIGSTOP')
    const died = await running.waitForLog(({ msg }) => msg === 'worker died', 60_000)
    expect(died).toMatchObject({ signal: 'SIGKILL' })
    await client.closed()
    // Nobody writes by the other one.
    const others = workers.filter(pid => pid !== died.pid)
    expect(others.map(isStopped)).toEqual([true])
    for (const pid of others) signalTo(pid, 'SIGCONT')
    await entered(running.port('tls'), pki.bob)
  })

  test('leases last as long as they do when the clock is set forward and back', { timeout: 120_000 }, async ({
    dir,
    pki,
    member,
  }) => {
    const clock = await settableClock(dir)
    const [one, two] = [await member('one', {}, { env: clock.env }), await member('two')]
    const { client } = await entered(one.running.port('tls'), pki.alice)
    for (const seconds of [HOUR_S, -HOUR_S]) {
      await clock.set(seconds)
      // It is renewed meanwhile, more than once.
      for (const end = performance.now() + 2 * TTL_MS; performance.now() < end; ) {
        client.request(Cmd.WRITE, 1n, 0n, 512, Buffer.alloc(512, 1))
        expect(await client.simpleReply()).toMatchObject({ error: 0 })
      }
      expect(await enter(two.running.port('tls'), pki.bob)).toMatchObject({ kind: 'refused', reply: Rep.ERR_POLICY })
    }
    expect(one.running.log().some(({ msg }) => msg === 'leases lost')).toBe(false)
    await client.disconnect()
    await expect.poll(async () => (await enter(two.running.port('tls'), pki.bob)).kind, { timeout: 30_000 }).toBe('in')
  })

  test('a cluster export does without etcd', { timeout: 120_000 }, async ({ pki, etcd, member }) => {
    const { running } = await member('one', { sharing: 'cluster' })
    await etcd.stop()
    await running.waitForLog(({ msg }) => msg === 'leases lost', 60_000)
    const alice = await entered(running.port('tls'), pki.alice)
    alice.client.request(Cmd.WRITE, 1n, 0n, 512, Buffer.alloc(512, 1))
    expect(await alice.client.simpleReply()).toMatchObject({ error: 0 })
  })

  test('a gateway that ends in order leaves nothing behind', { timeout: 120_000 }, async ({ pki, member }) => {
    const [one, two] = [await member('one'), await member('two')]
    const alice = await entered(one.running.port('tls'), pki.alice)
    one.running.kill('SIGTERM')
    await alice.client.disconnect()
    expect(await one.running.waitForExit()).toMatchObject({ code: 0 })
    await entered(two.running.port('tls'), pki.bob)
    expect(two.running.log().some(({ msg }) => msg === 'gateway given up')).toBe(false)
  })
})
