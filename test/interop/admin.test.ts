// The admin socket, by the commands that use it.
import { spawn } from 'node:child_process'
import { once as finished } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Opt } from '../../src/protocol/constants.ts'
import { seededFile } from '../support/disk.ts'
import { test as base } from '../support/fixtures.ts'
import { MAIN } from '../support/gateway.ts'
import { type RunResult, run } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { startNbdkit } from '../support/servers.ts'
import { isConnectable, waitFor } from '../support/wait.ts'
import { session } from '../unit/admin/managed.ts'
import { config, tcpDoor } from './configs.ts'
import { greeted, infoData, type RawClient } from './raw-client.ts'

const HOST = '127.0.0.1'
const MODE_BITS = 0o777

const nbdgate = (...args: readonly string[]): Promise<RunResult> => run([process.execPath, MAIN, ...args])

const test = base.extend('setup', async ({ dir }) => {
  const file = await seededFile(join(dir, 'disk.img'), 1)
  const socket = join(dir, 'admin.sock')
  const text = (rights: string) => {
    const exports = [{ name: 'disk', upstream: { file }, allow: [{ who: 'anyone', rights }] }]
    return config([tcpDoor()], exports, { admin: { socket } })
  }
  return { socket, text }
})

async function entered(port: number): Promise<RawClient> {
  const client = await greeted({ host: HOST, port })
  await client.option(Opt.GO, infoData('disk'))
  return client
}

test('sessions are listed, and one is ended by its number', async ({ setup, gateway }) => {
  const running = await gateway(setup.text('write'))
  expect((await stat(setup.socket)).mode & MODE_BITS).toBe(0o600)
  const where = ['--socket', setup.socket]
  expect((await nbdgate('sessions', ...where)).stdout).toBe('nobody is on an export\n')
  const [first, second] = [await entered(running.port('tcp')), await entered(running.port('tcp'))]
  const { stdout } = await nbdgate('sessions', '--json', '--config', running.configFile)
  expect(JSON.parse(stdout)).toMatchObject([
    { id: 1, who: 'address:127.0.0.1', door: 'tcp', export: 'disk', rights: 'write', bytesRead: 0, inFlight: 0 },
    { id: 2 },
  ])
  const table = (await nbdgate('sessions', ...where)).stdout.split('\n')
  expect(table[0]).toMatch(/^ID {2}WHO +FROM +DOOR +EXPORT +RIGHTS +LEASE +SINCE +READ +WRITTEN$/)
  expect(table[1]).toMatch(/^1 {3}address:127\.0\.0\.1 +127\.0\.0\.1:\d+ +tcp +disk +write +write +\d+s +0 B +0 B$/)
  const explained = await nbdgate('explain', '--session', '1', ...where)
  expect(explained).toMatchObject({ code: 0 })
  expect(explained.stdout).toMatch(
    /^allowed: write, by nbdgate\.yaml:\d+\n {2}nbdgate\.yaml:\d+ allow write anyone: decides\n$/,
  )
  expect(await nbdgate('explain', '--session', '9', ...where)).toMatchObject({ code: 1 })
  expect(await nbdgate('kick', '1', '--json', ...where)).toMatchObject({ code: 0, stdout: '{\n  "kicked": 1\n}\n' })
  await first.closed()
  await running.waitForLog(line => line.msg === 'session ended' && line.conn === 1 && line.why === 'kicked')
  expect(await nbdgate('kick', '1', ...where)).toMatchObject({ code: 1, stderr: 'nbdgate: there is no such session\n' })
  await second.disconnect()
})

test('a reload says what came of it', async ({ setup, gateway }) => {
  const running = await gateway(setup.text('write'))
  const client = await entered(running.port('tcp'))
  await writeFile(running.configFile, setup.text('read'))
  expect(await nbdgate('reload', '--socket', setup.socket)).toMatchObject({ code: 0 })
  await client.closed()
  await writeFile(running.configFile, 'version: 1\nports: []\n')
  const told = await nbdgate('reload', '--json', '--socket', setup.socket)
  expect([told.code, JSON.parse(told.stdout)]).toMatchObject([
    1,
    { kind: 'failed', problems: expect.arrayContaining([expect.stringContaining('nbdgate.yaml:2:1')]) },
  ])
  const broken = await nbdgate('reload', '--socket', setup.socket)
  expect(broken.code).toBe(1)
  expect(broken.stderr).toMatch(/^nbdgate: all stays as it was:\n[\s\S]*nbdgate\.yaml:2:1: unknown key `ports`\n$/)
})

