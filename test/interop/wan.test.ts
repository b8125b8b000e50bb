// A session over several connections to its upstream, with a long line in between.
import { readFile } from 'node:fs/promises'
import type { NetConnectOpts } from 'node:net'
import { join } from 'node:path'
import { expect } from 'vitest'
import { seededFile, sha256 } from '../support/disk.ts'
import { test as base } from '../support/fixtures.ts'
import { MAIN } from '../support/gateway.ts'
import { runOk, type Started, start } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { openSlowLine, type SlowLine } from '../support/slow-line.mjs'
import { waitFor } from '../support/wait.ts'
import { allow, config, nbdsUri, tcpDoor, tlsDoor } from './configs.ts'

const SIZE_MIB = 16
const CONNECTIONS = 8
/** 50 ms there and back. */
const LINE = { delayMs: 25, windowBytes: 512 * 1024 }
const ANYONE = { who: 'anyone', rights: 'write' }

const test = base
  .extend('line', async ({}, { onCleanup }) => {
    const lines: SlowLine[] = []
    onCleanup(async () => void (await Promise.all(lines.map(line => line.close()))))
    return async (
      to: NetConnectOpts | ((nth: number) => NetConnectOpts),
      delayMs = LINE.delayMs,
    ): Promise<SlowLine> => {
      const line = await openSlowLine({ ...LINE, to: typeof to === 'function' ? to : () => to, delayMs })
      lines.push(line)
      return line
    }
  })
  /** An nbdkit that tells what it was asked for, by which connection. */
  .extend('told', async ({ dir, nbdkit }) => {
    return async (filters: readonly string[] = [], words: readonly string[] = []) => {
      const log = join(dir, 'requests.log')
      const disk = await seededFile(join(dir, 'disk.img'), SIZE_MIB)
      const socket = await nbdkit('--filter=log', ...filters, 'file', disk, `logfile=${log}`, ...words)
      const asked = async (what: RegExp): Promise<readonly string[]> =>
        (await readFile(log, 'utf8')).split('\n').filter(line => what.test(line))
      const connections = async (what: RegExp): Promise<number> =>
        new Set((await asked(what)).map(line => /connection=(\d+)/.exec(line)?.[1])).size
      return { disk, socket, asked, connections }
    }
  })
  .extend('connect', async ({ dir }, { onCleanup }) => {
    const running: Started[] = []
    onCleanup(async () => void (await Promise.all(running.map(each => each.stop()))))
    return async (...args: readonly string[]): Promise<string> => {
      const socket = join(dir, 'near.sock')
      let told = ''
      const argv = [process.execPath, MAIN, 'connect', '--verbose', ...args, '--listen', `unix:${socket}`]
      const onStderr = (text: string): void => {
        told += text
      }
      running.push(await start(argv, { cwd: dir, onStderr, ready: () => told.includes('gateway ready: ') }))
      return `nbd+unix:///?socket=${socket}`
    }
  })

