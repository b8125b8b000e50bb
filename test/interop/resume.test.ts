// Sessions that outlive their upstream: nothing is lost and nothing is wrong, or FLUSH says so.
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Opt } from '../../src/protocol/constants.ts'
import { seededBytes, seededFile } from '../support/disk.ts'
import { type LogLine, MAIN } from '../support/gateway.ts'
import { start } from '../support/process.ts'
import { isListeningAt } from '../support/procfs.ts'
import { requires } from '../support/requires.ts'
import { startNbdkit, startQemuNbd } from '../support/servers.ts'
import { freePort, waitFor } from '../support/wait.ts'
import { allow, config, nbdsUri, tcpDoor, tlsDoor } from './configs.ts'
import { AS_NOBODY, home } from './fio-home.ts'
import { greeted, infoData, type RawClient } from './raw-client.ts'
import { CYCLES, crashes, fioVerifies, median, test } from './resume-ground.ts'

const [READ, WRITE, FLUSH] = [0, 1, 3]
const EIO = 5
const SHUTDOWN = 108
const LONG = { timeout: 60_000 + CYCLES * 10_000 }
const ANYONE = [{ who: 'anyone', rights: 'write' }]

/** A line of connect's, as one of a log. */
function connectLine(text: string, time: number): readonly LogLine[] {
  const msg = /^nbdgate: (session opened|session ended|upstream back)/.exec(text)?.[1]
  return msg === undefined ? [] : [{ msg, time: new Date(time).toISOString() }]
}

async function entered(port: number): Promise<RawClient> {
  const client = await greeted({ host: '127.0.0.1', port })
  expect((await client.option(Opt.GO, infoData('disk'))).at(-1)?.type).toBe(1)
  return client
}

async function writes(client: RawClient, offset: number, bytes = 4096): Promise<void> {
  client.request(WRITE, 7n, BigInt(offset), bytes, seededBytes(3, bytes))
  expect(await client.simpleReply()).toMatchObject({ error: 0, cookie: 7n })
}

async function flushes(client: RawClient): Promise<number> {
  client.request(FLUSH, 9n, 0n, 0)
  return (await client.simpleReply()).error
}

requires('nbd-server', 'fio')('a server that crashes under 32 requests in flight and comes back', () => {
  test('is not noticed behind a plain door', LONG, async ({ dir, crashing, gateway }) => {
    const exports = [{ name: 'disk', upstream: crashing.uri, allow: ANYONE }]
    const running = await gateway(config([tcpDoor()], exports))
    const uri = `nbd://127.0.0.1:${running.port('tcp')}/disk`
    const waits = await crashes(CYCLES, crashing, () => fioVerifies(dir, uri), running)
    console.info(`plain: ${waits.length} crashes, median ${median(waits)} ms without I/O`)
    expect(waits).toHaveLength(CYCLES)
  })

  test('is not noticed over several connections to it', LONG, async ({ dir, crashing, gateway }) => {
    const exports = [{ name: 'disk', upstream: { uri: crashing.uri, connections: 4 }, allow: ANYONE }]
    const running = await gateway(config([tcpDoor()], exports))
    const uri = `nbd://127.0.0.1:${running.port('tcp')}/disk`
    const waits = await crashes(CYCLES, crashing, () => fioVerifies(dir, uri), running)
    console.info(`4 connections: ${waits.length} crashes, median ${median(waits)} ms without I/O`)
    expect(waits).toHaveLength(CYCLES)
    expect(running.log().filter(({ msg }) => msg === 'not all connections')).toEqual([])
  })

  test('is not noticed behind a TLS door', LONG, async ({ dir, pki, crashing, gateway }) => {
    const exports = [{ name: 'disk', upstream: crashing.uri, allow: [allow('alice', 'write')] }]
    const running = await gateway(config([tlsDoor(pki)], exports))
    const uri = `nbds://localhost:${running.port('tls')}/disk`
    const folder = await home(dir, pki.alice)
    const fio = () => fioVerifies(folder, uri, { prefix: AS_NOBODY, env: { HOME: folder } })
    const waits = await crashes(CYCLES, crashing, fio, running)
    console.info(`tls: ${waits.length} crashes, median ${median(waits)} ms without I/O`)
    expect(waits).toHaveLength(CYCLES)
  })

  requires('ssh', 'ssh-keygen')('behind an SSH door', () => {
    test('is not noticed', LONG, async ({ dir, files, crashing, gateway, tunnel }) => {
      const key = await files.key('user')
      files.authorize(files.publicKey('user'))
      const running = await gateway(config([files.door()], [{ name: 'disk', upstream: crashing.uri, allow: ANYONE }]))
      const socket = join(dir, 'tunnel.sock')
      await tunnel({ port: running.port('ssh'), key }, { [socket]: '/exports' })
      const fio = () => fioVerifies(dir, `nbd+unix:///disk?socket=${socket}`)
      const waits = await crashes(CYCLES, crashing, fio, running)
      console.info(`ssh: ${waits.length} crashes, median ${median(waits)} ms without I/O`)
      expect(waits).toHaveLength(CYCLES)
    })
  })

  test('nor is a gateway that does, behind connect', LONG, async ({ dir, pki, crashing, restarting }) => {
    const port = await freePort()
    const exports = [{ name: 'disk', upstream: crashing.uri, allow: [allow('alice', 'write')] }]
    const server = await restarting(config([tlsDoor(pki, { tls: `127.0.0.1:${port}` })], exports))
    const socket = join(dir, 'near.sock')
    const log: LogLine[] = []
    const argv = [process.execPath, MAIN, 'connect', '--verbose', nbdsUri(port, 'disk', pki.alice)]
    const near = await start([...argv, '--listen', `unix:${socket}`], {
      cwd: dir,
      onStderr: text => void log.push(...text.split('\n').flatMap(line => connectLine(line, Date.now()))),
      ready: () => isListeningAt(socket),
    })
    try {
      const waits = await crashes(CYCLES, server, () => fioVerifies(dir, `nbd+unix:///?socket=${socket}`), {
        log: () => log,
      })
      console.info(`connect: ${waits.length} crashes of the gateway, median ${median(waits)} ms without I/O`)
      expect(waits).toHaveLength(CYCLES)
    } finally {
      await near.stop()
    }
  })
})

