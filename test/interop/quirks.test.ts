// What nbd-server does wrong, and what a visitor of the gateway in front of it sees instead. Each test that says
// `nbd-server …` in its body proves the quirk first, so that it tells when a newer server has lost it.
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Cmd, Info, Opt, Rep } from '../../src/protocol/constants.ts'
import { seededBytes } from '../support/disk.ts'
import { test as base } from '../support/fixtures.ts'
import { childrenOf } from '../support/procfs.ts'
import { requires } from '../support/requires.ts'
import type { NbdServer, NbdServerExport } from '../support/servers.ts'
import { waitFor } from '../support/wait.ts'
import { allow, config, type Entry, tcpDoor, tlsDoor, tlsOptions } from './configs.ts'
import { dial, exportInfo, greeted, infoData, type RawClient, told, u16, u32 } from './raw-client.ts'

const SIZE = 1024 * 1024
const CONTENT = seededBytes(7, SIZE)
const HOST = '127.0.0.1'
const FROM_HERE = [{ who: 'address:127.0.0.1/32', rights: 'write' }]

interface Scene {
  readonly server: NbdServer
  /** The server itself, and the gateway's door in front of it. */
  readonly direct: { readonly host: string; readonly port: number }
  readonly door: { readonly host: string; readonly port: number }
}

/** nbd-server with `disk`, and a gateway before it whose `disk` everybody of this host may write. */
const test = base
  .extend('scene', async ({ dir, nbdServer, gateway }) => {
    return async (
      its: Partial<NbdServerExport> = {},
      ours: Entry = {},
      more: readonly Entry[] = [],
    ): Promise<Scene> => {
      const file = join(dir, 'disk.img')
      await writeFile(file, CONTENT)
      const server = await nbdServer({ exports: { disk: { file, ...its }, other: { file } } })
      const disk = { name: 'disk', upstream: server.uri('disk'), allow: FROM_HERE, ...ours }
      const port = (await gateway(config([tcpDoor()], [disk, ...more]))).port('tcp')
      return { server, direct: { host: HOST, port: server.port }, door: { host: HOST, port } }
    }
  })
  /** An upstream that counts who knocks and says nothing. */
  .extend('knocks', async ({}, { onCleanup }) => {
    const seen = { count: 0, uri: '' }
    const server = createServer(socket => {
      seen.count++
      socket.destroy()
    }).listen(0, HOST)
    onCleanup(() => void server.close())
    await once(server, 'listening')
    const address = server.address()
    if (address === null || typeof address === 'string') throw new Error('no port')
    seen.uri = `nbd://${HOST}:${address.port}/secret`
    return seen
  })

/** The type of the last reply to GO for an export, on a connection of its own that is reset afterwards. */
async function answerToGo(address: { host: string; port: number }, name: string): Promise<number | undefined> {
  const client = await greeted(address)
  const replies = await client.option(Opt.GO, infoData(name))
  client.reset()
  return replies.at(-1)?.type
}

/** Comes in to `disk`, if need be when another has left. */
async function entered(address: { host: string; port: number }): Promise<RawClient> {
  let client = await greeted(address)
  await waitFor('a place', async () => {
    const replies = await client.option(Opt.GO, infoData('disk'))
    if (replies.at(-1)?.type === Rep.ACK) return true
    client.reset()
    client = await greeted(address)
    return false
  })
  return client
}