requires(
  'nbdkit',
  'nbd-server',
  'nbdcopy',
  'nbdinfo',
  'qemu-io',
  'fio',
)('a session over several connections', () => {
  test('connect carries bytes both ways, unchanged, with FLUSH by all of them and FUA as it was', async ({
    dir,
    pki,
    told,
    gateway,
    line,
    connect,
  }) => {
    const { disk, socket, asked, connections } = await told()
    const upstream = `nbd+unix:///?socket=${socket}`
    const far = await gateway(config([tlsDoor(pki)], [{ name: 'disk', upstream, allow: [allow('alice', 'write')] }]))
    const { port } = await line({ host: '127.0.0.1', port: far.port('tls') })
    const uri = await connect(nbdsUri(port, 'disk', pki.alice), '--connections', String(CONNECTIONS))

    const copy = join(dir, 'copy.img')
    await runOk(['nbdcopy', '--connections=1', uri, copy])
    expect(await sha256(copy)).toBe(await sha256(disk))
    expect(await connections(/ Read /)).toBe(CONNECTIONS)

    const other = await seededFile(join(dir, 'other.img'), SIZE_MIB, 2)
    await runOk(['nbdcopy', '--connections=1', '--flush', other, uri])
    expect(await sha256(disk)).toBe(await sha256(other))
    expect(await connections(/ Write /)).toBe(CONNECTIONS)
    expect(await connections(/ Flush /)).toBe(CONNECTIONS)
    expect(await asked(/ Write .* fua=1/)).toHaveLength(0)

    // Chunks of block status, of one context that has the same id everywhere.
    expect(await runOk(['nbdinfo', '--map', uri])).toBe(await runOk(['nbdinfo', '--map', upstream]))

    const words = ['-c', 'write -f -P 7 0 4096', '-c', 'read -P 7 0 4096']
    await runOk(['qemu-io', '-f', 'raw', ...words, uri])
    expect(await asked(/ Write .* fua=1/)).toHaveLength(1)
  })

  test('fio finds every block that it wrote with 64 in flight, structured replies and simple ones', {
    timeout: 60_000,
  }, async ({ dir, told, nbdServer, gateway, line }) => {
    const { socket } = await told()
    const simple = await seededFile(join(dir, 'simple.img'), SIZE_MIB)
    const server = await nbdServer({ exports: { disk: { file: simple, flush: true, fua: true } } })
    const lines = [await line({ path: socket }, 2), await line({ host: server.host, port: server.port }, 2)]
    const uris = [`nbd://127.0.0.1:${lines[0]?.port}`, `nbd://127.0.0.1:${lines[1]?.port}/disk`]
    const exports = uris.map((uri, at) => {
      return { name: `disk${at}`, upstream: { uri, connections: CONNECTIONS }, allow: [ANYONE] }
    })
    const running = await gateway(config([tcpDoor()], exports))
    for (const at of [0, 1]) {
      const uri = `nbd://${running.address('tcp')}/disk${at}`
      const job = ['--name=wan', '--rw=randrw', '--bsrange=4k-256k', '--iodepth=64', `--size=${SIZE_MIB}M`]
      const verify = ['--verify=crc32c', '--do_verify=1', '--verify_fatal=1', '--verify_state_save=0', '--fsync=64']
      await runOk(['fio', '--ioengine=nbd', `--uri=${uri}`, ...job, ...verify], { cwd: dir, timeoutMs: 50_000 })
      expect(lines[at]?.opened).toBeGreaterThanOrEqual(CONNECTIONS)
    }
    expect(running.log().filter(({ msg }) => msg === 'not all connections')).toEqual([])
  })

  test('goes on over new connections when one of them dies', async ({ dir, told, gateway, line }) => {
    const { disk, socket } = await told()
    const slow = await line({ path: socket })
    const upstream = { uri: `nbd://127.0.0.1:${slow.port}`, connections: 4 }
    // Without the buffer FLUSH fails, as it does whenever an upstream has died with writes that were not flushed.
    const entry = { name: 'disk', upstream, allow: [ANYONE], 'replay-buffer': '64MiB' }
    const running = await gateway(config([tcpDoor()], [entry]))
    const uri = `nbd://${running.address('tcp')}/disk`
    const other = await seededFile(join(dir, 'other.img'), SIZE_MIB, 3)
    const copying = runOk(['nbdcopy', '--connections=1', '--flush', other, uri])
    await running.waitForLog(({ msg }) => msg === 'session opened')
    slow.cutOne()
    await copying
    expect(await sha256(disk)).toBe(await sha256(other))
    const back = await running.waitForLog(({ msg }) => msg === 'upstream back')
    expect(back).toMatchObject({ export: 'disk' })
    expect(slow.opened).toBeGreaterThanOrEqual(8)
    await waitFor('all connections closed', () => slow.open === 0)
  })

  test('is over one connection, and a warning says so, where the upstream does not offer CAN_MULTI_CONN', async ({
    dir,
    told,
    gateway,
    line,
  }) => {
    const { disk, socket, connections } = await told(['--filter=multi-conn'], ['multi-conn-mode=disable'])
    const { port } = await line({ path: socket }, 0)
    const upstream = { uri: `nbd://127.0.0.1:${port}`, connections: CONNECTIONS }
    const running = await gateway(config([tcpDoor()], [{ name: 'disk', upstream, allow: [ANYONE] }]))
    const copy = join(dir, 'copy.img')
    await runOk(['nbdcopy', `nbd://${running.address('tcp')}/disk`, copy])
    expect(await sha256(copy)).toBe(await sha256(disk))
    expect(await connections(/ Read /)).toBe(1)
    const warned = await running.waitForLog(({ msg }) => msg === 'not all connections')
    expect(warned).toMatchObject({ export: 'disk', why: 'the upstream does not offer CAN_MULTI_CONN' })
  })

  test('is over as many connections as there are, and over one where another shows another export', async ({
    dir,
    told,
    nbdkit,
    gateway,
    line,
  }) => {
    const { disk, socket, connections } = await told()
    const other = await nbdkit('memory', '1M')
    const fewer = await line(nth => ({ path: nth <= 3 ? socket : join(dir, 'nobody.sock') }), 0)
    const mixed = await line(nth => ({ path: nth === 1 ? socket : other }), 0)
    const exports = Object.entries({ fewer, mixed }).map(([name, { port }]) => {
      return { name, upstream: { uri: `nbd://127.0.0.1:${port}`, connections: 5 }, allow: [ANYONE] }
    })
    const running = await gateway(config([tcpDoor()], exports))
    const warnings = (name: string) =>
      running.log().filter(line => line.msg === 'not all connections' && line.export === name)
    for (const [name, count] of Object.entries({ mixed: 1, fewer: 4 })) {
      const copy = join(dir, 'copy.img')
      await runOk(['nbdcopy', '--connections=1', `nbd://${running.address('tcp')}/${name}`, copy])
      expect(await sha256(copy)).toBe(await sha256(disk))
      // All that there have been, with that of `mixed`.
      expect(await connections(/ Read /)).toBe(count)
    }
    expect(warnings('mixed')).toMatchObject([{ why: 'the upstream shows another export on another connection' }])
    expect(warnings('fewer')).toMatchObject([{ why: expect.stringMatching(/^3 of 5 connections: ./) }])
  })
})