requires('nbdkit')('an export with two ways', () => {
  test('goes on by the second when the first has died, and begins by it', async ({ forgetful, nbdkit, gateway }) => {
    const first = await forgetful('null', '1M')
    const second = `nbd+unix:///?socket=${await nbdkit('null', '1M')}`
    const exports = [{ name: 'disk', upstream: [first.uri, second], allow: ANYONE }]
    const running = await gateway(config([tcpDoor()], exports))
    const client = await entered(running.port('tcp'))
    await writes(client, 0)
    expect(await flushes(client)).toBe(0)
    await first.crash()
    expect(await flushes(client)).toBe(0)
    expect(await running.waitForLog(({ msg }) => msg === 'upstream back')).toMatchObject({ upstream: second })
    expect(await flushes(await entered(running.port('tcp')))).toBe(0)
  })
})

requires('nbdkit')('a server that loses what was not flushed', () => {
  test('is told of by the next FLUSH, once, each time', LONG, async ({ forgetful, gateway }) => {
    const server = await forgetful()
    const running = await gateway(config([tcpDoor()], [{ name: 'disk', upstream: server.uri, allow: ANYONE }]))
    const client = await entered(running.port('tcp'))
    for (let cycle = 0; cycle < CYCLES; cycle++) {
      await writes(client, 4096 * cycle)
      await server.crash()
      await server.comeBack()
      expect([await flushes(client), await flushes(client)]).toEqual([EIO, 0])
    }
    const lost = (): readonly LogLine[] => running.log().filter(({ msg }) => msg === 'unflushed writes lost')
    // A worker's lines come by way of the main process.
    await waitFor('a line for each', () => lost().length === CYCLES)
    expect(lost()[0]).toMatchObject({ level: 'error', export: 'disk', bytes: 4096, ranges: 1 })
  })

  test('is no matter where all was flushed, or nothing written', async ({ forgetful, gateway }) => {
    const server = await forgetful()
    const running = await gateway(config([tcpDoor()], [{ name: 'disk', upstream: server.uri, allow: ANYONE }]))
    const client = await entered(running.port('tcp'))
    await writes(client, 0)
    expect(await flushes(client)).toBe(0)
    await server.crash()
    await server.comeBack()
    expect(await flushes(client)).toBe(0)
    expect(running.log().some(({ msg }) => msg === 'unflushed writes lost')).toBe(false)
  })

  test('is told of on each connection that flushes for the others', async ({ forgetful, gateway }) => {
    const server = await forgetful()
    const exports = [{ name: 'disk', upstream: server.uri, allow: ANYONE }]
    const running = await gateway(config([tcpDoor()], exports, { workers: 2 }))
    const clients = [await entered(running.port('tcp')), await entered(running.port('tcp'))] as const
    await writes(clients[0], 0)
    await server.crash()
    await server.comeBack()
    for (const client of clients) expect([await flushes(client), await flushes(client)]).toEqual([EIO, 0])
    // What one connection has flushed is flushed for all.
    await writes(clients[0], 0)
    expect(await flushes(clients[1])).toBe(0)
    await server.crash()
    await server.comeBack()
    for (const client of clients) expect(await flushes(client)).toBe(0)
  })

  test('gets it again where it was kept', async ({ forgetful, gateway }) => {
    const server = await forgetful()
    const exports = [{ name: 'disk', upstream: server.uri, allow: ANYONE, 'replay-buffer': '64MiB' }]
    const running = await gateway(config([tcpDoor()], exports))
    const client = await entered(running.port('tcp'))
    for (let at = 0; at < 200; at++) await writes(client, 1024 * at)
    await server.crash()
    await server.comeBack()
    expect(await flushes(client)).toBe(0)
    client.request(READ, 1n, 0n, 199 * 1024 + 4096)
    const { data } = await client.simpleReply(199 * 1024 + 4096)
    const wanted = Buffer.alloc(data.length)
    for (let at = 0; at < 200; at++) seededBytes(3, 4096).copy(wanted, 1024 * at)
    expect(data.equals(wanted)).toBe(true)
    expect(running.log().some(({ msg }) => msg === 'unflushed writes lost')).toBe(false)
  })
})

