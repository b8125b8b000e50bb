// One process for each connection, started by systemd's own stand-in for inetd, and by one that hands over all three descriptors.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect } from 'vitest'
import { Opt, Rep } from '../../src/protocol/constants.ts'
import { seededFile, sha256 } from '../support/disk.ts'
import { test as base } from '../support/fixtures.ts'
import { MAIN } from '../support/gateway.ts'
import { run, runOk, type Started, start } from '../support/process.ts'
import { childrenOf, signalTo } from '../support/procfs.ts'
import { requires } from '../support/requires.ts'
import { freePort, isConnectable, waitFor } from '../support/wait.ts'
import { allow, config, type Entry, nbdsUri, tcpDoor, tlsDoor } from './configs.ts'
import { dial, greeted, infoData, type RawClient } from './raw-client.ts'
import { sshConfig, test as withSsh } from './ssh-support.ts'

const HOST = '127.0.0.1'
const ALLOW = [{ who: 'address:127.0.0.0/8', rights: 'write' }]
const FIXED = '127.0.0.1:10809'
const LOCAL = tcpDoor({ tcp: FIXED })

/** As inetd does it: standard input, output and error are the connection. What becomes of each child goes to standard output. */
const INETD = `
import os, socket, subprocess, sys
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
while True:
    c, _ = s.accept()
    p = subprocess.Popen(sys.argv[2:], stdin=c, stdout=c, stderr=c)
    c.close()
    print(p.wait(), flush=True)
`

const started: Started[] = []
afterEach(async () => {
  for (const each of started.splice(0)) await each.stop()
})

/** A superserver in front of `nbdgate inetd`, and what it said of its children. */
async function superserver(argv: readonly string[], ready: () => boolean | Promise<boolean>): Promise<Started> {
  const server = await start(argv, { ready })
  started.push(server)
  return server
}

const inetd = (file: string, ...more: readonly string[]): readonly string[] => [
  process.execPath,
  MAIN,
  'inetd',
  '--config',
  file,
  ...more,
]

async function bySystemd(listen: string, file: string, ...more: readonly string[]): Promise<Started> {
  const argv = ['systemd-socket-activate', '-l', listen, '--accept', '--inetd', ...inetd(file, ...more)]
  const [host = '', port] = listen.split(':')
  const address = port === undefined ? { path: listen } : { host, port: Number(port) }
  return await superserver(argv, () => isConnectable(address))
}

async function byInetd(port: number, file: string, ...more: readonly string[]): Promise<Started> {
  const server: Started = await superserver(['python3', '-c', INETD, String(port), ...inetd(file, ...more)], () => true)
  await waitFor('inetd', () => server.stdout().startsWith('listening'), { describe: server.stderr })
  return server
}

const exitsOf = (server: Started): readonly string[] => server.stdout().split('\n').slice(1, -1)

async function inside(port: number): Promise<RawClient> {
  const client = await greeted({ host: HOST, port })
  expect((await client.option(Opt.GO, infoData('disk'))).at(-1)).toMatchObject({ type: Rep.ACK })
  return client
}

const test = base.extend('lab', async ({ dir, nbdServer }) => {
  const file = await seededFile(join(dir, 'disk.img'), 4)
  const server = await nbdServer({ exports: { disk: { file, flush: true, fua: true } } })
  const log = join(dir, 'log.jsonl')
  const write = async (doors: readonly Entry[], rules: readonly Entry[], more: Entry = {}): Promise<string> => {
    const exports = [{ name: 'disk', upstream: server.uri('disk'), allow: rules }]
    await writeFile(join(dir, 'nbdgate.yaml'), config(doors, exports, { log: { file: log }, ...more }))
    return join(dir, 'nbdgate.yaml')
  }
  const lines = () =>
    existsSync(log)
      ? readFileSync(log, 'utf8')
          .trim()
          .split('\n')
          .map(line => JSON.parse(line))
      : []
  return { file, write, lines }
})

