// A client that is gone without a word: its lease gets free by itself, and it may come back at once.
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect } from 'vitest'
import { Cmd } from '../../src/protocol/constants.ts'
import { seededFile } from '../support/disk.ts'
import { run, runOk, type Started, start } from '../support/process.ts'
import { findProgram } from '../support/programs.mjs'
import { requires } from '../support/requires.ts'
import { allow, config, tcpDoor, tlsDoor } from './configs.ts'
import { entered, nbdgate, test } from './sharing-ground.ts'

/** Comes from an address of its own, writes, leaves a mark, and stays. */
const CLIENT = `
import nbd, signal, sys
h = nbd.NBD()
h.set_export_name('disk')
h.connect_command(['socat', '-', 'TCP:127.0.0.1:%s,bind=%s' % (sys.argv[1], sys.argv[2])])
h.pwrite(bytes(512), 0)
open(sys.argv[3], 'w').close()
signal.pause()
`

const MIB = 2 ** 20
/** More, of a MiB each, than sockets hold. */
const REPLIES = 64n

/** Debian's, which has libnbd's module. */
const PYTHON = findProgram('python3:nbd') ?? 'python3'

const isolated = (await run(['unshare', '-n', 'true']).catch(() => ({ code: 1 }))).code === 0

requires('python3:nbd', 'socat')('a client that is cut off', () => {
  describe.runIf(isolated)('in a network of its own', () => {
    test('is found, and its lease is free', async ({ dir, gateway }) => {
      const file = await seededFile(join(dir, 'disk.img'), 1)
      const script = join(dir, 'client.py')
      await writeFile(script, CLIENT)
      const exports = [{ name: 'disk', upstream: { file }, allow: [{ who: 'anyone', rights: 'write' }] }]
      const text = config([tcpDoor()], exports, { leases: { 'vanished-after': '3s' } })
      const wrap = ['unshare', '-n', 'sh', '-c', 'ip link set lo up && exec "$0" "$@"']
      const running = await gateway(text, { wrap })
      const inside = ['nsenter', '-t', String(running.pid), '-n']
      const comes = async (address: string): Promise<Started> => {
        const argv = [...inside, PYTHON, script, String(running.port('tcp')), address, mark(address)]
        return await start(argv, { ready: () => existsSync(mark(address)) })
      }
      const mark = (address: string): string => join(dir, `in-${address}`)
      const first = await comes('127.0.0.2')
      const refused = await run([...inside, PYTHON, script, String(running.port('tcp')), '127.0.0.3', mark('none')])
      expect(refused.stderr).toContain('server policy prevents NBD_OPT_GO')
      // Nothing comes through any more, in no direction, and nobody is told.
      await runOk([...inside, 'ip', 'link', 'set', 'lo', 'down'])
      const line = await running.waitForLog(each => each.msg === 'session ended' && each.conn === 1)
      expect(line).toMatchObject({ why: 'client gone', err: { code: 'ETIMEDOUT' } })
      await runOk([...inside, 'ip', 'link', 'set', 'lo', 'up'])
      const second = await comes('127.0.0.3')
      await Promise.all([first.stop(), second.stop()])
    })
  })
})

describe('a client that is there and takes none of its replies', () => {
  test('counts as gone, and its lease is free', async ({ dir, pki, gateway }) => {
    const upstream = { file: await seededFile(join(dir, 'disk.img'), 1) }
    const exports = [{ name: 'disk', upstream, allow: [allow('alice', 'write'), allow('bob', 'write')] }]
    const running = await gateway(config([tlsDoor(pki)], exports, { leases: { 'vanished-after': '3s' } }))
    const { client } = await entered(running.port('tls'), pki.alice)
    client.pause()
    for (let cookie = 0n; cookie < REPLIES; cookie++) client.request(Cmd.READ, cookie, 0n, MIB)
    const line = await running.waitForLog(({ msg }) => msg === 'session ended')
    expect(line).toMatchObject({ why: 'client gone', err: { code: 'ETIMEDOUT' } })
    await entered(running.port('tls'), pki.bob)
  })
})

requires('nbdkit')('who comes back', () => {
  test('gets its GO when the writes of its other sessions are done', async ({ dir, pki, nbdkit, gateway }) => {
    const upstream = `nbd+unix:///?socket=${await nbdkit('--filter=delay', 'memory', '1M', 'wdelay=2')}`
    const socket = join(dir, 'admin.sock')
    const exports = [{ name: 'disk', upstream, allow: [allow('alice', 'write')] }]
    const running = await gateway(config([tlsDoor(pki)], exports, { admin: { socket } }))
    const before = await entered(running.port('tls'), pki.alice)
    before.client.request(Cmd.WRITE, 1n, 0n, 512, Buffer.alloc(512, 1))
    const inFlight = async (): Promise<readonly number[]> => {
      const sessions: { inFlight: number }[] = JSON.parse(
        (await nbdgate('sessions', '--json', '--socket', socket)).stdout,
      )
      return sessions.map(each => each.inFlight)
    }
    expect(await inFlight()).toEqual([1])
    before.client.pause()
    const after = await entered(running.port('tls'), pki.alice)
    expect(await inFlight()).toEqual([0, 0])
    after.client.request(Cmd.WRITE, 2n, 0n, 512, Buffer.alloc(512, 2))
    expect(await after.client.simpleReply()).toMatchObject({ error: 0 })
    after.client.request(Cmd.READ, 3n, 0n, 512)
    expect((await after.client.simpleReply(512)).data).toEqual(Buffer.alloc(512, 2))
  })
})

requires('nbdkit')('a lease that is taken away', () => {
  test.for(['lease', 'kick'] as const)(
    'by %s is free when what was asked for is done',
    async (way, { dir, pki, nbdkit, gateway }) => {
      const upstream = `nbd+unix:///?socket=${await nbdkit('--filter=delay', 'memory', '1M', 'wdelay=2')}`
      const socket = join(dir, 'admin.sock')
      const exports = [{ name: 'disk', upstream, allow: [allow('alice', 'write'), allow('bob', 'write')] }]
      const running = await gateway(config([tlsDoor(pki)], exports, { admin: { socket } }))
      const alice = await entered(running.port('tls'), pki.alice)
      alice.client.request(Cmd.WRITE, 1n, 0n, 512, Buffer.alloc(512, 1))
      alice.client.request(Cmd.READ, 2n, 512n, 512)
      // The answer to the second says that the first is on its way.
      expect(await alice.client.simpleReply(512)).toMatchObject({ cookie: 2n })
      const argv = way === 'lease' ? ['lease', 'release', 'disk'] : ['kick', '1']
      expect(await nbdgate(...argv, '--socket', socket)).toMatchObject({ code: 0 })
      const bob = await entered(running.port('tls'), pki.bob)
      bob.client.request(Cmd.READ, 3n, 0n, 512)
      expect((await bob.client.simpleReply(512)).data).toEqual(Buffer.alloc(512, 1))
    },
  )
})