test('drain lets sessions end by themselves, and nobody in', async ({ setup, gateway }) => {
  const running = await gateway(setup.text('write'))
  const port = running.port('tcp')
  const client = await entered(port)
  expect(await nbdgate('drain', '--socket', setup.socket)).toMatchObject({ code: 0, stdout: 'draining\n' })
  await waitFor('the door is closed', async () => !(await isConnectable({ host: HOST, port })))
  expect(await nbdgate('drain', '--json', '--socket', setup.socket)).toMatchObject({
    code: 0,
    stdout: '{\n  "draining": true\n}\n',
  })
  await client.disconnect()
  expect(await running.waitForExit()).toEqual({ code: 0, signal: null })
})

test('a socket that somebody listens on is not taken, one that was left behind is', async ({ setup, gateway, dir }) => {
  const running = await gateway(setup.text('write'))
  const second = join(dir, 'second.yaml')
  await writeFile(second, setup.text('write'))
  const refused = await nbdgate('serve', '--config', second)
  expect(refused).toMatchObject({ code: 1 })
  expect(refused.stderr).toContain(`can not listen on ${setup.socket}: the address is in use`)
  running.kill('SIGKILL')
  await running.waitForExit()
  const asked = await nbdgate('sessions', '--socket', setup.socket)
  expect(asked).toMatchObject({ code: 1, stderr: expect.stringContaining('is the gateway running?') })
  await gateway(setup.text('write'))
  expect((await nbdgate('sessions', '--socket', setup.socket)).code).toBe(0)
})

test('10,000 sessions are listed, also to somebody who reads the first line only', async ({ dir }) => {
  const sessions = Array.from({ length: 10_000 }, (_, at) => ({ ...session(at + 1), who: `cert:cn=client${at}` }))
  const server = createServer((_, answer) => answer.end(JSON.stringify({ sessions })))
  const socket = join(dir, 'many.sock')
  await finished(server.listen(socket), 'listening')
  try {
    const { code, stdout } = await nbdgate('sessions', '--socket', socket)
    const lines = stdout.trimEnd().split('\n')
    expect([code, lines.length]).toEqual([0, 10_001])
    expect(lines[10_000]).toMatch(/^10000 +cert:cn=client9999 /)
    const piped = (command: string, reader: string): Promise<RunResult> =>
      run([
        'bash',
        '-c',
        `'${process.execPath}' '${MAIN}' ${command} --socket '${socket}' | ${reader}; echo "$PIPESTATUS"`,
      ])
    const count = `'${process.execPath}' -p 'JSON.parse(require("fs").readFileSync(0)).length'`
    expect((await piped('sessions --json', count)).stdout).toBe('10000\n0\n')
    expect((await nbdgate('top', '--socket', socket)).stdout.split('\n')).toHaveLength(10_002)
    for (const command of ['sessions', 'sessions --json', 'top']) {
      const { stdout: said, stderr } = await piped(command, 'head -c 2')
      expect([command, said.slice(2), stderr]).toEqual([command, '0\n', ''])
    }
  } finally {
    server.close()
    server.closeAllConnections()
  }
})

test('without a socket to ask the commands are of no use', async ({ setup, dir }) => {
  expect(await nbdgate('sessions')).toMatchObject({ code: 2 })
  const file = join(dir, 'plain.yaml')
  await writeFile(file, setup.text('write').replace(/"admin": \{[^}]*\}/, '"log": {}'))
  const { code, stderr } = await nbdgate('kick', '1', '--config', file)
  expect([code, stderr]).toEqual([2, expect.stringContaining('there is no admin.socket')])
})

