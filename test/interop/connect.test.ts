// `nbdgate connect`: clients that speak no TLS reach a TLS door through a local plain socket.
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { seededFile, sha256 } from '../support/disk.ts'
import { test as base } from '../support/fixtures.ts'
import { MAIN } from '../support/gateway.ts'
import { run, runOk, type Started, start } from '../support/process.ts'
import { isListeningAt } from '../support/procfs.ts'
import { requires } from '../support/requires.ts'
import { freePort, waitFor } from '../support/wait.ts'
import { allow, config, nbdsUri, tlsDoor } from './configs.ts'
import { greeted, infoData } from './raw-client.ts'

const SIZE_MIB = 16

const test = base
  /** A TLS door with nbd-server behind it: `disk` for alice to write. */
  .extend('port', async ({ dir, nbdServer, pki, gateway }) => {
    const file = await seededFile(join(dir, 'disk.img'), SIZE_MIB)
    const server = await nbdServer({ exports: { disk: { file, flush: true, fua: true } } })
    const exports = [{ name: 'disk', upstream: server.uri('disk'), allow: [allow('alice', 'write')] }]
    return (await gateway(config([tlsDoor(pki)], exports))).port('tls')
  })
  /** Starts the client's end and waits until it listens. */
  .extend('connect', async ({ dir }, { onCleanup }) => {
    const running: Started[] = []
    onCleanup(async () => {
      for (const each of running) await each.stop()
    })
    return async (...args: readonly string[]): Promise<Started> => {
      let told = ''
      const argv = [process.execPath, MAIN, 'connect', '--verbose', ...args]
      const onStderr = (text: string): void => {
        told += text
      }
      const started = await start(argv, { cwd: dir, onStderr, ready: () => told.includes('gateway ready: ') })
      running.push(started)
      return started
    }
  })

const listening = (started: Started): string => /gateway ready: tcp:(\S+)/.exec(started.stderr())?.[1] ?? ''

