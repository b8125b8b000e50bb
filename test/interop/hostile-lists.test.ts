// Servers that lie when they are asked what they have, and addresses that some program would take for an option.

import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { describe, expect } from 'vitest'
import { Opt, Rep } from '../../src/protocol/constants.ts'
import { seededFile } from '../support/disk.ts'
import { test as base } from '../support/fixtures.ts'
import { MAIN } from '../support/gateway.ts'
import { run } from '../support/process.ts'
import { openFds } from '../support/procfs.ts'
import { waitFor } from '../support/wait.ts'
import { config, type Entry, tcpDoor } from './configs.ts'
import { OPTION, Peer, REPLY, u16, u32, u64 } from './hostile-support.ts'
import { greeted, infoData } from './raw-client.ts'

const SERVER = 2
const READ_FOR_ALL = [{ who: 'anyone', rights: 'read' }]

/** An option reply to LIST. `claims`: the length that it says it has. */
function reply(type: number, data: Uint8Array = Buffer.alloc(0), claims = data.length): Buffer {
  return Buffer.concat([u64(0x0003_e889_0455_65a9n), u32(OPTION.LIST), u32(type), u32(claims), data])
}

/** An entry of LIST. `claims`: the length that its name says it has. */
function entry(name: Uint8Array | string, claims = Buffer.from(name).length): Buffer {
  return reply(SERVER, Buffer.concat([u32(claims), Buffer.from(name)]))
}

const test = base.extend('liar', async ({}, { onCleanup }) => {
  const servers: Server[] = []
  onCleanup(() => {
    for (const server of servers) server.close()
  })
  /** The port of a server that answers LIST with these bytes, and then waits. */
  return async (answer: Buffer): Promise<number> => {
    const server = createServer(socket => {
      socket.on('error', () => {})
      const peer = new Peer(socket)
      const serve = async (): Promise<void> => {
        peer.send(Buffer.from('NBDMAGICIHAVEOPT'), u16(3))
        // The flags of the client, and LIST.
        await peer.read(4 + 16)
        peer.send(answer)
      }
      serve().catch(() => socket.destroy())
    }).listen(0, '127.0.0.1')
    servers.push(server)
    await once(server, 'listening')
    return (server.address() as AddressInfo).port
  }
})

describe('CVE-2017-2630: a reply to LIST', () => {
  const cases: readonly (readonly [string, Buffer, string])[] = [
    ['whose name claims 4 GiB', entry('x', 0xffff_ffff), 'BAD_LENGTH'],
    ['whose name claims more than is there', entry('x', 2), 'BAD_LENGTH'],
    ['that claims 4 GiB', reply(SERVER, u32(1), 0xffff_ffff), 'TOO_LONG'],
    ['without a name', reply(SERVER, Buffer.alloc(3)), 'BAD_LENGTH'],
    [
      'of another option',
      Buffer.concat([u64(0x0003_e889_0455_65a9n), u32(OPTION.GO), u32(SERVER), u32(0)]),
      'BAD_REPLY',
    ],
    ['of a type that is none of its', reply(REPLY.INFO, Buffer.alloc(12)), 'OptionRefused'],
    ['that has no end', Buffer.concat(Array.from({ length: 9000 }, () => entry(Buffer.alloc(4000, 'n')))), 'BAD_REPLY'],
  ]
  for (const [what, answer, code] of cases) {
    test(`${what} publishes nothing, and the other exports stay`, async ({ dir, gateway, liar }) => {
      const exports: readonly Entry[] = [
        { name: 'good', upstream: { file: await seededFile(join(dir, 'disk.img'), 1) }, allow: READ_FOR_ALL },
        { from: `nbd://127.0.0.1:${await liar(answer)}/`, allow: READ_FOR_ALL },
      ]
      const running = await gateway(config([tcpDoor()], exports))
      const failed = await running.waitForLog(({ msg }) => msg === 'exports can not be listed')
      expect(JSON.stringify(failed.err)).toContain(code)
      const fds = openFds(running.pid)
      const client = await greeted({ host: '127.0.0.1', port: running.port('tcp') })
      expect((await client.option(Opt.LIST)).map(({ type }) => type)).toEqual([Rep.SERVER, Rep.ACK])
      expect((await client.option(Opt.GO, infoData('good'))).at(-1)?.type).toBe(Rep.ACK)
      await client.disconnect()
      await waitFor('descriptors back', () => openFds(running.pid) <= fds)
      expect(running.log().filter(({ msg }) => msg === 'bug')).toEqual([])
    })
  }

  test('with names that are no names publishes the others', async ({ gateway, liar }) => {
    const names = ['fine', 'esc\u001b[2J', '', 'x'.repeat(4097), 'x'.repeat(8000), 'fine']
    const answer = Buffer.concat([...names.map(name => entry(name)), reply(REPLY.ACK)])
    const running = await gateway(
      config([tcpDoor()], [{ from: `nbd://127.0.0.1:${await liar(answer)}/`, allow: READ_FOR_ALL }]),
    )
    const client = await greeted({ host: '127.0.0.1', port: running.port('tcp') })
    const listed = (await client.option(Opt.LIST)).slice(0, -1).map(({ data }) => data.subarray(4).toString())
    expect(listed).toContain('fine')
    expect(new Set(listed).size).toBe(listed.length)
    expect(listed.filter(name => /[\p{Cc}]/u.test(name))).toEqual([])
    client.reset()
  })
})

describe('CVE-2025-14946: an address that begins with -', () => {
  const places = [
    (mark: string) => `nbd+ssh://-oProxyCommand=touch%20${mark}/disk`,
    (mark: string) => `nbd+ssh://-oProxyCommand=touch%20${mark}@127.0.0.1/disk`,
    (mark: string) => `nbd+ssh://alice@-oProxyCommand=touch%20${mark}:22/disk`,
    () => 'nbd+ssh://-F.evil/disk',
    () => 'nbd://-evil/disk',
  ]
  for (const [at, place] of places.entries()) {
    test(`is no upstream (${at + 1} of ${places.length}), and nothing is run`, async ({ dir }) => {
      const mark = join(dir, 'mark')
      const file = join(dir, 'nbdgate.yaml')
      const upstream = place(encodeURIComponent(mark))
      await writeFile(file, config([tcpDoor()], [{ name: 'disk', upstream, allow: READ_FOR_ALL }]))
      for (const argv of [
        ['check', file],
        ['serve', '--config', file],
        ['probe', upstream],
      ]) {
        const { code, stdout, stderr } = await run([process.execPath, MAIN, ...argv], { timeoutMs: 20_000 })
        expect(code, `${argv.join(' ')}: ${stdout}${stderr}`).not.toBe(0)
        expect(stdout + stderr).toMatch(/begins with -|no usable user|not an address or a host name/)
      }
      expect(existsSync(mark)).toBe(false)
    })
  }
})
