// SIGUSR2: another process takes the gateway over. Nobody is cut off, nobody is turned away, and both hold to one set of rules.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Opt, Rep } from '../../src/protocol/constants.ts'
import { hearNotifications } from '../support/activation.ts'
import { test as base } from '../support/fixtures.ts'
import { MAIN, WORKERS } from '../support/gateway.ts'
import { run, runOk, start } from '../support/process.ts'
import { isAlive, signalTo } from '../support/procfs.ts'
import { requires } from '../support/requires.ts'
import { freePort, waitFor } from '../support/wait.ts'
import { config, type Entry, tcpDoor } from './configs.ts'
import { inside, isServed, upgrade } from './heirs.ts'
import { greeted, infoData, told } from './raw-client.ts'

const HOST = '127.0.0.1'
const test = base.extend('lab', async ({ dir, nbdkit, gateway }) => {
  const upstream = `nbd+unix:///?socket=${await nbdkit('memory', '16M')}`
  const [path, admin, state] = [join(dir, 'nbd.sock'), join(dir, 'admin.sock'), join(dir, 'state')]
  const text = (more: Entry = {}, exported: Entry = {}): string => {
    const allow = [{ who: 'anyone', rights: 'write' }]
    const exports = ['disk', 'other', 'third'].map(name => ({ name, upstream, allow, ...exported }))
    return config([tcpDoor(), { unix: path }], exports, { workers: WORKERS, admin: { socket: admin }, state, ...more })
  }
  const nbdgate = async (...words: readonly string[]) =>
    await run([process.execPath, MAIN, ...words, '--socket', admin])
  const sessions = async (): Promise<readonly { readonly id: number }[]> =>
    JSON.parse((await nbdgate('sessions', '--json')).stdout)
  const begin = async (more: Entry = {}, exported: Entry = {}, env: NodeJS.ProcessEnv = {}) => {
    const running = await gateway(text(more, exported), { env })
    return { running, tcp: { host: HOST, port: running.port('tcp') }, unix: { path } }
  }
  return { state, text, nbdgate, sessions, begin }
})

