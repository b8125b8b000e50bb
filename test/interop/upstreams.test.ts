// One suite for every way to an upstream, and what a visitor and the operator are told when there is none.
import { existsSync, readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect } from 'vitest'
import { Cmd, Err, Opt, Rep } from '../../src/protocol/constants.ts'
import { seededBytes, seededFile } from '../support/disk.ts'
import { test as base } from '../support/fixtures.ts'
import { start } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { freePort } from '../support/wait.ts'
import { config, type Entry, tcpDoor } from './configs.ts'
import { exportInfo, greeted, infoData, type RawClient } from './raw-client.ts'

const HOST = '127.0.0.1'
const SIZE = 1024 * 1024
const CONTENT = seededBytes(5, SIZE)
const SEND_FLUSH = 1 << 2
const START_ATTEMPTS = 3

const WAYS = ['nbd', 'nbd+unix', 'nbds', 'nbds+unix', 'file'] as const
type Way = (typeof WAYS)[number]
type Upstream = string | Entry

const test = base
  /** nbdkit on a port, which the `nbdkit` fixture does not do; the port. */
  .extend('nbdkitPort', async ({ dir }, { onCleanup }) => {
    return async (...args: string[]): Promise<number> => {
      let failure: unknown
      for (let attempt = 1; attempt <= START_ATTEMPTS; attempt++) {
        const port = await freePort()
        const pidFile = join(dir, `nbdkit-port-${attempt}.pid`)
        const own = ['-f', '--exit-with-parent', '-i', HOST, '-p', String(port), '-P', pidFile]
        // Written once it accepts connections.
        const ready = () => existsSync(pidFile) && readFileSync(pidFile, 'utf8') !== ''
        try {
          const server = await start(['nbdkit', ...own, ...args], { ready })
          onCleanup(() => server.stop().then(() => {}))
          return port
        } catch (error) {
          failure = error // somebody took the port, most likely
        }
      }
      throw failure
    }
  })
  /** Puts a file behind an upstream of a kind; what the configuration says of it. */
  .extend('upstream', async ({ pki, nbdServer, nbdkit, nbdkitPort }) => {
    const tls = ['--tls=require', '--tls-verify-peer', `--tls-certificates=${pki.server.dir}`]
    const ours = { ca: pki.ca.cert, cert: pki.alice.cert, key: pki.alice.key }
    return async (way: Way, file: string): Promise<Upstream> => {
      switch (way) {
        case 'nbd':
          return (await nbdServer({ exports: { back: { file, flush: true } } })).uri('back')
        case 'nbd+unix':
          return (await nbdServer({ unix: true, exports: { back: { file, flush: true } } })).uri('back')
        case 'nbds': {
          const port = await nbdkitPort(...tls, 'file', file)
          return { uri: `nbds://localhost:${port}/`, ...ours }
        }
        case 'nbds+unix':
          return { uri: `nbds+unix:///?socket=${await nbdkit(...tls, 'file', file)}`, ...ours }
        case 'file':
          return { file }
        default:
          return way satisfies never
      }
    }
  })
  /** A visitor of a gateway whose export `disk` has this upstream. */
  .extend('visit', async ({ gateway }) => {
    return async (upstream: Upstream) => {
      const allow = [{ who: 'address:127.0.0.1/32', rights: 'write' }]
      const running = await gateway(config([tcpDoor()], [{ name: 'disk', upstream, allow }]))
      const enter = () => greeted({ host: HOST, port: running.port('tcp') })
      return { running, enter, client: await enter() }
    }
  })

async function read(client: RawClient, offset: number, length: number): Promise<Buffer> {
  client.request(Cmd.READ, 1n, BigInt(offset), length)
  const reply = await client.simpleReply(length)
  expect(reply.error).toBe(0)
  return reply.data
}

async function go(client: RawClient) {
  return await client.option(Opt.GO, infoData('disk'))
}

