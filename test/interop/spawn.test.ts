/** Servers that the gateway starts itself: when, on what, for how long, and what is left of them. */
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Cmd, Opt } from '../../src/protocol/constants.ts'
import { seededBytes, seededFile, sha256 } from '../support/disk.ts'
import { test } from '../support/fixtures.ts'
import type { RunningGateway } from '../support/gateway.ts'
import { runOk } from '../support/process.ts'
import { childrenOf, isAlive, signalTo } from '../support/procfs.ts'
import { requires } from '../support/requires.ts'
import { waitFor } from '../support/wait.ts'
import { config, type Entry, tcpDoor } from './configs.ts'
import {
  ANYONE,
  commandOf,
  firstServerIn,
  folders,
  leftIn,
  nbdgate,
  programsOf,
  script,
  serversIn,
  untilNothingIsLeft,
} from './hooks-ground.ts'
import { greeted, infoData } from './raw-client.ts'
import { go } from './sharing-ground.ts'

const KINDS: readonly { readonly title: string; readonly upstream: (image: string) => Entry }[] = [
  { title: 'nbdkit', upstream: image => ({ spawn: ['nbdkit', '-f', '-U', '{socket}', 'file', image] }) },
  {
    title: 'nbdkit, activated',
    upstream: image => ({ spawn: ['nbdkit', '-f', 'file', image], activation: true }),
  },
  {
    title: 'qemu-nbd',
    upstream: image => ({ spawn: ['qemu-nbd', '-t', '-e', '0', '-k', '{socket}', '-f', 'raw', image] }),
  },
  {
    title: 'qemu-nbd, activated',
    upstream: image => ({ spawn: ['qemu-nbd', '-t', '-e', '0', '-f', 'raw', image], activation: true }),
  },
  {
    title: 'qemu-nbd that ends with its first client',
    upstream: image => ({ spawn: ['qemu-nbd', '-k', '{socket}', '-f', 'raw', image] }),
  },
]

const memory = (more: Entry = {}): Entry => ({ spawn: ['nbdkit', '-f', '-U', '{socket}', 'memory', '1M'], ...more })

function uriOf(gateway: RunningGateway, name: string): string {
  return `nbd://127.0.0.1:${gateway.port('tcp')}/${encodeURIComponent(name)}`
}

async function on(gateway: RunningGateway, name: string) {
  return await go(await greeted({ host: '127.0.0.1', port: gateway.port('tcp') }), name)
}

async function reload(gateway: RunningGateway, text: string): Promise<void> {
  await writeFile(`${gateway.configFile}.new`, text)
  await rename(`${gateway.configFile}.new`, gateway.configFile)
  await gateway.waitForLog(({ msg }) => msg === 'reloaded')
}