requires('nbdkit')('an upstream that does not come back', () => {
  test('is given up in time: what is in flight and what comes later fails with ESHUTDOWN', async ({
    forgetful,
    gateway,
  }) => {
    const server = await forgetful('--filter=delay', 'memory', '1M', 'delay-read=30')
    const exports = [{ name: 'disk', upstream: server.uri, allow: ANYONE, reconnect: '1s' }]
    const running = await gateway(config([tcpDoor()], exports))
    const client = await entered(running.port('tcp'))
    client.request(READ, 1n, 0n, 512)
    await server.crash()
    expect(await client.simpleReply()).toMatchObject({ error: SHUTDOWN, cookie: 1n })
    expect(await flushes(client)).toBe(SHUTDOWN)
    await client.closed()
    const end = await running.waitForLog(({ msg }) => msg === 'session ended')
    expect(end).toMatchObject({ why: 'upstream gone', export: 'disk' })
    expect(running.log().find(({ msg }) => msg === 'upstream given up')).toMatchObject({
      level: 'error',
      export: 'disk',
    })
  })

  test('that is another one is not taken back', async ({ dir, forgetful, gateway }) => {
    const server = await forgetful()
    const exports = [{ name: 'disk', upstream: server.uri, allow: ANYONE }]
    const running = await gateway(config([tcpDoor()], exports))
    const client = await entered(running.port('tcp'))
    await server.crash()
    for (const file of ['forgetful.pid', 'forgetful.sock']) rmSync(join(dir, file), { force: true })
    const other = await startNbdkit(dir, 'forgetful', ['memory', '2M'])
    const line = await running.waitForLog(({ msg }) => msg === 'upstream not taken back')
    expect(line).toMatchObject({ err: { message: expect.stringContaining('not the same export') } })
    client.request(READ, 1n, 0n, 512)
    await other.process.stop()
    await server.comeBack()
    expect(await client.simpleReply(512)).toMatchObject({ error: 0, cookie: 1n })
  })
})

requires('qemu-nbd')('an upstream of another name', () => {
  test('is not taken back, though it is as large', async ({ dir, gateway }) => {
    const image = await seededFile(join(dir, 'disk.img'), 1)
    const serve = async (description: string) => {
      for (const file of ['named.pid', 'named.sock']) rmSync(join(dir, file), { force: true })
      return await startQemuNbd(dir, 'named', image, ['-D', description])
    }
    const first = await serve('vm-1')
    const exports = [{ name: 'disk', upstream: `nbd+unix:///?socket=${first.socket}`, allow: ANYONE }]
    const running = await gateway(config([tcpDoor()], exports))
    const client = await entered(running.port('tcp'))
    await first.process.stop()
    const other = await serve('vm-2')
    const line = await running.waitForLog(({ msg }) => msg === 'upstream not taken back')
    expect(line).toMatchObject({ err: { message: expect.stringContaining('calls it otherwise') } })
    client.request(READ, 1n, 0n, 512)
    await other.process.stop()
    const again = await serve('vm-1')
    expect(await client.simpleReply(512)).toMatchObject({ error: 0, cookie: 1n })
    await again.process.stop()
  })
})