requires('nbd-server')('in front of nbd-server', () => {
  test('INFO gives the true size', async ({ scene }) => {
    const { direct, door } = await scene()
    const itself = await greeted(direct)
    expect(exportInfo(await itself.option(Opt.INFO, infoData('disk'))).size).toBe(0n)
    const client = await greeted(door)
    expect(exportInfo(await client.option(Opt.INFO, infoData('disk'))).size).toBe(BigInt(SIZE))
    expect(exportInfo(await client.option(Opt.GO, infoData('disk'))).size).toBe(BigInt(SIZE))
  })

  test('LIST with data is refused without the list, and the connection stays in step', async ({ scene }) => {
    const { direct, door } = await scene()
    const itself = await greeted(direct)
    expect((await itself.option(Opt.LIST, u32(0)))[0]?.type).toBe(Rep.ERR_INVALID)
    expect((await itself.replies(Opt.LIST)).map(reply => reply.type)).toContain(Rep.SERVER)
    const client = await greeted(door)
    expect(await client.option(Opt.LIST, u32(0))).toMatchObject([{ type: Rep.ERR_INVALID }])
    const list = await client.option(Opt.LIST)
    expect(list.map(reply => reply.type)).toEqual([Rep.SERVER, Rep.ACK])
    expect(client.unread).toBe(0)
  })

  test('INFO and GO whose name is longer than the option are refused at once, and the next GO works', async ({
    scene,
  }) => {
    const { door } = await scene()
    const client = await greeted(door)
    const lies = [
      Buffer.concat([u32(0xffff_ffff), Buffer.from('disk'), u16(0)]),
      Buffer.concat([u32(5), Buffer.from('disk'), u16(0)]),
      Buffer.concat([u32(0xffff_ffff)]),
      Buffer.concat([u32(4), Buffer.from('disk'), u16(2), u16(0)]),
      Buffer.alloc(0),
    ]
    for (const option of [Opt.INFO, Opt.GO]) {
      for (const lie of lies) expect(await client.option(option, lie)).toMatchObject([{ type: Rep.ERR_INVALID }])
    }
    expect((await client.option(Opt.GO, infoData('disk'))).at(-1)?.type).toBe(Rep.ACK)
  })

  test('a client flag that nobody knows ends the connection', async ({ scene }) => {
    const { direct, door } = await scene()
    const itself = await greeted(direct, 0x8003)
    expect((await itself.option(Opt.LIST)).at(-1)?.type).toBe(Rep.ACK)
    for (const flags of [0x8003, 4, 0x8000_0003]) {
      const client = await greeted(door, flags)
      expect(await client.closed()).toHaveLength(0)
    }
  })

  test('ABORT is acknowledged, and then the connection closes', async ({ scene }) => {
    const { door } = await scene()
    const client = await greeted(door)
    expect(await client.option(Opt.ABORT)).toMatchObject([{ type: Rep.ACK }])
    expect(await client.closed()).toHaveLength(0)
  })

  test('a GO that is refused leaves the connection in step, whatever it asked for', async ({ scene }) => {
    const { door } = await scene({}, {}, [{ name: 'secret', upstream: 'nbd://127.0.0.1:1/x', allow: [] }])
    const client = await greeted(door)
    const everything = [Info.EXPORT, Info.NAME, Info.DESCRIPTION, Info.BLOCK_SIZE, 99]
    for (const name of ['secret', 'nothing', 'secret']) {
      expect(await client.option(Opt.GO, infoData(name, ...everything))).toMatchObject([{ type: Rep.ERR_UNKNOWN }])
    }
    expect((await client.option(Opt.GO, infoData('disk', ...everything))).at(-1)?.type).toBe(Rep.ACK)
    client.request(Cmd.READ, 1n, 512n, 1024)
    expect((await client.simpleReply(1024)).data).toEqual(CONTENT.subarray(512, 1536))
  })

  test('an export that nbd-server refuses is refused, and the next GO works', async ({ scene, dir, nbdServer }) => {
    const nobody = join(dir, 'nobody.allow')
    await writeFile(nobody, '192.0.2.1\n')
    const file = join(dir, 'disk.img')
    const strict = await nbdServer({ exports: { strict: { file, extra: `authfile = ${nobody}` } } })
    const { door } = await scene({}, {}, [{ name: 'strict', upstream: strict.uri('strict'), allow: FROM_HERE }])
    const client = await greeted(door)
    for (const infos of [[], [Info.BLOCK_SIZE]]) {
      expect(await client.option(Opt.GO, infoData('strict', ...infos))).toMatchObject([{ type: Rep.ERR_PLATFORM }])
    }
    expect((await client.option(Opt.GO, infoData('disk'))).at(-1)?.type).toBe(Rep.ACK)
  })

  test('structured replies are there although the server has none', async ({ scene }) => {
    const { direct, door } = await scene()
    const itself = await greeted(direct)
    expect(await itself.option(Opt.STRUCTURED_REPLY)).toMatchObject([{ type: Rep.ERR_UNSUP }])
    const client = await greeted(door)
    expect(await client.option(Opt.STRUCTURED_REPLY)).toMatchObject([{ type: Rep.ACK }])
    await client.option(Opt.GO, infoData('disk'))
    client.request(Cmd.READ, 0x0102_0304_0506_0708n, 4096n, 512)
    const chunk = await client.read(28 + 512)
    // magic, DONE, OFFSET_DATA, cookie, length 8 + 512, offset
    const head = '668e33ef 0001 0001 0102030405060708 00000208 0000000000001000'.replaceAll(' ', '')
    expect(chunk.subarray(0, 28).toString('hex')).toBe(head)
    expect(chunk.subarray(28)).toEqual(CONTENT.subarray(4096, 4608))
  })

  test('block sizes are answered where they were asked for', async ({ scene }) => {
    const { direct, door } = await scene()
    const blockSizes = (replies: Awaited<ReturnType<typeof ask>>) =>
      replies.filter(({ type, data }) => type === Rep.INFO && data.readUInt16BE(0) === Info.BLOCK_SIZE)
    const ask = async (address: typeof door, ...infos: number[]) =>
      await (await greeted(address)).option(Opt.GO, infoData('disk', ...infos))
    expect(blockSizes(await ask(direct, Info.BLOCK_SIZE))).toHaveLength(0)
    expect(blockSizes(await ask(door))).toHaveLength(0)
    const [found] = blockSizes(await ask(door, Info.BLOCK_SIZE))
    // minimum 1, preferred 4096, payload up to 32 MiB
    expect(found?.data.toString('hex')).toBe('0003 00000001 00001000 02000000'.replaceAll(' ', ''))
  })

  test('a session that ended frees its place, which maxconnections never does', async ({ scene }) => {
    const { direct } = await scene({ extra: 'maxconnections = 1' })
    const first = await greeted(direct)
    await first.option(Opt.GO, infoData('disk'))
    await first.disconnect()
    expect(await answerToGo(direct, 'disk')).toBe(Rep.ERR_POLICY)
  })

  test('limits.sessions counts who is there, after a clean end and after an abrupt one', async ({ scene }) => {
    const { door } = await scene({}, { limits: { sessions: 1 } })
    let inside = await entered(door)
    for (const leave of ['disconnect', 'reset', 'disconnect', 'reset'] as const) {
      expect(await answerToGo(door, 'disk')).toBe(Rep.ERR_POLICY)
      await inside[leave]()
      inside = await entered(door)
    }
  })

  test('a server process ends with its visitor, however that left', async ({ scene, pki, gateway }) => {
    const { server } = await scene()
    const disk = { name: 'disk', upstream: server.uri('disk'), allow: [allow('alice', 'write')] }
    const port = (await gateway(config([tlsDoor(pki)], [disk]))).port('tls')
    const client = await greeted({ host: HOST, port })
    await client.startTls(tlsOptions(pki.alice))
    await client.option(Opt.GO, infoData('disk'))
    client.request(Cmd.READ, 1n, 0n, 512)
    await client.simpleReply(512)
    expect(childrenOf(server.pid)).toHaveLength(1)
    client.reset()
    await waitFor('end of the server process', () => childrenOf(server.pid).length === 0)
  })
})

