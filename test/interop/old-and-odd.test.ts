/** Clients and servers of former days, and exports at the edges of what the protocol can say. */
import { join } from 'node:path'
import { expect } from 'vitest'
import { test as base } from '../support/fixtures.ts'
import { run, runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { config, type Entry, tcpDoor } from './configs.ts'
import { dial, exportInfo, greeted, infoData, type RawClient, told } from './raw-client.ts'

const ANYONE = [{ who: 'anyone', rights: 'write' }]
const HOST = '127.0.0.1'
const EXPORT_NAME = 1
const [LIST, GO] = [3, 7]
const LONGEST = 'ä'.repeat(2048)

const test = base.extend('gate', async ({ gateway }) => {
  return async (exports: readonly Entry[]) => ({
    host: HOST,
    port: (await gateway(config([tcpDoor()], exports))).port('tcp'),
  })
})

/** Comes in by EXPORT_NAME with these client flags; what was answered, and whether zeroes came. */
async function byName(address: { host: string; port: number }, flags: number, name: string): Promise<RawClient> {
  const client = await dial(address)
  await client.greet(flags)
  client.write(
    Buffer.from('IHAVEOPT'),
    Buffer.from([0, 0, 0, EXPORT_NAME, 0, 0, 0, Buffer.byteLength(name)]),
    Buffer.from(name),
  )
  return client
}

requires(
  'nbdkit',
  'qemu-nbd',
  'nbdinfo',
  'nbdcopy',
  'nbd-client',
)('old clients', () => {
  test('that know EXPORT_NAME alone get in, with zeroes unless they said that they need none', async ({
    nbdkit,
    gate,
  }) => {
    const upstream = `nbd+unix:///?socket=${await nbdkit('pattern', '1M')}`
    const address = await gate(['', 'disk'].map(name => ({ name, upstream, allow: ANYONE })))
    for (const flags of [0, 1, 2, 3]) {
      for (const name of ['', 'disk']) {
        const client = await byName(address, flags, name)
        const reply = await client.read((flags & 2) === 0 ? 134 : 10)
        expect(reply.readBigUInt64BE(0)).toBe(1n << 20n)
        expect(reply.subarray(10).every(byte => byte === 0)).toBe(true)
        client.request(0, 7n, 4096n, 8)
        expect(await client.simpleReply(8)).toEqual({
          error: 0,
          cookie: 7n,
          data: Buffer.from('0000000000001000', 'hex'),
        })
        await client.disconnect()
      }
    }
  })

  test('are closed for an export that they may not use, as for one that is not there', async ({ nbdkit, gate }) => {
    const upstream = `nbd+unix:///?socket=${await nbdkit('memory', '1M')}`
    const address = await gate([{ name: 'secret', upstream, allow: [] }])
    for (const name of ['secret', 'absent', '']) expect(await (await byName(address, 0, name)).closed()).toHaveLength(0)
  })

  test('without fixed newstyle that send another option are closed', async ({ nbdkit, gate }) => {
    const upstream = `nbd+unix:///?socket=${await nbdkit('memory', '1M')}`
    const address = await gate([{ name: 'disk', upstream, allow: ANYONE }])
    const client = await dial(address)
    await client.greet(0)
    client.write(Buffer.from('IHAVEOPT'), Buffer.from([0, 0, 0, LIST, 0, 0, 0, 0]))
    expect(await client.closed()).toHaveLength(0)
  })
})

requires(
  'nbdkit',
  'nbdinfo',
  'nbdcopy',
)('odd servers and exports', () => {
  test('an oldstyle server is served to today’s clients, also with structured replies', async ({
    dir,
    nbdkit,
    gate,
  }) => {
    const upstream = `nbd+unix:///?socket=${await nbdkit('-o', 'pattern', '1M')}`
    const { port } = await gate([{ name: 'disk', upstream, allow: ANYONE }])
    const info = JSON.parse(await runOk(['nbdinfo', '--json', `nbd://${HOST}:${port}/disk`]))
    expect(info.exports[0]).toMatchObject({ 'export-name': 'disk', 'export-size': 1 << 20 })
    expect(info.structured).toBe(true)
    await runOk(['nbdcopy', `nbd://${HOST}:${port}/disk`, `${dir}/copy`])
    await runOk(['nbdcopy', upstream, `${dir}/direct`])
    expect((await run(['cmp', `${dir}/copy`, `${dir}/direct`])).code).toBe(0)
  })

  test('an oldstyle server that is asked for a name is refused', async ({ nbdkit, gate }) => {
    const upstream = `nbd+unix:///name?socket=${await nbdkit('-o', 'memory', '1M')}`
    const client = await greeted(await gate([{ name: 'disk', upstream, allow: ANYONE }]))
    expect(told(await client.option(GO, infoData('disk')))[0]).toMatch(/^80000004/)
  })

  test('names of 4096 bytes and of any letters are found, longer ones are refused', async ({ nbdkit, gate }) => {
    const upstream = `nbd+unix:///?socket=${await nbdkit('memory', '1M')}`
    const names = [LONGEST, '日本語', 'a b/c?d', '🙂', '']
    const address = await gate(names.map(name => ({ name, upstream, allow: ANYONE })))
    for (const name of names) {
      const client = await greeted(address)
      expect(exportInfo(await client.option(GO, infoData(name))).size).toBe(1n << 20n)
    }
    const client = await greeted(address)
    const listed = await client.option(LIST)
    expect(listed.slice(0, -1).map(({ data }) => data.toString('utf8', 4))).toEqual(names)
    expect(told(await client.option(GO, infoData(`${LONGEST}a`)))[0]).toMatch(/^80000009/)
    const uri = `nbd://${HOST}:${address.port}/${encodeURIComponent('日本語')}`
    expect(await runOk(['nbdinfo', '--size', uri])).toBe('1048576\n')
  })

  test('exports of 0 and of 2^63 - 1 bytes are served to their last byte', async ({ nbdkit, gate }) => {
    const largest = (1n << 63n) - 1n
    const [empty, huge] = [await nbdkit('null', '0'), await nbdkit('null', `size=${largest}`)]
    const address = await gate([
      { name: 'empty', upstream: `nbd+unix:///?socket=${empty}`, allow: ANYONE },
      { name: 'huge', upstream: `nbd+unix:///?socket=${huge}`, allow: ANYONE },
    ])
    for (const [name, size] of [
      ['empty', 0n],
      ['huge', largest],
    ] as const) {
      const client = await greeted(address)
      expect(exportInfo(await client.option(GO, infoData(name))).size).toBe(size)
      client.request(0, 1n, size, 1)
      expect((await client.simpleReply()).error).toBe(22)
      client.request(0, 2n, size === 0n ? 0n : size - 1n, 1)
      expect((await client.simpleReply(1)).error).toBe(size === 0n ? 22 : 0)
      expect(await runOk(['nbdinfo', '--size', `nbd://${HOST}:${address.port}/${name}`])).toBe(`${size}\n`)
    }
  })

  test('ten thousand exports are listed, and each of them can be asked for', async ({ dir, nbdkit, gate }) => {
    const shelf = join(dir, 'shelf')
    await runOk(['mkdir', shelf])
    await runOk(['sh', '-c', 'seq -f disk-%g 0 9999 | xargs touch', 'sh'], { cwd: shelf })
    const from = `nbd+unix:///?socket=${await nbdkit('file', `dir=${shelf}`)}`
    const client = await greeted(await gate([{ from, allow: ANYONE }]))
    const listed = new Set((await client.option(LIST)).slice(0, -1).map(({ data }) => data.toString('utf8', 4)))
    expect(listed).toEqual(new Set(Array.from({ length: 10_000 }, (_, at) => `disk-${at}`)))
    expect(exportInfo(await client.option(GO, infoData('disk-9999'))).size).toBe(0n)
  })

  test('a client that does not ask for block sizes is not bound by those of the server', async ({ nbdkit, gate }) => {
    const sizes = ['blocksize-minimum=4096', 'blocksize-preferred=4096', 'blocksize-maximum=1M']
    const socket = await nbdkit('--filter=blocksize-policy', 'memory', '16M', ...sizes)
    const address = await gate([{ name: 'disk', upstream: `nbd+unix:///?socket=${socket}`, allow: ANYONE }])
    const client = await greeted(address)
    const asked = await client.option(6, infoData('disk', 3))
    const found = asked.find(({ type, data }) => type === 3 && data.readUInt16BE(0) === 3)?.data
    expect([found?.readUInt32BE(2), found?.readUInt32BE(6), found?.readUInt32BE(10)]).toEqual([4096, 4096, 1 << 20])
    await client.option(GO, infoData('disk'))
    client.request(0, 1n, 1n, 3)
    expect((await client.simpleReply(3)).error).toBe(0)
  })
})