requires('nbdkit', 'fio')('an upgrade', () => {
  test('cuts nobody off, and turns nobody away', async ({ dir, lab }) => {
    const { running, tcp, unix } = await lab.begin()
    const job = [
      '--name=verify',
      '--rw=randrw',
      '--bs=4k',
      '--iodepth=32',
      '--size=16M',
      '--time_based',
      '--runtime=50',
    ]
    const where = ['--ioengine=nbd', `--uri=nbd://${HOST}:${tcp.port}/disk`, '--verify=crc32c', '--verify_fatal=1']
    const fio = await start(['fio', '--output-format=json', ...where, ...job], { cwd: dir, ready: () => true })
    await waitFor('fio is at work', () => running.log().filter(({ msg }) => msg === 'session opened').length === 2)
    let isOver = false
    let visits = 0
    const visiting = (
      [
        [tcp, 'other'],
        [unix, 'third'],
      ] as const
    ).map(async ([address, name]) => {
      while (!isOver) {
        const client = await inside(address, name)
        expect(await isServed(client)).toBe(true)
        await client.disconnect()
        visits++
      }
    })
    const heir = await upgrade(running)
    const before = visits
    await waitFor('visits of the other process', () => visits > before + 20)
    isOver = true
    await Promise.all(visiting)
    // Who writes to the disk is known to the process that did not let it in.
    const rival = await greeted(unix)
    expect(told(await rival.option(Opt.GO, infoData('disk')))[0]).toMatch(
      /^80000002 .*in use for writing by address:127/,
    )
    // It ends with what it has done, which it says is all right, and a code of its own.
    fio.kill('SIGINT')
    expect(await fio.waitForExit()).toEqual({ code: 128, signal: null })
    const report = JSON.parse(fio.stdout().slice(fio.stdout().indexOf('{\n')))
    expect(report.jobs[0].error).toBe(0)
    expect(report.jobs[0].write.total_ios).toBeGreaterThan(0)
    // The first process has ended with its last session; the path of the socket is the other one's.
    expect(await running.waitForExit()).toEqual({ code: 0, signal: null })
    expect((await rival.option(Opt.GO, infoData('disk'))).at(-1)).toMatchObject({ type: Rep.ACK })
    expect(await isServed(await inside(tcp, 'other'))).toBe(true)
    expect(isAlive(heir)).toBe(true)
    expect(await runOk([process.execPath, MAIN, 'audit', 'verify', join(lab.state, 'audit.jsonl')])).toContain('audit')
  })

  test('leaves one set of rules, leases and limits', async ({ lab }) => {
    const limits = { sessions: 3, 'sessions-per-address': 2 }
    const { running, tcp, unix } = await lab.begin({ limits })
    const [old, other] = [await inside(tcp), await inside(unix, 'other')]
    await upgrade(running)
    // Both old sessions count.
    const young = await inside(unix, 'other')
    await expect(greeted(tcp)).rejects.toThrow('closed after 0 of 18 bytes')
    await young.disconnect()
    await waitFor('room', async () => (await lab.sessions()).length === 2)
    expect((await lab.nbdgate('lease', 'list')).stdout).toMatch(/disk .*address:127.0.0.1[\s\S]*other .*uid:/)
    const [first, second] = await lab.sessions()
    expect(await lab.nbdgate('kick', String(second?.id))).toMatchObject({ code: 0 })
    await other.closed()
    // A right that is taken away in the one process ends the session in the other.
    await writeFile(running.configFile, lab.text({ limits }, { deny: ['address:127.0.0.0/8'] }))
    // It may have been faster: it watches its file.
    expect(await lab.nbdgate('reload')).toMatchObject({ code: 0 })
    await old.closed()
    expect(first?.id).toBe(1)
    expect(await running.waitForExit()).toEqual({ code: 0, signal: null })
    const trail = readFileSync(join(lab.state, 'audit.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map(line => JSON.parse(line))
    const ended = trail.filter(({ kind }) => kind === 'session ended').map(({ conn, why }) => [conn, why])
    expect(ended).toEqual(
      expect.arrayContaining([
        [second?.id, 'kicked'],
        [1, expect.stringContaining('no longer allowed')],
      ]),
    )
  })

  test('forgives nothing: who was kept out is kept out by the other process too', async ({ lab }) => {
    const penalized = { 'per-source-penalties': { invalid: '5m', min: '1m', exempt: [] } }
    const { running, tcp } = await lab.begin({ limits: penalized })
    const stranger = '127.0.0.66'
    /** Whether somebody from there is greeted. */
    const knock = async (localAddress: string, bytes = Buffer.alloc(0)): Promise<boolean> => {
      const socket = connect({ ...tcp, localAddress })
      let greeting = 0
      socket
        .on('error', () => {})
        .on('data', chunk => {
          greeting += chunk.length
          socket.end(bytes)
        })
      await once(socket, 'close')
      return greeting > 0
    }
    expect(await knock(stranger, Buffer.alloc(64, 0xee))).toBe(true)
    await waitFor('a penalty', async () => !(await knock(stranger)))
    const heir = await upgrade(running)
    await waitFor('the other process alone', () => !isAlive(running.pid))
    for (let each = 0; each < 3; each++) expect(await knock(stranger)).toBe(false)
    expect(await knock('127.0.0.67')).toBe(true)
    expect(isAlive(heir)).toBe(true)
  })

  test('changes nothing when the other process does not come up', async ({ lab }) => {
    const { running, tcp } = await lab.begin()
    const old = await inside(tcp)
    const failed = () => running.log().filter(({ msg }) => msg === 'upgrade failed: all stays as it was')
    const good = lab.text()
    await writeFile(running.configFile, good.replace('"version": 1', '"version": 7'))
    running.kill('SIGUSR2')
    await waitFor('the failure', () => failed().length === 1, { describe: running.stderr })
    expect(failed()[0]).toMatchObject({ code: 2 })
    // A door that can not be opened is found out when the other process has everything else already.
    const blocked = await freePort()
    const squatter = createServer().listen(blocked, HOST)
    await writeFile(
      running.configFile,
      good.replace('"doors": [', `"doors": [{ "tcp": "${HOST}:${blocked}", "from": ["127.0.0.0/8"] },`),
    )
    running.kill('SIGUSR2')
    await waitFor('the failure', () => failed().length === 2, { describe: running.stderr })
    squatter.close()
    expect(await isServed(old)).toBe(true)
    const young = await inside(tcp, 'other')
    await young.disconnect()
    await writeFile(running.configFile, good)
    await upgrade(running)
    expect(await isServed(old)).toBe(true)
    await old.disconnect()
    expect(await running.waitForExit()).toEqual({ code: 0, signal: null })
    expect(await runOk([process.execPath, MAIN, 'audit', 'verify', join(lab.state, 'audit.jsonl')])).toContain('audit')
  })

  test('may come after another one, while sessions of all three live', async ({ lab }) => {
    const { running, tcp, unix } = await lab.begin()
    const first = await inside(tcp)
    const heir = await upgrade(running)
    const second = await inside(tcp, 'other')
    const youngest = await upgrade(running, heir)
    for (const client of [first, second]) expect(await isServed(client)).toBe(true)
    const rival = await greeted(unix)
    for (const name of ['disk', 'other'])
      expect(told(await rival.option(Opt.GO, infoData(name)))[0]).toMatch(/in use for writing/)
    const [{ id } = { id: 0 }] = await lab.sessions()
    expect(await lab.nbdgate('kick', String(id))).toMatchObject({ code: 0 })
    await first.closed()
    expect(await running.waitForExit()).toEqual({ code: 0, signal: null })
    expect((await rival.option(Opt.GO, infoData('disk'))).at(-1)).toMatchObject({ type: Rep.ACK })
    await second.disconnect()
    await waitFor('the end of the second', () => !isAlive(heir))
    expect(isAlive(youngest)).toBe(true)
  })

  test('ends with the process that took over: in order, or at once when it is killed', async ({ lab }) => {
    const { running, tcp } = await lab.begin()
    const old = await inside(tcp)
    const heir = await upgrade(running)
    signalTo(heir, 'SIGTERM')
    await running.waitForLog(({ msg }) => msg === 'draining')
    expect(await isServed(old)).toBe(true)
    await old.disconnect()
    expect(await running.waitForExit()).toEqual({ code: 0, signal: null })
    await waitFor('the end of both', () => !isAlive(heir))
    const again = await lab.begin()
    const lost = await inside(again.tcp)
    signalTo(await upgrade(again.running), 'SIGKILL')
    await lost.closed()
    await again.running.waitForExit()
  })

  test('is told to the service manager', async ({ dir, lab }) => {
    const manager = await hearNotifications(join(dir, 'notify.sock'))
    try {
      const env = { NOTIFY_SOCKET: join(dir, 'notify.sock'), WATCHDOG_USEC: '200000' }
      const { running } = await lab.begin({}, {}, env)
      await manager.waitFor(/^READY=1/)
      const heir = await upgrade(running)
      await manager.waitFor(new RegExp(`^MAINPID=${heir}$`))
      await waitFor('its word', () => manager.heard().filter(line => line.startsWith('READY=1')).length === 2)
      await running.waitForExit()
      const before = manager.heard().length
      await waitFor('a sign of life', () => manager.heard().slice(before).includes('WATCHDOG=1'))
    } finally {
      await manager.stop()
    }
  })
})
