/** Metadata contexts through the gateway: maps, dirty bitmaps, and who gets to see none. */
import { join } from 'node:path'
import { expect } from 'vitest'
import { test as base } from '../support/fixtures.ts'
import { runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { config, type Entry, tcpDoor } from './configs.ts'
import { greeted, infoData, told } from './raw-client.ts'

const ANYONE = [{ who: 'anyone', rights: 'write' }]
const STRUCTURED_REPLY = 8
const LIST_META_CONTEXT = 9
const SET_META_CONTEXT = 10

const test = base.extend('gate', async ({ gateway }) => {
  return async (exports: readonly Entry[]) => (await gateway(config([tcpDoor()], exports))).port('tcp')
})

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
const text = (value: string): Buffer => Buffer.concat([u32(Buffer.byteLength(value)), Buffer.from(value)])
const query = (name: string, ...queries: readonly string[]): Buffer =>
  Buffer.concat([text(name), u32(queries.length), ...queries.map(text)])

/** A qcow2 image of 64 MiB with data here and there, and what was written since the bitmap `since` began. */
async function sparseImage(file: string): Promise<string> {
  await runOk(['qemu-img', 'create', '-q', '-f', 'qcow2', file, '64M'])
  await runOk(['qemu-io', '-f', 'qcow2', '-c', 'write -P 1 1M 2M', '-c', 'write -z 4M 1M', file])
  await runOk(['qemu-img', 'bitmap', '--add', '-f', 'qcow2', file, 'since'])
  await runOk(['qemu-io', '-f', 'qcow2', '-c', 'write -P 3 20M 1M', '-c', 'write -P 4 63M 64k', file])
  return file
}

const map = async (uri: string, context = 'base:allocation'): Promise<string> =>
  await runOk(['nbdinfo', `--map=${context}`, uri])

requires(
  'nbdkit',
  'qemu-nbd',
  'qemu-img',
  'qemu-io',
  'nbdinfo',
)('metadata contexts', () => {
  test('of qemu-nbd are the same through the gateway: allocation, depth and dirty bitmap', async ({
    dir,
    qemuNbd,
    gate,
  }) => {
    const image = await sparseImage(join(dir, 'sparse.qcow2'))
    const direct = `nbd+unix:///?socket=${await qemuNbd(image, '-f', 'qcow2', '-B', 'since', '-A')}`
    const through = `nbd://127.0.0.1:${await gate([{ name: 'disk', upstream: direct, allow: ANYONE }])}/disk`
    for (const context of ['base:allocation', 'qemu:allocation-depth', 'qemu:dirty-bitmap:since']) {
      const wanted = await map(direct, context)
      expect(wanted.split('\n').length, context).toBeGreaterThan(3)
      expect(await map(through, context), context).toBe(wanted)
    }
    const contexts = async (uri: string) => JSON.parse(await runOk(['nbdinfo', '--json', uri])).exports[0].contexts
    expect(await contexts(through)).toEqual(await contexts(direct))
  })

  test('of nbdkit are the same through the gateway, thousands of extents', async ({ nbdkit, gate }) => {
    const pieces = Array.from({ length: 4000 }, (_, at) => `@${at * 65536} ${at % 7} 1`).join(' ')
    const socket = await nbdkit('data', pieces, 'size=256M')
    const direct = `nbd+unix:///?socket=${socket}`
    const through = `nbd://127.0.0.1:${await gate([{ name: 'disk', upstream: direct, allow: ANYONE }])}/disk`
    const wanted = await map(direct)
    expect(wanted.split('\n').length).toBeGreaterThan(1000)
    expect(await map(through)).toBe(wanted)
  })

  test('are read by qemu: qemu-img map, and what a dirty bitmap marks', async ({ dir, qemuNbd, gate }) => {
    const image = await sparseImage(join(dir, 'sparse.qcow2'))
    const socket = await qemuNbd(image, '-f', 'qcow2', '-B', 'since')
    const upstream = `nbd+unix:///?socket=${socket}`
    const port = await gate([{ name: 'disk', upstream, allow: ANYONE }])
    const qemuMap = async (options: string) =>
      JSON.parse(await runOk(['qemu-img', 'map', '--output=json', '--image-opts', `driver=nbd,${options}`]))
    const through = `export=disk,server.type=inet,server.host=127.0.0.1,server.port=${port}`
    const direct = `server.type=unix,server.path=${socket}`
    for (const bitmap of ['', ',x-dirty-bitmap=qemu:dirty-bitmap:since']) {
      const wanted = await qemuMap(direct + bitmap)
      expect(await qemuMap(through + bitmap)).toEqual(wanted)
      expect(wanted.length).toBeGreaterThan(3)
    }
  })

  test('are none where the server has none, and the session is served all the same', async ({
    dir,
    nbdServer,
    gate,
  }) => {
    const file = join(dir, 'disk.img')
    await runOk(['qemu-img', 'create', '-q', '-f', 'raw', file, '1M'])
    const upstream = (await nbdServer({ exports: { disk: { file } } })).uri('disk')
    const port = await gate([{ name: 'disk', upstream, allow: ANYONE }])
    const client = await greeted({ host: '127.0.0.1', port })
    await client.option(STRUCTURED_REPLY)
    expect(told(await client.option(LIST_META_CONTEXT, query('disk')))).toEqual(['1'])
    expect(told(await client.option(SET_META_CONTEXT, query('disk', 'base:allocation')))).toEqual(['1'])
    expect(told(await client.option(7, infoData('disk'))).at(-1)).toBe('1')
    client.request(7, 1n, 0n, 512)
    const refusal = await client.read(26)
    expect(refusal.toString('hex')).toBe('668e33ef0001800100000000000000010000003300000016002d')
    expect((await client.read(0x2d)).toString()).toBe('no such command, flag or range on this export')
  })

  test('of a forbidden export are refused as those of one that is not there, and its server is not dialled', async ({
    nbdkit,
    gate,
  }) => {
    const upstream = `nbd+unix:///?socket=${await nbdkit('memory', '1M')}`
    const port = await gate([
      { name: 'open', upstream, allow: ANYONE },
      {
        name: 'secret',
        upstream: 'nbd+unix:///?socket=/nowhere.sock',
        allow: [{ who: 'address:10.0.0.1', rights: 'read' }],
      },
    ])
    const client = await greeted({ host: '127.0.0.1', port })
    await client.option(STRUCTURED_REPLY)
    for (const option of [LIST_META_CONTEXT, SET_META_CONTEXT]) {
      const [forbidden, absent] = [
        told(await client.option(option, query('secret', 'base:allocation'))),
        told(await client.option(option, query('absent', 'base:allocation'))),
      ]
      expect(forbidden).toEqual(absent)
      expect(forbidden[0]).toContain('80000006')
    }
  })

  test('keep the ids that the client was told when the session is dialled anew', async ({
    dir,
    qemuNbd,
    nbdkit,
    gate,
  }) => {
    const image = await sparseImage(join(dir, 'sparse.qcow2'))
    const qemu = `nbd+unix:///?socket=${await qemuNbd(image, '-f', 'qcow2', '-B', 'since', '-A')}`
    const other = `nbd+unix:///?socket=${await nbdkit('memory', '1M')}`
    const port = await gate([
      { name: 'disk', upstream: qemu, allow: ANYONE },
      { name: 'other', upstream: other, allow: ANYONE },
    ])
    const client = await greeted({ host: '127.0.0.1', port })
    await client.option(STRUCTURED_REPLY)
    const replies = await client.option(SET_META_CONTEXT, query('disk', 'qemu:dirty-bitmap:since', 'base:allocation'))
    const names = new Map(replies.slice(0, -1).map(({ data }) => [data.readUInt32BE(0), data.toString('utf8', 4)]))
    expect([...names.values()].sort()).toEqual(['base:allocation', 'qemu:dirty-bitmap:since'])
    await client.option(6, infoData('other'))
    await client.option(7, infoData('disk'))
    // Written since the bitmap began: allocated, and dirty.
    client.request(7, 1n, 20n << 20n, 1 << 20)
    const flags = new Map<string | undefined, number>()
    for (let done = false; !done; ) {
      const head = await client.read(20)
      done = (head.readUInt16BE(4) & 1) !== 0
      const payload = await client.read(head.readUInt32BE(16))
      if (head.readUInt16BE(6) === 5) flags.set(names.get(payload.readUInt32BE(0)), payload.readUInt32BE(8))
    }
    expect(Object.fromEntries(flags)).toEqual({ 'base:allocation': 0, 'qemu:dirty-bitmap:since': 1 })
  })
})