requires('nbdkit', 'script')('an upstream that is away', () => {
  test('is seen in sessions and top: piped without colours, on a terminal of 40 columns with them', async ({
    gateway,
    dir,
  }) => {
    const { socket: server, process: kit } = await startNbdkit(dir, 'kit', ['memory', '1M'])
    const socket = join(dir, 'admin.sock')
    const upstream = `nbd+unix:///?socket=${server}`
    const exports = [{ name: 'disk', upstream, allow: [{ who: 'anyone', rights: 'write' }] }]
    const running = await gateway(config([tcpDoor()], exports, { admin: { socket } }))
    await entered(running.port('tcp'))
    const where = ['--socket', socket]
    expect((await nbdgate('sessions', ...where)).stdout).not.toContain('STATE')
    kit.kill('SIGKILL')
    await running.waitForLog(({ msg }) => msg === 'upstream lost')
    expect(JSON.parse((await nbdgate('sessions', '--json', ...where)).stdout)).toMatchObject([{ upstreamLost: true }])
    expect((await nbdgate('sessions', ...where)).stdout).toMatch(/ STATE\n.* waits for its upstream\n$/)
    const piped = (await nbdgate('top', ...where)).stdout
    expect(piped).toMatch(/READ\/S.*\n.* waits /)
    expect(piped).not.toContain('\u001b')

    const show = async (env: Readonly<Record<string, string>>): Promise<string> => {
      const typed = join(dir, `terminal-${Object.keys(env).join('')}`)
      const command = `stty cols 40 rows 12; exec '${process.execPath}' '${MAIN}' top --socket '${socket}'`
      const { NO_COLOR: _no, ...plain } = process.env
      const script = spawn('script', ['-qefc', command, typed], { env: { ...plain, TERM: 'xterm', ...env } })
      const ended = finished(script, 'close')
      const shown = () => (existsSync(typed) ? readFileSync(typed, 'utf8') : '')
      try {
        await waitFor('the table', () => shown().includes('q quit'), { describe: shown })
        script.stdin.write('q')
        expect(await ended).toEqual([0, null])
      } finally {
        script.kill('SIGKILL')
      }
      return shown()
    }
    const coloured = await show({})
    expect(coloured).toContain('1 session, 1 waits for its upstream, re…')
    expect(coloured).toMatch(/\[33m1 +\S+… +disk +waits/)
    const plain = await show({ NO_COLOR: '1' })
    expect(plain).toMatch(/\[K1 +\S+… +disk +waits/)
    expect(plain).not.toContain('\u001b[33m')
  })
})

test('top shows who moves what, and ends a session after asking', async ({ setup, gateway, dir }) => {
  const running = await gateway(setup.text('write'))
  const client = await entered(running.port('tcp'))
  const where = ['--socket', setup.socket]
  const once = await nbdgate('top', ...where)
  expect(once).toMatchObject({ code: 0, stderr: '' })
  expect(once.stdout).toMatch(/^ID {2}WHO .*\n1 {3}address:127\.0\.0\.1 .*\n$/)
  expect(JSON.parse((await nbdgate('top', '--json', ...where)).stdout)).toMatchObject([
    { id: 1, export: 'disk', readPerSecond: 0, writtenPerSecond: 0, requestsPerSecond: 0, upstreamLost: false },
  ])
  expect(await nbdgate('top', '--sort', 'nothing', ...where)).toMatchObject({ code: 2 })
  expect(await nbdgate('top', '--interval', '0', ...where)).toMatchObject({ code: 2 })

  // A terminal of 60 columns: `script` makes one, stty says how large it is.
  const command = `stty cols 60 rows 12; exec '${process.execPath}' '${MAIN}' top --interval 0.2 --socket '${setup.socket}'`
  const typed = join(dir, 'terminal')
  const script = spawn('script', ['-qefc', command, typed], { env: { ...process.env, NO_COLOR: '1', TERM: 'xterm' } })
  const ended = finished(script, 'close')
  const shown = () => readFileSync(typed, 'utf8')
  try {
    await waitFor('the table', () => existsSync(typed) && shown().includes('1 session, '), { describe: shown })
    const say = async (key: string, answer: string): Promise<void> => {
      const before = shown().length
      script.stdin.write(key)
      await waitFor(answer, () => shown().slice(before).includes(answer), { describe: shown })
    }
    await say('k', 'choose one with')
    await say('\u001b[B', '>1 ')
    await say('k', 'end 1, address:127.0.0.1 on disk? y/n')
    await say('n', 'q quit')
    await say('s', 'by read')
    await say('k', '? y/n')
    await say('y', 'session 1 is ended')
    await client.closed()
    script.stdin.write('q')
    expect(await ended).toEqual([0, null])
  } finally {
    script.kill('SIGKILL')
  }
  // The terminal is given back: its own screen, and a cursor.
  expect(shown()).toContain('\u001b[?25h\u001b[?1049l')
  expect(shown()).not.toContain('\u001b[7m')
})
