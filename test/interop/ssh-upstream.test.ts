// Upstreams behind a real sshd, and `nbdgate connect nbd+ssh://`.
import { existsSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Opt } from '../../src/protocol/constants.ts'
import { seededBytes, seededFile, sha256 } from '../support/disk.ts'
import { MAIN, WORKERS } from '../support/gateway.ts'
import { run, runOk, start } from '../support/process.ts'
import { childrenOf, isListeningAt, rssKiB, signalIfAlive } from '../support/procfs.ts'
import { requires } from '../support/requires.ts'
import { freePort, isConnectable, waitFor } from '../support/wait.ts'
import { greeted, infoData, type RawClient } from './raw-client.ts'
import { SIZE_MIB, test } from './ssh-ground.ts'

const READ = 0

async function entered(socket: string): Promise<RawClient> {
  const client = await greeted({ path: socket })
  expect((await client.option(Opt.GO, infoData('disk'))).at(-1)?.type).toBe(1)
  return client
}

async function reads(client: RawClient, offset: number, bytes: number): Promise<void> {
  client.request(READ, 1n, BigInt(offset), bytes)
  const { data } = await client.simpleReply(bytes)
  expect(data.equals(seededBytes(1, SIZE_MIB * 1024 * 1024).subarray(offset, offset + bytes))).toBe(true)
}

