// An upgrade under sessions inside TLS and SSH, and with leases in etcd.
import { join } from 'node:path'
import { expect } from 'vitest'
import { Opt, Rep } from '../../src/protocol/constants.ts'
import { startEtcd } from '../support/etcd.ts'
import { MAIN } from '../support/gateway.ts'
import { run } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { waitFor } from '../support/wait.ts'
import { allow, config, tlsDoor, tlsOptions } from './configs.ts'
import { upgrade } from './heirs.ts'
import { greeted, infoData, type RawClient, told } from './raw-client.ts'
import { test } from './ssh-support.ts'

const READ = 0

async function isServed(client: RawClient): Promise<boolean> {
  client.request(READ, 9n, 0n, 512)
  return (await client.simpleReply(512)).error === 0
}

requires(
  'ssh',
  'ssh-keygen',
  'nbdkit',
)('an upgrade', () => {
  test('leaves sessions inside TLS and SSH alone, and revokes what the new process reads', async ({
    dir,
    files,
    gateway,
    nbdkit,
    pki,
    tunnel,
  }) => {
    const upstream = `nbd+unix:///?socket=${await nbdkit('memory', '1M')}`
    const key = await files.key('user')
    files.authorize(`restrict ${files.publicKey('user')}`)
    const exports = [
      { name: 'disk', upstream, allow: [allow('alice', 'write')] },
      { name: 'other', upstream, allow: [{ who: 'ssh:user=bob', rights: 'write' }] },
    ]
    const admin = join(dir, 'admin.sock')
    const running = await gateway(config([tlsDoor(pki), files.door()], exports, { admin: { socket: admin } }))
    const secured = await greeted({ host: '127.0.0.1', port: running.port('tls') })
    await secured.startTls(tlsOptions(pki.alice))
    expect((await secured.option(Opt.GO, infoData('disk'))).at(-1)).toMatchObject({ type: Rep.ACK })
    const [before, after] = [join(dir, 'before.sock'), join(dir, 'after.sock')]
    const call = { port: running.port('ssh'), key }
    await tunnel(call, { [before]: '/exports/other' })
    const inside = await greeted({ path: before })
    expect((await inside.option(Opt.GO, infoData('other'))).at(-1)).toMatchObject({ type: Rep.ACK })
    await upgrade(running)
    for (const client of [secured, inside]) expect(await isServed(client)).toBe(true)
    // The door of the other process, and a lease that it knows of: the same identity may have it twice.
    await tunnel(call, { [after]: '/exports/other' })
    const again = await greeted({ path: after })
    expect((await again.option(Opt.GO, infoData('other'))).at(-1)).toMatchObject({ type: Rep.ACK })
    // A key that is taken out ends what it has opened, in both processes.
    files.authorize()
    expect(await run([process.execPath, MAIN, 'reload', '--socket', admin])).toMatchObject({ code: 0 })
    await inside.closed()
    await again.closed()
    expect(await isServed(secured)).toBe(true)
  })
})

requires('etcd', 'nbdkit')('an upgrade', () => {
  test('keeps leases that are in etcd', { timeout: 120_000 }, async ({ dir, gateway, nbdkit, pki }) => {
    const etcd = await startEtcd(dir, 'etcd')
    try {
      const upstream = `nbd+unix:///?socket=${await nbdkit('memory', '1M')}`
      const exports = [{ name: 'disk', upstream, allow: [allow('alice', 'write'), allow('bob', 'write')] }]
      const leases = { etcd: etcd.urls, ttl: '3s' }
      const running = await gateway(config([tlsDoor(pki)], exports, { leases }))
      const known = () => running.log().filter(({ msg }) => msg === 'leases are kept in etcd').length
      await waitFor('etcd', () => known() === 1)
      const enter = async (leaf: typeof pki.alice) => {
        const client = await greeted({ host: '127.0.0.1', port: running.port('tls') })
        await client.startTls(tlsOptions(leaf))
        return { client, answers: await client.option(Opt.GO, infoData('disk')) }
      }
      const alice = await enter(pki.alice)
      expect(alice.answers.at(-1)).toMatchObject({ type: Rep.ACK })
      await upgrade(running)
      expect(known()).toBe(2)
      const bob = await enter(pki.bob)
      expect(told(bob.answers)[0]).toMatch(/in use for writing by cert:cn=alice/)
      expect(await isServed(alice.client)).toBe(true)
      await alice.client.disconnect()
      expect(await running.waitForExit()).toEqual({ code: 0, signal: null })
      await expect
        .poll(async () => (await bob.client.option(Opt.GO, infoData('disk'))).at(-1)?.type, { timeout: 20_000 })
        .toBe(Rep.ACK)
    } finally {
      await etcd.stop()
    }
  })
})