requires(
  'nbd-server',
  'nbdinfo',
  'nbdcopy',
  'qemu-img',
  'nbd-client',
  'nbdkit',
  'script',
)('connect', () => {
  test('carries bytes both ways, unchanged, over a socket that is gone at the end', async ({
    dir,
    pki,
    port,
    connect,
  }) => {
    const socket = join(dir, 'c.sock')
    const client = await connect(nbdsUri(port, 'disk', pki.alice), '--listen', `unix:${socket}`)
    expect(statSync(socket).mode & 0o777).toBe(0o600)
    const uri = `nbd+unix:///?socket=${socket}`
    expect(await runOk(['nbdinfo', '--size', uri])).toBe(`${SIZE_MIB * 1024 * 1024}\n`)
    expect(await runOk(['qemu-img', 'info', `nbd+unix:///disk?socket=${socket}`])).toContain('16 MiB')

    const disk = join(dir, 'disk.img')
    const copy = join(dir, 'copy.img')
    await runOk(['nbdcopy', uri, copy])
    expect(await sha256(copy)).toBe(await sha256(disk))
    const other = await seededFile(join(dir, 'other.img'), SIZE_MIB, 2)
    await runOk(['nbdcopy', '--flush', other, uri])
    expect(await sha256(disk)).toBe(await sha256(other))

    client.kill('SIGINT')
    expect(await client.waitForExit()).toEqual({ code: 0, signal: null })
    expect(existsSync(socket)).toBe(false)
  })

  test('listens on a loopback port, lets nobody write when told so, and ends once asked to', async ({
    dir,
    pki,
    port,
    connect,
  }) => {
    const { ca, cert, key } = pki.alice
    const keys = ['--ca', ca, '--cert', cert, '--key', key]
    const flags = ['--export', 'disk', '--listen', '127.0.0.1:0', '--read-only', '--once']
    const client = await connect(`nbds://localhost:${port}`, ...flags, ...keys)
    const uri = `nbd://${listening(client)}/disk`
    // LIST alone is no session.
    expect(await runOk(['nbdinfo', '--list', '--json', uri.replace('disk', '')])).toContain('"disk"')
    const nearPort = listening(client).split(':')[1] ?? ''
    expect(await runOk(['nbd-client', '-l', '127.0.0.1', nearPort])).toContain('disk')
    const before = await sha256(join(dir, 'disk.img'))
    const qemu = ['qemu-io', '-f', 'raw', '-c', 'write 0 4096', uri]
    expect((await run(qemu)).code).not.toBe(0)
    expect(await sha256(join(dir, 'disk.img'))).toBe(before)
    if (client.exit() === undefined) await run(['nbdinfo', uri])
    expect(await client.waitForExit()).toEqual({ code: 0, signal: null })
  })

  for (const where of ['unix', 'tcp'] as const) {
    for (const way of ['nbds', 'nbds+unix'] as const) {
      test(`carries bytes both ways, unchanged, from ${where} to ${way}`, async ({
        dir,
        pki,
        port,
        nbdkit,
        connect,
      }) => {
        const disk = join(dir, 'disk.img')
        const nearEnd = where === 'unix' ? `unix:${join(dir, 'c.sock')}` : '127.0.0.1:0'
        const tls = ['--tls=require', '--tls-verify-peer', `--tls-certificates=${pki.server.dir}`]
        const behind = async () =>
          `nbds+unix:///?socket=${await nbdkit(...tls, 'file', disk)}&tls-certificates=${pki.alice.dir}`
        const client = await connect(
          way === 'nbds' ? nbdsUri(port, 'disk', pki.alice) : await behind(),
          '--listen',
          nearEnd,
        )
        const uri = where === 'unix' ? `nbd+unix:///?socket=${join(dir, 'c.sock')}` : `nbd://${listening(client)}/`
        const copy = join(dir, 'copy.img')
        await runOk(['nbdcopy', uri, copy])
        expect(await sha256(copy)).toBe(await sha256(disk))
        const other = await seededFile(join(dir, 'other.img'), SIZE_MIB, 2)
        await runOk(['nbdcopy', '--flush', other, uri])
        expect(await sha256(disk)).toBe(await sha256(other))
        expect(client.stderr()).toMatch(/session ended: .*read 16 MiB/)
      })
    }
  }

  test('reaches the gateway again after it was away, and waits for it before it is there', async ({
    dir,
    pki,
    nbdServer,
    gateway,
    connect,
  }) => {
    const file = await seededFile(join(dir, 'disk.img'), 1)
    const server = await nbdServer({ exports: { disk: { file } } })
    const exports = [{ name: 'disk', upstream: server.uri('disk'), allow: [allow('alice', 'write')] }]
    const port = await freePort()
    const doors = [{ ...tlsDoor(pki), tls: `127.0.0.1:${port}` }]
    const socket = join(dir, 'c.sock')
    const client = await connect(nbdsUri(port, 'disk', pki.alice), '--listen', `unix:${socket}`)
    const size = () => run(['nbdinfo', '--size', `nbd+unix:///?socket=${socket}`])
    expect((await size()).code).not.toBe(0)
    expect(client.stderr()).toContain('ECONNREFUSED')
    for (let life = 0; life < 2; life++) {
      const running = await gateway(config(doors, exports))
      expect((await size()).code).toBe(0)
      await running.stop()
    }
    expect((await size()).code).not.toBe(0)
  })

  test('gives an open session 5 s after Ctrl-C, and none after the second', async ({ dir, pki, port, connect }) => {
    const socket = join(dir, 'c.sock')
    const client = await connect(nbdsUri(port, 'disk', pki.alice), '--listen', `unix:${socket}`)
    const visitor = await greeted({ path: socket })
    await visitor.option(7, infoData('disk'))
    client.kill('SIGINT')
    await waitFor('the end of listening', () => !existsSync(socket))
    visitor.request(0, 1n, 0n, 4096)
    expect((await visitor.simpleReply(4096)).error).toBe(0)
    client.kill('SIGINT')
    expect(await client.waitForExit()).toEqual({ code: 0, signal: null })
    await visitor.closed()
  })

  test('says on a terminal what moves', async ({ dir, pki, port }) => {
    const socket = join(dir, 'c.sock')
    const words = [process.execPath, MAIN, 'connect', nbdsUri(port, 'disk', pki.alice), '--listen', `unix:${socket}`]
    const command = words.map(word => `'${word}'`).join(' ')
    const client = await start(['script', '-qefc', `exec ${command}`, '/dev/null'], {
      ready: () => isListeningAt(socket),
    })
    try {
      const visitor = await greeted({ path: socket })
      await visitor.option(7, infoData('disk'))
      visitor.request(0, 1n, 0n, 4096)
      await visitor.simpleReply(4096)
      await waitFor('the line', () => /1 session, read 4 KiB /.test(client.stdout()), { describe: client.stdout })
      await visitor.disconnect()
      await waitFor('its end', () => client.stdout().includes('session ended: '), { describe: client.stdout })
    } finally {
      await client.stop()
    }
  })

  test('gives a client nothing when the server is of another authority, or has another name', async ({
    dir,
    pki,
    port,
    connect,
  }) => {
    const { cert, key } = pki.alice
    const socket = join(dir, 'c.sock')
    const rogue = ['--ca', pki.rogueCa.cert, '--cert', cert, '--key', key, '--listen', `unix:${socket}`]
    const client = await connect(`nbds://localhost:${port}/disk`, ...rogue)
    expect((await run(['nbdinfo', `nbd+unix:///?socket=${socket}`])).code).not.toBe(0)
    expect(client.stderr()).toContain('no TLS with localhost')

    const named = join(dir, 'n.sock')
    const name = `${nbdsUri(port, 'disk', pki.alice)}&tls-hostname=other.example`
    const misnamed = await connect(name, '--listen', `unix:${named}`)
    expect((await run(['nbdinfo', `nbd+unix:///?socket=${named}`])).code).not.toBe(0)
    expect(misnamed.stderr()).toContain('ERR_TLS_CERT_ALTNAME_INVALID')
  })

  test('does not start for plaintext, beyond loopback, or without its certificates', async ({ dir }) => {
    const connect = (...args: string[]) => run([process.execPath, MAIN, 'connect', ...args], { cwd: dir })
    const plain = await connect('nbd://localhost/disk', '--listen', '127.0.0.1:0')
    expect(plain).toMatchObject({ code: 2, stderr: expect.stringContaining('plaintext') })
    const open = await connect('nbds://localhost/disk', '--listen', '0.0.0.0:0')
    expect(open).toMatchObject({ code: 2, stderr: expect.stringContaining('--insecure-listen-anywhere') })
    const bare = await connect('nbds://localhost/disk', '--ca', 'gone.pem', '--listen', '127.0.0.1:0')
    expect(bare).toMatchObject({ code: 2, stderr: expect.stringContaining('gone.pem') })
  })
})
