/**
 * Extended headers (NBD_OPT_EXTENDED_HEADERS) in front of servers that know none, and of one that does. No program of Debian 12
 * speaks them (qemu 7.2, nbdkit 1.32, libnbd 1.14): the client is made of the specification's byte tables, and the server that
 * knows them is a gateway.
 */
import { join } from 'node:path'
import { expect } from 'vitest'
import { seededBytes } from '../support/disk.ts'
import { test as base } from '../support/fixtures.ts'
import type { RunningGateway } from '../support/gateway.ts'
import { runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { config, type Entry, tcpDoor } from './configs.ts'
import { dial, exportInfo, greeted, infoData, type RawClient, u32 } from './raw-client.ts'

const HOST = '127.0.0.1'
const [EXPORT_NAME, INFO, GO, STRUCTURED_REPLY, SET_META_CONTEXT, EXTENDED_HEADERS] = [1, 6, 7, 8, 10, 11]
const [READ, WRITE, DISC, TRIM, WRITE_ZEROES, BLOCK_STATUS] = [0, 1, 2, 4, 6, 7]
const PAYLOAD_LEN = 0x20
const [NONE, DATA, HOLE, STATUS_EXT] = [0, 1, 2, 6]
const [ACK, INVALID] = [1, 0x8000_0003]
const GIB = 1024 ** 3
const ANYONE = [{ who: 'anyone', rights: 'write' }]

const test = base.extend('gate', async ({ gateway }) => {
  return async (upstream: unknown, more: Entry = {}) => {
    const exports = [{ name: 'disk', upstream, allow: ANYONE, ...more }]
    const running = await gateway(config([tcpDoor()], exports))
    return { host: HOST, port: running.port('tcp'), running }
  }
})

/** Where the gateway is as an upstream. */
const behind = ({ port }: { port: number }): string => `nbd://${HOST}:${port}/disk`

/** How many requests beside READ, WRITE and FLUSH a session has had that has ended. */
async function othersOf(running: RunningGateway): Promise<unknown> {
  return (await running.waitForLog(({ msg, others }) => msg === 'session ended' && others !== 0)).others
}

function send(client: RawClient, type: number, offset: number, length: number, payload?: Buffer): void {
  const head = Buffer.alloc(32)
  head.writeUInt32BE(0x21e4_1c71, 0)
  head.writeUInt16BE(payload === undefined ? 0 : PAYLOAD_LEN, 4)
  head.writeUInt16BE(type, 6)
  head.writeBigUInt64BE(BigInt(offset) + 77n, 8)
  head.writeBigUInt64BE(BigInt(offset), 16)
  head.writeBigUInt64BE(BigInt(length), 24)
  client.write(head, payload ?? Buffer.alloc(0))
}

interface Chunk {
  readonly type: number
  readonly payload: Buffer
}

/** Asks, and reads chunks up to the last. */
async function ask(
  client: RawClient,
  type: number,
  offset: number,
  length: number,
  payload?: Buffer,
): Promise<Chunk[]> {
  send(client, type, offset, length, payload)
  const chunks: Chunk[] = []
  for (;;) {
    const head = await client.read(32)
    expect(head.readUInt32BE(0)).toBe(0x6e8a_278c)
    expect([head.readBigUInt64BE(8), head.readBigUInt64BE(16)]).toEqual([BigInt(offset) + 77n, BigInt(offset)])
    chunks.push({ type: head.readUInt16BE(6), payload: await client.read(Number(head.readBigUInt64BE(24))) })
    if ((head.readUInt16BE(4) & 1) !== 0) return chunks
  }
}

async function read(client: RawClient, offset: number, length: number): Promise<Buffer> {
  const data = Buffer.alloc(length)
  for (const { type, payload } of await ask(client, READ, offset, length)) {
    expect([NONE, DATA, HOLE]).toContain(type)
    if (type === DATA) payload.copy(data, Number(payload.readBigUInt64BE(0)) - offset, 8)
  }
  return data
}

function metaQuery(...contexts: readonly string[]): Buffer {
  const queries = contexts.map(text => Buffer.concat([u32(text.length), Buffer.from(text)]))
  return Buffer.concat([infoData('disk').subarray(0, 8), u32(queries.length), ...queries])
}

async function entered(address: { host: string; port: number }, ...contexts: readonly string[]): Promise<RawClient> {
  const client = await greeted(address)
  expect((await client.option(EXTENDED_HEADERS)).map(({ type }) => type)).toEqual([ACK])
  if (contexts.length > 0)
    expect((await client.option(SET_META_CONTEXT, metaQuery(...contexts))).at(-1)?.type).toBe(ACK)
  expect((await client.option(GO, infoData('disk', 3))).at(-1)?.type).toBe(ACK)
  return client
}

requires('nbdkit')('extended headers', () => {
  test('serve reads, writes, effects of 10 GiB in one request and status in 64 bits', async ({ nbdkit, gate }) => {
    const client = await entered(await gate(`nbd+unix:///?socket=${await nbdkit('memory', '64G')}`), 'base:allocation')
    const data = Buffer.alloc(3_000_000, 'extended')
    for (const at of [0, 12 * GIB])
      expect(await ask(client, WRITE, at, data.length, data)).toMatchObject([{ type: NONE }])
    expect(
      (await read(client, 12 * GIB - 10, data.length + 20)).compare(
        Buffer.concat([Buffer.alloc(10), data, Buffer.alloc(10)]),
      ),
    ).toBe(0)
    const [status] = await ask(client, BLOCK_STATUS, 0, 60 * GIB)
    expect(status?.type).toBe(STATUS_EXT)
    const payload = status?.payload ?? Buffer.alloc(0)
    expect(payload.length).toBe(8 + 16 * payload.readUInt32BE(4))
    // Data first; the hole behind it is a hole and zero.
    expect([payload.readUInt32BE(0), payload.readBigUInt64BE(16), payload.readBigUInt64BE(32)]).toEqual([0, 0n, 3n])
    expect(await ask(client, TRIM, 11 * GIB, 10 * GIB)).toMatchObject([{ type: NONE }])
    expect((await read(client, 12 * GIB, 4096)).compare(Buffer.alloc(4096))).toBe(0)
    expect((await read(client, 0, 8)).toString()).toBe('extended')
    expect(await ask(client, WRITE_ZEROES, 0, 10 * GIB)).toMatchObject([{ type: NONE }])
    expect((await read(client, 0, 4096)).compare(Buffer.alloc(4096))).toBe(0)
    send(client, DISC, 0, 0)
    await client.closed()
  })

  test('serve a server without structured replies, and are nothing for EXPORT_NAME', async ({ nbdkit, gate }) => {
    const address = await gate(`nbd+unix:///?socket=${await nbdkit('--no-sr', 'pattern', '1M')}`)
    const client = await entered(address)
    expect((await read(client, 4096, 8)).toString('hex')).toBe('0000000000001000')
    expect((await ask(client, READ, 1 << 20, 8))[0]?.payload.readUInt32BE(0)).toBe(22)
    const other = await dial(address)
    await other.greet()
    await other.option(STRUCTURED_REPLY)
    expect((await other.option(EXTENDED_HEADERS, Buffer.from('x')))[0]?.type).toBe(INVALID)
    await other.option(EXTENDED_HEADERS)
    other.write(Buffer.from('IHAVEOPT'), Buffer.from([0, 0, 0, EXPORT_NAME, 0, 0, 0, 4]), Buffer.from('disk'))
    expect(await other.closed()).toHaveLength(0)
  })
})

requires('nbdkit')('extended headers to a server that has them', () => {
  test('pass: effects and status of more than 4 GiB are one request and one extent', async ({ nbdkit, gate }) => {
    const inner = await gate(`nbd+unix:///?socket=${await nbdkit('memory', '64G')}`)
    const outer = await gate(behind(inner))
    const client = await entered(outer, 'base:allocation')
    const data = seededBytes(5, 3_000_000)
    for (const at of [0, 12 * GIB])
      expect(await ask(client, WRITE, at, data.length, data)).toMatchObject([{ type: NONE }])
    const around = Buffer.concat([Buffer.alloc(10), data, Buffer.alloc(10)])
    expect((await read(client, 12 * GIB - 10, data.length + 20)).compare(around)).toBe(0)
    const [status] = await ask(client, BLOCK_STATUS, 0, 60 * GIB)
    expect(status?.type).toBe(STATUS_EXT)
    expect(status?.payload.readBigUInt64BE(32)).toBe(3n)
    expect(await ask(client, TRIM, 11 * GIB, 10 * GIB)).toMatchObject([{ type: NONE }])
    expect((await read(client, 12 * GIB, 4096)).compare(Buffer.alloc(4096))).toBe(0)
    expect(await ask(client, READ, 64 * GIB, 8)).toMatchObject([{ type: 0x8001 }])
    send(client, DISC, 0, 0)
    await client.closed()
    // BLOCK_STATUS and TRIM; the server behind both knows nothing longer than 4 GiB.
    expect([await othersOf(outer.running), await othersOf(inner.running)]).toEqual([2, 4])
  })

  test('are as good as none where requests have to be split for it, or go over several connections', async ({
    nbdkit,
    gate,
  }) => {
    const short = ['blocksize-minimum=1', 'blocksize-maximum=64K', 'blocksize-error-policy=error']
    const inner = await gate(
      `nbd+unix:///?socket=${await nbdkit('--filter=blocksize-policy', 'memory', '64G', ...short)}`,
    )
    const data = seededBytes(6, 1 << 20)
    for (const upstream of [behind(inner), { uri: behind(inner), connections: 3 }]) {
      const client = await entered(await gate(upstream))
      expect(await ask(client, WRITE, 5 * GIB, data.length, data)).toMatchObject([{ type: NONE }])
      expect((await read(client, 5 * GIB, data.length)).compare(data)).toBe(0)
      expect(await ask(client, TRIM, 0, 10 * GIB)).toMatchObject([{ type: NONE }])
    }
  })

  test('are asked of it again when it has died and come back, with all that was in flight', async ({
    dir,
    nbdkit,
    gateway,
    gate,
  }) => {
    const socket = await nbdkit('--filter=delay', 'memory', '64G', 'wdelay=300ms')
    const door = join(dir, 'inner.sock')
    const exports = [{ name: 'disk', upstream: `nbd+unix:///?socket=${socket}`, allow: ANYONE }]
    const inner = config([{ unix: door }], exports)
    const first = await gateway(inner)
    const outer = await gate(`nbd+unix:///disk?socket=${door}`, { reconnect: '30s' })
    const client = await entered(outer, 'base:allocation')
    const data = seededBytes(7, 500_000)
    send(client, WRITE, 5 * GIB, data.length, data)
    first.kill('SIGKILL')
    await first.waitForExit()
    await gateway(inner)
    const head = await client.read(32)
    expect([head.readUInt32BE(0), head.readUInt16BE(6), head.readBigUInt64BE(16)]).toEqual([
      0x6e8a_278c,
      NONE,
      BigInt(5 * GIB),
    ])
    expect((await read(client, 5 * GIB, data.length)).compare(data)).toBe(0)
    expect(await ask(client, TRIM, 1 * GIB, 3 * GIB)).toMatchObject([{ type: NONE }])
    expect(outer.running.log().map(({ msg }) => msg)).toContain('upstream back')
  })
})

requires('qemu-nbd', 'qemu-img')('BLOCK_STATUS for some of the contexts', () => {
  const FILTER = 1 << 12

  test('brings those alone, whoever picks them out: the gateway in front of qemu-nbd, or its server', async ({
    dir,
    qemuNbd,
    gate,
  }) => {
    const image = join(dir, 'disk.qcow2')
    await runOk(['qemu-img', 'create', '-q', '-f', 'qcow2', image, '1M'])
    const inner = await gate(`nbd+unix:///?socket=${await qemuNbd('-A', '-f', 'qcow2', image)}`)
    const outer = await gate(behind(inner))
    for (const address of [inner, outer]) {
      const client = await greeted(address)
      await client.option(EXTENDED_HEADERS)
      const bare = exportInfo(await client.option(INFO, infoData('disk')))
      const asked = metaQuery('base:allocation', 'qemu:allocation-depth')
      expect((await client.option(SET_META_CONTEXT, asked)).map(({ type }) => type)).toEqual([4, 4, ACK])
      const { flags } = exportInfo(await client.option(GO, infoData('disk')))
      expect([bare.flags & FILTER, flags & FILTER]).toEqual([0, FILTER])
      const status = async (...ids: readonly number[]) => {
        const payload = Buffer.alloc(8 + 4 * ids.length)
        payload.writeBigUInt64BE(1n << 20n)
        for (const [at, id] of ids.entries()) payload.writeUInt32BE(id, 8 + 4 * at)
        return await ask(client, BLOCK_STATUS, 0, payload.length, payload)
      }
      const idsOf = (chunks: readonly Chunk[]): number[] =>
        chunks.flatMap(({ type, payload }) => (type === STATUS_EXT ? [payload.readUInt32BE(0)] : []))
      for (const ids of [[0], [1], [1, 0]]) expect(idsOf(await status(...ids)).sort()).toEqual([...ids].sort())
      expect(idsOf(await ask(client, BLOCK_STATUS, 0, 1 << 20)).sort()).toEqual([0, 1])
      for (const ids of [[2], [0, 0], []]) {
        const [failure] = await status(...ids)
        expect([failure?.type, failure?.payload.readUInt32BE(0)]).toEqual([0x8001, 22])
      }
    }
  })
})
