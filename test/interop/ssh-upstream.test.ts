// Upstreams behind a real sshd, and `nbdgate connect nbd+ssh://`.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import { seededFile, sha256 } from '../support/disk.ts'
import { test as base } from '../support/fixtures.ts'
import { MAIN } from '../support/gateway.ts'
import { run, runOk, start } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { freePort, isConnectable } from '../support/wait.ts'
import { config } from './configs.ts'

const SIZE_MIB = 16

const test = base
  .extend('disk', async ({ dir }) => seededFile(join(dir, 'disk.img'), SIZE_MIB))
  /** Debian's sshd on a port of its own. */
  .extend('sshd', async ({ dir }, { onCleanup }) => {
    mkdirSync('/run/sshd', { recursive: true })
    for (const name of ['host', 'user', 'other']) {
      await runOk(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', join(dir, name)])
    }
    const port = await freePort()
    const publicKey = (name: string) => readFileSync(join(dir, `${name}.pub`), 'utf8').trim()
    writeFileSync(join(dir, 'authorized'), `restrict,port-forwarding ${publicKey('user')}\n`)
    const lines = [
      `ListenAddress 127.0.0.1:${port}`,
      `HostKey ${join(dir, 'host')}`,
      `AuthorizedKeysFile ${join(dir, 'authorized')}`,
      `PidFile ${join(dir, 'sshd.pid')}`,
      // New keys in the middle of every copy, whoever asks for them.
      'RekeyLimit 1M',
      'UsePAM no',
      'StrictModes no',
      'PermitRootLogin prohibit-password',
      'LogLevel VERBOSE',
    ]
    writeFileSync(join(dir, 'sshd_config'), `${lines.join('\n')}\n`)
    const server = await start(['/usr/sbin/sshd', '-D', '-e', '-f', join(dir, 'sshd_config')], {
      ready: () => isConnectable({ host: '127.0.0.1', port }),
    })
    onCleanup(() => server.stop().then(() => {}))
    const known = (name: string): string => {
      const file = join(dir, `known-${name}`)
      writeFileSync(file, `[127.0.0.1]:${port} ${publicKey(name)}\n`)
      return file
    }
    const logins = (): number => server.stderr().split('Accepted publickey').length - 1
    return { port, known, logins, identity: join(dir, 'user'), stranger: join(dir, 'other') }
  })
  /** A gateway with a Unix door and `disk` behind sshd; the door's socket. */
  .extend('door', async ({ dir, gateway, sshd }) => {
    return async (query: string, more: Readonly<Record<string, string>> = {}) => {
      const uri = `nbd+ssh://${userInfo().username}@127.0.0.1:${sshd.port}/disk?${query}`
      const upstream = { uri, identity: sshd.identity, 'known-hosts': sshd.known('host'), ...more }
      const allow = [{ who: `uid:${userInfo().uid}`, rights: 'write' }]
      const socket = join(dir, 'door.sock')
      const running = await gateway(config([{ unix: socket }], [{ name: 'disk', upstream, allow }]))
      return { running, uri: `nbd+unix:///disk?socket=${socket}` }
    }
  })

requires(
  'nbd-server',
  'nbdinfo',
  'nbdcopy',
  'sshd',
  'ssh-keygen',
)('an upstream behind sshd', () => {
  for (const way of ['port', 'socket'] as const) {
    test(`carries bytes both ways, unchanged, to a ${way}`, async ({ dir, disk, nbdServer, door }) => {
      const server = await nbdServer({
        unix: way === 'socket',
        exports: { disk: { file: disk, flush: true, fua: true } },
      })
      const { uri } = await door(way === 'port' ? `port=${server.port}` : `socket=${server.socket}`)
      const copy = join(dir, 'copy.img')
      await runOk(['nbdcopy', uri, copy])
      expect(await sha256(copy)).toBe(await sha256(disk))
      const other = await seededFile(join(dir, 'other.img'), SIZE_MIB, 2)
      await runOk(['nbdcopy', '--flush', other, uri])
      expect(await sha256(disk)).toBe(await sha256(other))
    })
  }

  test('shares one connection between sessions, and connects again for later ones', async ({
    dir,
    disk,
    nbdServer,
    door,
    sshd,
  }) => {
    const server = await nbdServer({ exports: { disk: { file: disk, flush: true } } })
    const { uri, running } = await door(`port=${server.port}`)
    const copies = [1, 2, 3, 4].map(each => runOk(['nbdcopy', uri, join(dir, `copy-${each}.img`)]))
    await Promise.all(copies)
    expect(running.log().filter(({ msg }) => msg === 'session opened').length).toBeGreaterThanOrEqual(4)
    const before = sshd.logins()
    expect(before).toBeLessThan(4)
    await runOk(['nbdinfo', uri])
    expect(sshd.logins()).toBeGreaterThanOrEqual(before)
  })

  test('is reached by connect, too', async ({ dir, disk, nbdServer, sshd }) => {
    const server = await nbdServer({ exports: { disk: { file: disk } } })
    const uri = `nbd+ssh://${userInfo().username}@127.0.0.1:${sshd.port}/disk?port=${server.port}`
    const socket = join(dir, 'c.sock')
    const keys = ['--identity', sshd.identity, '--known-hosts', sshd.known('host')]
    const argv = [process.execPath, MAIN, 'connect', uri, '--once', '--listen', `unix:${socket}`, ...keys]
    const client = await start(argv, { ready: () => existsSync(socket) })
    try {
      const copy = join(dir, 'copy.img')
      await runOk(['nbdcopy', `nbd+unix:///?socket=${socket}`, copy])
      expect(await sha256(copy)).toBe(await sha256(disk))
      expect(await client.waitForExit()).toEqual({ code: 0, signal: null })
      expect(client.stderr()).toBe('')
    } finally {
      await client.stop()
    }
  })

  test('is refused when the host shows another key, is unknown, or refuses ours', async ({ dir, sshd, door }) => {
    const nobody = join(dir, 'known-nobody')
    writeFileSync(nobody, '')
    const { uri, running } = await door('port=1', { 'known-hosts': sshd.known('other') })
    expect((await run(['nbdinfo', uri])).code).not.toBe(0)
    expect(running.stderr()).toMatch(/127\.0\.0\.1:\d+: its host key is changed \(.*known-other\)/)
    await running.stop()
    const unknown = await door('port=1', { 'known-hosts': nobody })
    expect((await run(['nbdinfo', unknown.uri])).code).not.toBe(0)
    expect(unknown.running.stderr()).toContain('known-nobody has no key of it')
    await unknown.running.stop()
    const stranger = await door('port=1', { identity: sshd.stranger })
    expect((await run(['nbdinfo', stranger.uri])).code).not.toBe(0)
    expect(stranger.running.stderr()).toContain('no SSH with')
    expect(sshd.logins()).toBe(0)
  })
})