requires(
  'nbdkit',
  'qemu-nbd',
  'nbdinfo',
  'nbdcopy',
)('a server that is spawned', () => {
  test.for(KINDS)('serves what it has: $title', async ({ upstream }, { dir, gateway }) => {
    const image = await seededFile(join(dir, 'disk.img'), 2)
    const exports = [{ name: 'disk', upstream: upstream(image), allow: ANYONE }]
    const running = await gateway(config([tcpDoor()], exports, folders(dir)))
    expect(programsOf(running.pid)).toEqual([])
    const copy = join(dir, 'copy.img')
    await runOk(['nbdcopy', uriOf(running, 'disk'), copy])
    expect(await sha256(copy)).toBe(await sha256(image))
    expect(serversIn(running)).not.toEqual([])
    expect(await running.stop()).toBe(0)
    expect(serversIn(running).filter(isAlive)).toEqual([])
    expect(leftIn(dir)).toEqual([])
  })

  test('is one for all, stays while somebody is there, and leaves nothing when it has lingered', async ({
    dir,
    gateway,
  }) => {
    const exports = [{ name: 'mem', upstream: memory({ linger: '200ms' }), allow: ANYONE, sharing: 'cluster' }]
    const running = await gateway(config([tcpDoor()], exports, folders(dir)))
    const first = await on(running, 'mem')
    const second = await on(running, 'mem')
    expect([first.kind, second.kind]).toEqual(['in', 'in'])
    expect(serversIn(running)).toHaveLength(1)
    const { stdout } = await nbdgate('overlays', 'list', '--socket', join(dir, 'admin.sock'), '--json')
    expect(JSON.parse(stdout)).toMatchObject([{ export: 'mem', per: 'export', pid: serversIn(running)[0] }])
    first.client.reset()
    second.client.reset()
    await running.waitForLog(({ msg }) => msg === 'server ended')
    await untilNothingIsLeft(running, dir)
    await runOk(['nbdinfo', '--size', uriOf(running, 'mem')])
    expect(serversIn(running)).toHaveLength(2)
  })

  test('is started again when it has died, and when it does not answer any more', async ({ dir, gateway }) => {
    const exports = [{ name: 'mem', upstream: memory({ linger: '1m' }), allow: ANYONE }]
    const running = await gateway(config([tcpDoor()], exports, folders(dir)))
    const { client } = await on(running, 'mem')
    signalTo(await firstServerIn(running), 'SIGKILL')
    // Its session goes on with the next one.
    await running.waitForLog(({ msg }) => msg === 'upstream back')
    await client.disconnect()
    expect(await running.waitForLog(({ msg }) => msg === 'server ended')).toMatchObject({ why: 'SIGKILL' })
    await runOk(['nbdinfo', '--size', uriOf(running, 'mem')])
    await waitFor('the second server', () => serversIn(running).length === 2)
    const [, stopped = -1] = serversIn(running)
    await waitFor('the end of both sessions', () => {
      return running.log().filter(({ msg }) => msg === 'session ended').length === 2
    })
    signalTo(stopped, 'SIGSTOP')
    await runOk(['nbdinfo', '--size', uriOf(running, 'mem')])
    const silent = running.log().filter(({ msg }) => msg === 'server does not answer')
    expect(silent.at(-1)).toMatchObject({ pid: stopped })
    expect(serversIn(running)).toHaveLength(3)
    expect(isAlive(stopped)).toBe(false)
  })

  test('that has died is started again for the sessions that were on it', async ({ dir, gateway }) => {
    const image = await seededFile(join(dir, 'disk.img'), 1)
    const upstream = { spawn: ['qemu-nbd', '-t', '-e', '0', '-k', '{socket}', '-f', 'raw', image] }
    const exports = [{ name: 'disk', upstream, allow: ANYONE }]
    const running = await gateway(config([tcpDoor()], exports, folders(dir)))
    const { client } = await on(running, 'disk')
    const block = seededBytes(9, 4096)
    client.request(Cmd.WRITE, 1n, 0n, 4096, block)
    expect(await client.simpleReply()).toMatchObject({ error: 0 })
    signalTo(await firstServerIn(running), 'SIGKILL')
    client.request(Cmd.READ, 2n, 0n, 4096)
    expect((await client.simpleReply(4096)).data).toEqual(block)
    expect(await running.waitForLog(({ msg }) => msg === 'upstream back')).toMatchObject({ export: 'disk' })
    expect(serversIn(running)).toHaveLength(2)
  })

  test('that does not come up is refused with a sentence, and others go on', async ({ dir, gateway }) => {
    const endless = await script(dir, 'endless', 'yes nothing >&2 & sleep 600 & wait')
    const exports = [
      { name: 'ends', upstream: { spawn: ['sh', '-c', 'echo no such disk >&2; exit 3', '{socket}'] }, allow: ANYONE },
      { name: 'silent', upstream: { spawn: [endless, '{socket}'], start: '500ms' }, allow: ANYONE },
      { name: 'absent', upstream: { spawn: ['no-such-program', '{socket}'] }, allow: ANYONE },
      { name: 'mem', upstream: memory(), allow: ANYONE },
    ]
    const running = await gateway(config([tcpDoor()], exports, folders(dir)))
    const told = 'the server behind this export can not be used now; its operator can see why'
    for (const name of ['ends', 'silent', 'absent']) {
      expect(await on(running, name)).toMatchObject({ kind: 'refused', text: told })
    }
    const why = running.log().flatMap(({ msg, err }) => (msg === 'server does not start' ? [err] : []))
    expect(why).toMatchObject([
      { code: 'SPAWN', message: 'the server has ended (exit 3) before it listened; it said: no such disk' },
      { code: 'SPAWN', message: 'the server does not listen within 500 ms' },
      { code: 'SPAWN', message: expect.stringContaining('ENOENT') },
    ])
    // What it flooded the log with has a bound: 50 lines at once, and 10 a second.
    const said = running.log().filter(({ msg, export: name }) => msg === 'program says' && name === 'silent')
    expect(said.length).toBeGreaterThan(10)
    expect(said.length).toBeLessThan(200)
    expect((await on(running, 'mem')).kind).toBe('in')
    await waitFor('one server is left', () => programsOf(running.pid).length === 1, {
      describe: () => programsOf(running.pid).map(commandOf).join('; '),
    })
  })

  test('keeps running over a reload that does not concern it; a changed one ends with its last session', async ({
    dir,
    gateway,
  }) => {
    const text = (size: string) => {
      const changing = { spawn: ['nbdkit', '-f', '-U', '{socket}', 'memory', size], linger: '1m' }
      const exports = [
        { name: 'stays', upstream: memory({ linger: '1m' }), allow: ANYONE, sharing: 'cluster' },
        { name: 'changes', upstream: changing, allow: ANYONE, sharing: 'cluster' },
      ]
      return config([tcpDoor()], exports, { ...folders(dir), workers: 1 })
    }
    const running = await gateway(text('1M'))
    await runOk(['nbdinfo', '--size', uriOf(running, 'stays')])
    const { client } = await on(running, 'changes')
    const [stays = 0, changes = 0] = serversIn(running)
    await reload(running, text('2M'))
    expect([isAlive(stays), isAlive(changes)]).toEqual([true, true])
    expect(await runOk(['nbdinfo', '--size', uriOf(running, 'changes')])).toBe('1048576\n')
    client.reset()
    await waitFor('the old server has gone', () => !isAlive(changes))
    expect(await runOk(['nbdinfo', '--size', uriOf(running, 'changes')])).toBe('2097152\n')
    await runOk(['nbdinfo', '--size', uriOf(running, 'stays')])
    expect(serversIn(running)).toHaveLength(3)
    expect(isAlive(stays)).toBe(true)
  })

  test('ends with its children when the gateway is killed, and at the next start at the latest', async ({
    dir,
    gateway,
  }) => {
    const family = await script(dir, 'family', 'trap "" HUP; sleep 600 & nbdkit -f -U "$1" memory 1M & wait')
    const exports = [{ name: 'mem', upstream: { spawn: [family, '{socket}'], linger: '1m' }, allow: ANYONE }]
    const text = config([tcpDoor()], exports, folders(dir))
    const first = await gateway(text)
    await runOk(['nbdinfo', '--size', uriOf(first, 'mem')])
    const before = programsOf(first.pid)
    expect(before).toHaveLength(3)
    first.kill('SIGKILL')
    await waitFor('all have ended', () => before.filter(isAlive).length === 0)
    const second = await gateway(text)
    await second.waitForLog(({ msg }) => msg === 'left behind')
    await untilNothingIsLeft(second, dir)
    await runOk(['nbdinfo', '--size', uriOf(second, 'mem')])
    const orphans = programsOf(second.pid)
    // The shell that would end them goes first, and nobody can start another.
    const [guard] = childrenOf(second.pid).filter(pid => commandOf(pid).includes('trap'))
    second.kill('SIGSTOP')
    signalTo(guard, 'SIGKILL')
    second.kill('SIGKILL')
    await second.waitForExit()
    expect(orphans.filter(isAlive)).toHaveLength(3)
    const third = await gateway(text)
    expect(await third.waitForLog(({ msg }) => msg === 'left behind')).toMatchObject({ hasServer: true })
    await waitFor('all have ended', () => orphans.filter(isAlive).length === 0)
    await untilNothingIsLeft(third, dir)
  })

  test('is there for INFO too, and the session takes the same', async ({ dir, gateway }) => {
    const exports = [{ name: 'mem', upstream: memory(), per: 'connection', allow: ANYONE }]
    const running = await gateway(config([tcpDoor()], exports, folders(dir)))
    const client = await greeted({ host: '127.0.0.1', port: running.port('tcp') })
    expect((await client.option(Opt.INFO, infoData('mem'))).at(-1)).toMatchObject({ type: 1 })
    expect((await go(client, 'mem')).kind).toBe('in')
    expect(serversIn(running)).toHaveLength(1)
    client.reset()
    await untilNothingIsLeft(running, dir)
  })

  test('is known to doctor and check', async ({ dir }) => {
    const file = join(dir, 'a.yaml')
    const door = { unix: join(dir, 's') }
    await writeFile(file, config([door], [{ name: 'mem', upstream: memory(), allow: ANYONE }], folders(dir)))
    expect(await nbdgate('check', file)).toMatchObject({ code: 0 })
    expect((await nbdgate('doctor', '--config', file)).stdout).toContain('nbdkit: is there')
    const bad = [{ name: 'mem', upstream: { spawn: ['no-such-program', '{socket}'] }, allow: ANYONE }]
    await writeFile(file, config([door], bad, folders(dir)))
    expect((await nbdgate('doctor', '--config', file)).stdout).toContain('no-such-program: it is not in PATH')
    await writeFile(file, config([door], [{ name: 'mem', upstream: { spawn: ['nbdkit'] }, allow: ANYONE }]))
    expect((await nbdgate('check', file)).stderr).toContain('`spawn` has to say {socket}')
  })
})