requires(
  'nbd-server',
  'nbdinfo',
  'nbdcopy',
  'systemd-analyze',
  'python3:nbd',
)('nbdgate inetd', () => {
  test('is a TLS door under systemd, one process a connection', async ({ dir, lab, pki }) => {
    const port = await freePort()
    // Doors that are not meant are not opened: this one could not be.
    const doors = [tcpDoor({ tcp: '192.0.2.1:1' }), tlsDoor(pki)]
    await bySystemd(`${HOST}:${port}`, await lab.write(doors, [allow('alice', 'write')]), '--door', 'tls')
    const uri = nbdsUri(port, 'disk', pki.alice)
    expect(await runOk(['nbdinfo', '--size', uri])).toBe(`${4 * 1024 * 1024}\n`)
    const copy = join(dir, 'copy.img')
    await runOk(['nbdcopy', uri, copy])
    expect(await sha256(copy)).toBe(await sha256(lab.file))
    await runOk(['nbdcopy', await seededFile(join(dir, 'new.img'), 4, 2), uri])
    expect(await sha256(lab.file)).toBe(await sha256(join(dir, 'new.img')))
    expect((await run(['nbdinfo', '--size', nbdsUri(port, 'disk', pki.bob)])).stderr).toContain('no export named')
    const opened = lab.lines().filter(({ msg }) => msg === 'session opened')
    expect(opened[0]).toMatchObject({ who: 'cert:cn=alice', door: 'tls', rights: 'write' })
  })

  test('says nothing on the connection but NBD, and ends with its session', async ({ lab }) => {
    const port = await freePort()
    const file = await lab.write([LOCAL], ALLOW)
    const server = await byInetd(port, file)
    const client = await inside(port)
    client.request(0, 7n, 0n, 512)
    expect(await client.simpleReply(512)).toMatchObject({ error: 0, cookie: 7n })
    expect(client.unread).toBe(0)
    await client.disconnect()
    await waitFor('the end', () => exitsOf(server).length === 1)
    expect(exitsOf(server)).toEqual(['0'])
    expect(lab.lines().map(({ msg }) => msg)).toEqual(['gateway ready', 'session opened', 'session ended'])
    // Without a file there is nowhere else to say it: no byte of it may reach the client.
    await writeFile(file, (await readFile(file, 'utf8')).replace(/"log": \{[^}]*\},?/, '"log": {"level": "debug"}'))
    const quiet = await inside(port)
    await quiet.disconnect()
    await writeFile(file, 'version: 2')
    const broken = await greeted({ host: HOST, port }).catch((error: Error) => error.message)
    expect(broken).toBe('closed after 0 of 18 bytes')
    await waitFor('the end', () => exitsOf(server).length === 3)
    expect(exitsOf(server)).toEqual(['0', '0', '2'])
  })

  test('holds to from, limits and PROXY headers', async ({ lab }) => {
    const port = await freePort()
    const behind = tcpDoor({ tcp: FIXED, from: ['192.0.2.0/24'], 'proxy-protocol': ['127.0.0.0/8'] })
    const file = await lab.write([behind], [{ who: 'address:192.0.2.7', rights: 'read' }])
    const server = await byInetd(port, file)
    // No PROXY header.
    const bare = await dial({ host: HOST, port })
    bare.write(Buffer.from('00000003', 'hex'), Buffer.from('IHAVEOPT........'))
    expect(await bare.closed()).toHaveLength(0)
    const client = await dial({ host: HOST, port })
    client.write(Buffer.from('PROXY TCP4 192.0.2.7 192.0.2.1 5000 10809\r\n'))
    await client.greet()
    expect((await client.option(Opt.GO, infoData('disk'))).at(-1)).toMatchObject({ type: Rep.ACK })
    await client.disconnect()
    await lab.write([tcpDoor({ tcp: FIXED, from: ['192.0.2.0/24'] })], ALLOW)
    await expect(greeted({ host: HOST, port })).rejects.toThrow('closed after 0 of 18 bytes')
    await waitFor('the end', () => exitsOf(server).length === 3)
    expect(exitsOf(server)).toEqual(['0', '0', '0'])
    const turnedAway = lab.lines().filter(({ msg }) => msg === 'turned away')
    expect(turnedAway.map(({ reason }) => reason)).toEqual(['proxy header', 'from'])
    expect(lab.lines().find(({ msg }) => msg === 'session opened')).toMatchObject({ who: 'address:192.0.2.7' })
  })

  test('ends a session whose right is taken away, and writes a trail of its own', async ({ dir, lab }) => {
    const port = await freePort()
    const state = join(dir, 'state')
    const server = await byInetd(port, await lab.write([LOCAL], ALLOW, { state }))
    const client = await inside(port)
    await lab.write([LOCAL], [], { state })
    await client.closed()
    await waitFor('the end', () => exitsOf(server).length === 1)
    expect(exitsOf(server)).toEqual(['0'])
    const [folder = ''] = readdirSync(join(state, 'inetd'))
    const trail = join(state, 'inetd', folder, 'audit.jsonl')
    expect(await runOk([process.execPath, MAIN, 'audit', 'verify', trail])).toContain('audit.jsonl')
    expect(readFileSync(trail, 'utf8')).toContain('session ended')
  })

  test('ends in good order at SIGTERM', async ({ lab }) => {
    const port = await freePort()
    const server = await byInetd(port, await lab.write([LOCAL], ALLOW))
    const client = await inside(port)
    const [child] = childrenOf(server.pid)
    signalTo(child, 'SIGTERM')
    await waitFor('draining', () => lab.lines().some(({ msg }) => msg === 'draining'))
    client.request(0, 1n, 0n, 512)
    expect(await client.simpleReply(512)).toMatchObject({ error: 0 })
    await client.disconnect()
    await waitFor('the end', () => exitsOf(server).length === 1)
    expect(exitsOf(server)).toEqual(['0'])
  })

  test('knows who is at the other end of a Unix socket', async ({ dir, lab }) => {
    const path = join(dir, 'nbd.sock')
    const file = await lab.write([LOCAL, { unix: path }], [{ who: `uid:${process.getuid?.() ?? 0}`, rights: 'read' }])
    await bySystemd(path, file, '--door=unix')
    expect(await runOk(['nbdinfo', '--size', `nbd+unix:///disk?socket=${path}`])).toBe(`${4 * 1024 * 1024}\n`)
  })

  test('says what it needs to know', async ({ dir, lab }) => {
    const file = await lab.write([LOCAL, { unix: join(dir, 'nbd.sock') }], ALLOW)
    const say = async (...words: string[]) => await run([process.execPath, MAIN, 'inetd', ...words])
    expect(await say('--config', file)).toMatchObject({
      code: 2,
      stderr: `nbdgate: ${file}: there are several doors; --door says which\n`,
    })
    expect(await say('--config', file, '--door', 'ssh')).toMatchObject({
      code: 2,
      stderr: `nbdgate: ${file}: there is no ssh door\n`,
    })
    const nobody = ['sh', '-c', 'exec "$0" "$@" < /dev/null', ...inetd(file, '--door', 'tcp')]
    expect(await run(nobody)).toMatchObject({
      code: 2,
      stderr: 'nbdgate: standard input is no connection: inetd starts this\n',
    })
    expect(await say('--config', file, '--door', 'window')).toMatchObject({ code: 2 })
    expect((await say()).stderr).toContain("required option '-c, --config <file>' not specified")
    expect((await say('--help')).stdout).toContain('--door <kind>')
    const port = await freePort()
    const server = await byInetd(port, file, '--door', 'unix')
    await expect(greeted({ host: HOST, port })).rejects.toThrow('closed after 0 of 18 bytes')
    await waitFor('the end', () => exitsOf(server).length === 1)
    expect(exitsOf(server)).toEqual(['2'])
  })
})

requires(
  'ssh',
  'ssh-keygen',
  'python3:nbd',
)('nbdgate inetd', () => {
  withSsh('is an SSH door', async ({ dir, files, disk }) => {
    const port = await freePort()
    const key = await files.key('user')
    files.authorize(`restrict ${files.publicKey('user')}`)
    const file = join(dir, 'nbdgate.yaml')
    await writeFile(file, sshConfig(files, 'nbd://127.0.0.1:1/disk', { log: { file: join(dir, 'log') } }))
    expect(disk).toContain('disk.img')
    const server = await byInetd(port, file)
    const { stdout } = await run(files.argv({ port, key }, 'nbd'), { input: '' })
    expect(stdout.startsWith('NBDMAGICIHAVEOPT')).toBe(true)
    await waitFor('the end', () => exitsOf(server).length === 1)
    expect(exitsOf(server)).toEqual(['0'])
  })
})