requires('nbd-server', 'nbdkit')('an upstream', () => {
  describe.each(WAYS)('by %s', way => {
    test('gives its size, and reads, writes and flushes', async ({ dir, upstream, visit }) => {
      const file = await seededFile(join(dir, 'disk.img'), 1, 5)
      const { client, enter } = await visit(await upstream(way, file))
      const { size, flags } = exportInfo(await go(client))
      expect(size).toBe(BigInt(SIZE))
      expect(flags & SEND_FLUSH).toBe(SEND_FLUSH)
      expect(await read(client, 1000, 70_000)).toEqual(CONTENT.subarray(1000, 71_000))
      const written = seededBytes(6, 100_000)
      client.request(Cmd.WRITE, 2n, 12_345n, written.length, written)
      expect(await client.simpleReply()).toMatchObject({ error: 0, cookie: 2n })
      client.request(Cmd.FLUSH, 3n, 0n, 0)
      expect(await client.simpleReply()).toMatchObject({ error: 0, cookie: 3n })
      const expected = Buffer.from(CONTENT)
      written.copy(expected, 12_345)
      expect((await readFile(file)).equals(expected)).toBe(true)
      const second = await enter()
      await go(second)
      expect((await read(second, 0, SIZE)).equals(expected)).toBe(true)
    })

    test('is not asked for what lies beyond its end', async ({ dir, upstream, visit }) => {
      const file = await seededFile(join(dir, 'disk.img'), 1, 5)
      const { client } = await visit(await upstream(way, file))
      await go(client)
      client.request(Cmd.READ, 1n, BigInt(SIZE) - 1n, 2)
      expect(await client.simpleReply()).toMatchObject({ error: Err.INVAL, cookie: 1n })
      client.request(Cmd.WRITE, 2n, 2n ** 64n - 1n, 2, Buffer.from('no'))
      expect(await client.simpleReply()).toMatchObject({ error: Err.NOSPC, cookie: 2n })
      expect(await read(client, SIZE - 2, 2)).toEqual(CONTENT.subarray(SIZE - 2))
    })
  })
})

requires('nbd-server', 'nbdkit')('an upstream that is not believed', () => {
  test.for([
    ['of another authority', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'],
    ['that goes by another name', 'ERR_TLS_CERT_ALTNAME_INVALID'],
    ['that wants a certificate of ours', 'HANDSHAKE'],
    ['that has no TLS', 'STARTTLS'],
  ] as const)(
    '%s is refused to the visitor, and the log says why: %s',
    async ([which, why], { dir, pki, nbdServer, nbdkit, visit }) => {
      const file = await seededFile(join(dir, 'disk.img'), 1, 5)
      const tls = ['--tls=require', '--tls-verify-peer', `--tls-certificates=${pki.server.dir}`]
      const ours = { ca: pki.ca.cert, cert: pki.alice.cert, key: pki.alice.key }
      const secure = async () => `nbds+unix:///?socket=${await nbdkit(...tls, 'file', file)}`
      const upstreams: Record<typeof which, () => Promise<Upstream>> = {
        'of another authority': async () => ({ ...ours, uri: await secure(), ca: pki.rogueCa.cert }),
        'that goes by another name': async () => ({ ...ours, uri: `${await secure()}&tls-hostname=elsewhere.example` }),
        'that wants a certificate of ours': async () => ({ uri: await secure(), ca: pki.ca.cert }),
        'that has no TLS': async () => {
          const server = await nbdServer({ exports: { back: { file } } })
          return { ...ours, uri: server.uri('back').replace('nbd:', 'nbds:') }
        },
      }
      const { client, running } = await visit(await upstreams[which]())
      const [refused] = await go(client)
      expect(refused?.type).toBe(Rep.ERR_PLATFORM)
      expect(refused?.data.toString()).toMatch(/server behind this export/)
      const line = await running.waitForLog(({ msg }) => msg === 'upstream failed')
      expect(line).toMatchObject({ level: 'error', export: 'disk' })
      expect(JSON.stringify(line)).toContain(why)
      // The visitor learns nothing of it.
      expect(refused?.data.toString()).not.toContain(why)
    },
  )
})

requires('nbdkit')('an upstream that is down', () => {
  test('is a refusal with a message, and serves the same visitor when it is back', async ({ dir, nbdkit, visit }) => {
    const file = await seededFile(join(dir, 'disk.img'), 1, 5)
    const socket = join(dir, 'nbdkit.sock')
    const { client, running } = await visit(`nbd+unix:///?socket=${socket}`)
    for (const option of [Opt.INFO, Opt.GO]) {
      const [refused] = await client.option(option, infoData('disk'))
      expect(refused?.type).toBe(Rep.ERR_PLATFORM)
      expect(refused?.data.toString()).toMatch(/server behind this export/)
    }
    const line = await running.waitForLog(({ msg }) => msg === 'upstream failed')
    expect(line).toMatchObject({ code: 'DIAL', export: 'disk', who: 'address:127.0.0.1' })
    expect(JSON.stringify(line)).toContain('ENOENT')
    expect(await nbdkit('file', file)).toBe(socket)
    expect(exportInfo(await go(client)).size).toBe(BigInt(SIZE))
    expect(await read(client, 0, 512)).toEqual(CONTENT.subarray(0, 512))
  })

  test('is a refusal where nobody listens on the port', async ({ visit }) => {
    const { client, running } = await visit(`nbd://${HOST}:${await freePort()}/back`)
    expect(await go(client)).toMatchObject([{ type: Rep.ERR_PLATFORM }])
    const line = await running.waitForLog(({ msg }) => msg === 'upstream failed')
    expect(JSON.stringify(line)).toContain('ECONNREFUSED')
  })
})