requires(
  'nbd-server',
  'nbdinfo',
  'nbdcopy',
  'sshd',
  'ssh-keygen',
)('an upstream behind sshd', () => {
  for (const way of ['port', 'socket'] as const) {
    test(`carries bytes both ways, unchanged, to a ${way}`, async ({ dir, disk, nbdServer, sshd, doorTo }) => {
      const server = await nbdServer({
        unix: way === 'socket',
        exports: { disk: { file: disk, flush: true, fua: true } },
      })
      const { uri } = await doorTo(sshd, way === 'port' ? `port=${server.port}` : `socket=${server.socket}`)
      const copy = join(dir, 'copy.img')
      await runOk(['nbdcopy', uri, copy])
      expect(await sha256(copy)).toBe(await sha256(disk))
      const other = await seededFile(join(dir, 'other.img'), SIZE_MIB, 2)
      await runOk(['nbdcopy', '--flush', other, uri])
      expect(await sha256(disk)).toBe(await sha256(other))
    })
  }

  test('shares one connection between all sessions, and hangs up after the last', async ({
    dir,
    disk,
    nbdServer,
    sshd,
    doorTo,
  }) => {
    const server = await nbdServer({ exports: { disk: { file: disk, flush: true } } })
    const { uri, socket } = await doorTo(sshd, `port=${server.port}`)
    const first = await entered(socket)
    const clients = await Promise.all(Array.from({ length: 8 }, () => entered(socket)))
    for (const client of clients) await reads(client, 4096, 65_536)
    await Promise.all([1, 2, 3, 4].map(each => runOk(['nbdcopy', uri, join(dir, `copy-${each}.img`)])))
    expect(sshd.logins()).toBe(1)
    for (const client of [...clients, first]) await client.disconnect()
    await waitFor('the end of the connection', () => /Disconnected from user/.test(sshd.stderr()), {
      describe: sshd.stderr,
    })
    await runOk(['nbdinfo', uri])
    await waitFor('a second login', () => sshd.logins() === 2, { describe: sshd.stderr })
  })

  test('is reached by several connections where it is told so, which all sessions share', async ({
    dir,
    disk,
    nbdServer,
    sshd,
    doorTo,
  }) => {
    const server = await nbdServer({ exports: { disk: { file: disk, flush: true, fua: true } } })
    const { uri, socket, running } = await doorTo(sshd, `port=${server.port}`, { connections: 3 })
    const first = await entered(socket)
    await reads(first, 4096, 65_536)
    const other = await seededFile(join(dir, 'other.img'), SIZE_MIB, 2)
    await runOk(['nbdcopy', '--connections=1', '--flush', other, uri])
    expect(await sha256(disk)).toBe(await sha256(other))
    const copy = join(dir, 'copy.img')
    await runOk(['nbdcopy', uri, copy])
    expect(await sha256(copy)).toBe(await sha256(other))
    // Each process has three of its own, and logs in anew when its last session has ended.
    expect(WORKERS === 1 ? sshd.logins() : sshd.logins() % 3).toBe(WORKERS === 1 ? 3 : 0)
    expect(running.log().filter(({ level }) => level === 'warn')).toEqual([])
    await first.disconnect()
  })

  test('is reached again by its session and by the next one after sshd was started anew', async ({
    disk,
    nbdServer,
    startSshd,
    doorTo,
  }) => {
    const sshd = await startSshd()
    const server = await nbdServer({ exports: { disk: { file: disk } } })
    const { uri, socket, running } = await doorTo(sshd, `port=${server.port}`)
    const client = await entered(socket)
    await reads(client, 0, 4096)
    // A listener that ends leaves its connections alone: they are ended here, too.
    const connections = childrenOf(sshd.pid)
    await sshd.stop()
    for (const pid of connections) signalIfAlive(pid, 'SIGKILL')
    await running.waitForLog(({ msg }) => msg === 'upstream lost')
    await sshd.restart()
    await reads(client, 4096, 4096)
    expect(await runOk(['nbdinfo', '--size', uri])).toBe(`${SIZE_MIB * 1024 * 1024}\n`)
    expect(sshd.logins()).toBeGreaterThanOrEqual(2)
    expect(running.log().filter(({ msg }) => msg === 'upstream failed')).toEqual([])
  })

  test('keeps little for a client that does not read, and serves the others on the same connection', async ({
    dir,
    nbdServer,
    startSshd,
    doorTo,
  }) => {
    const sshd = await startSshd()
    const file = await seededFile(join(dir, 'disk.img'), 64)
    const server = await nbdServer({ exports: { disk: { file } } })
    const { uri, socket, running } = await doorTo(sshd, `port=${server.port}`)
    await runOk(['nbdcopy', uri, 'null:'])
    const stalled = await entered(socket)
    stalled.pause()
    const before = rssKiB(running.pid)
    for (let at = 0; at < 64; at++) stalled.request(READ, BigInt(at), BigInt(at * 1024 * 1024), 1024 * 1024)
    const copy = join(dir, 'copy.img')
    await runOk(['nbdcopy', uri, copy])
    expect(await sha256(copy)).toBe(await sha256(file))
    // 64 MiB were asked for; V8's and the allocator's own needs are a part of this.
    expect(rssKiB(running.pid) - before).toBeLessThan(40 * 1024)
    expect(sshd.logins()).toBeLessThanOrEqual(2)
  })

  for (const where of ['unix', 'tcp'] as const) {
    test(`is reached by connect, too, from ${where}`, async ({ dir, disk, nbdServer, sshd }) => {
      const server = await nbdServer({ exports: { disk: { file: disk, flush: true } } })
      const far = `nbd+ssh://${userInfo().username}@127.0.0.1:${sshd.port}/disk?port=${server.port}`
      const [socket, port] = [join(dir, 'c.sock'), await freePort()]
      const nearEnd = where === 'unix' ? `unix:${socket}` : `127.0.0.1:${port}`
      const keys = ['--identity', sshd.identity, '--known-hosts', sshd.known('host')]
      const argv = [process.execPath, MAIN, 'connect', far, '--listen', nearEnd, ...keys]
      const address = where === 'unix' ? { path: socket } : { host: '127.0.0.1', port }
      const client = await start(argv, { ready: () => isConnectable(address) })
      try {
        const uri = where === 'unix' ? `nbd+unix:///?socket=${socket}` : `nbd://127.0.0.1:${port}/`
        const copy = join(dir, 'copy.img')
        await runOk(['nbdcopy', uri, copy])
        expect(await sha256(copy)).toBe(await sha256(disk))
        const other = await seededFile(join(dir, 'other.img'), SIZE_MIB, 2)
        await runOk(['nbdcopy', '--flush', other, uri])
        expect(await sha256(disk)).toBe(await sha256(other))
        client.kill('SIGINT')
        expect(await client.waitForExit()).toEqual({ code: 0, signal: null })
        expect(client.stderr()).toBe('')
      } finally {
        await client.stop()
      }
    })
  }

  test('that nobody listens for is an error that says so', async ({ sshd, doorTo }) => {
    const { uri, running } = await doorTo(sshd, 'port=1')
    expect((await run(['nbdinfo', uri])).code).not.toBe(0)
    expect(running.stderr()).toContain('no SSH channel to localhost:1: (SSH) Channel open failure: Connection refused')
  })

  test('is left by connect --once when the first client has ended', async ({ dir, disk, nbdServer, sshd }) => {
    const server = await nbdServer({ exports: { disk: { file: disk } } })
    const far = `nbd+ssh://${userInfo().username}@127.0.0.1:${sshd.port}/?port=${server.port}`
    const socket = join(dir, 'c.sock')
    const keys = ['--identity', sshd.identity, '--known-hosts', sshd.known('host'), '--export', 'disk', '--once']
    const argv = [process.execPath, MAIN, 'connect', far, '--listen', `unix:${socket}`, ...keys]
    const client = await start(argv, { ready: () => isListeningAt(socket) })
    try {
      await runOk(['nbdcopy', `nbd+unix:///?socket=${socket}`, 'null:'])
      expect(await client.waitForExit()).toEqual({ code: 0, signal: null })
      expect(existsSync(socket)).toBe(false)
    } finally {
      await client.stop()
    }
  })
})