requires('nbd-server')('an export that the visitor may not use', () => {
  test('can not be told from one that does not exist, and its upstream is not touched', async ({ scene, knocks }) => {
    const secret = { name: 'secret', description: 'hidden', upstream: knocks.uri }
    const { door } = await scene({}, {}, [{ ...secret, allow: [{ who: 'address:192.0.2.1/32', rights: 'write' }] }])
    const client = await greeted(door)
    const infos = [Info.NAME, Info.DESCRIPTION, Info.BLOCK_SIZE]
    for (const option of [Opt.INFO, Opt.GO]) {
      const forbidden = told(await client.option(option, infoData('secret', ...infos)))
      const missing = told(await client.option(option, infoData('nothing', ...infos)))
      expect(forbidden).toEqual(missing)
      expect(forbidden).toEqual([expect.stringMatching(/^80000006 \S/)])
    }
    const list = await client.option(Opt.LIST)
    expect(list.map(reply => reply.data.subarray(4).toString())).toEqual(['disk', ''])
    for (const name of ['secret', 'nothing']) {
      const old = await greeted(door)
      old.write(Buffer.from('IHAVEOPT'), u32(Opt.EXPORT_NAME), u32(name.length), Buffer.from(name))
      expect(await old.closed()).toHaveLength(0)
    }
    expect(knocks.count).toBe(0)
  })

  test('is dialled for the one who may use it', async ({ scene, knocks }) => {
    const { door } = await scene({}, {}, [{ name: 'secret', upstream: knocks.uri, allow: FROM_HERE }])
    const client = await greeted(door)
    expect(await client.option(Opt.GO, infoData('secret'))).toMatchObject([{ type: Rep.ERR_PLATFORM }])
    expect(knocks.count).toBeGreaterThan(0)
  })

  test('is hidden by a missing rule, where a missing authfile lets everybody in', async ({ scene, dir }) => {
    const { direct, door } = await scene({ extra: `authfile = ${join(dir, 'no-such-file')}` }, { allow: [] })
    expect(await answerToGo(direct, 'disk')).toBe(Rep.ACK)
    expect(await answerToGo(door, 'disk')).toBe(Rep.ERR_UNKNOWN)
    const client = await dial(door)
    await client.greet()
    expect(await client.option(Opt.LIST)).toMatchObject([{ type: Rep.ACK }])
  })
})
