/** Upstreams that take less than a client asks for, or only whole blocks, and clients that keep to it, or do not know. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { test as base } from '../support/fixtures.ts'
import { runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { config, tcpDoor } from './configs.ts'
import { greeted, infoData, type RawClient } from './raw-client.ts'

const HOST = '127.0.0.1'
const GO = 7
const STRUCTURED_REPLY = 8
const BLOCK_SIZE = 3
const [READ, WRITE] = [0, 1]
const EINVAL = 22
const MIB = 1 << 20
const ANYONE = [{ who: 'anyone', rights: 'write' }]

const test = base.extend('gate', async ({ gateway }) => {
  return async (socket: string, connections = 1) => {
    const upstream = { uri: `nbd+unix:///?socket=${socket}`, connections }
    const exports = [{ name: 'disk', upstream, allow: ANYONE }]
    return { host: HOST, port: (await gateway(config([tcpDoor()], exports))).port('tcp') }
  }
})

async function entered(address: { host: string; port: number }, ...infos: readonly number[]): Promise<RawClient> {
  const client = await greeted(address)
  expect((await client.option(GO, infoData('disk', ...infos))).at(-1)?.type).toBe(1)
  return client
}

async function did(
  client: RawClient,
  type: number,
  offset: number,
  length: number,
  payload?: Buffer,
): Promise<Buffer | number> {
  client.request(type, 5n, BigInt(offset), length, payload)
  const { error, data } = await client.simpleReply(type === READ ? length : 0)
  return error === 0 && type === READ ? data : error
}

function bytesOf(answer: Buffer | number): Buffer {
  if (typeof answer === 'number') throw new Error(`error ${answer}`)
  return answer
}

const noise = (bytes: number): Buffer =>
  Buffer.from(Array.from({ length: bytes }, (_, at) => (at * 31 + (at >> 8)) & 0xff))

requires(
  'nbdkit',
  'qemu-nbd',
  'nbdcopy',
)('an upstream', () => {
  const STRICT = [
    'blocksize-minimum=4096',
    'blocksize-preferred=4096',
    'blocksize-maximum=64K',
    'blocksize-error-policy=error',
  ]

  test('that errs above 64 KiB serves clients that ask for 3 MiB, whether they know of block sizes or not', async ({
    nbdkit,
    gate,
  }) => {
    const socket = await nbdkit('--filter=blocksize-policy', 'memory', '16M', ...STRICT)
    const address = await gate(socket)
    const data = noise(3 * MIB)
    for (const infos of [[], [BLOCK_SIZE]]) {
      const client = await entered(address, ...infos)
      expect(await did(client, WRITE, 4 * MIB, data.length, data)).toBe(0)
      expect(data.compare(bytesOf(await did(client, READ, 4 * MIB, data.length)))).toBe(0)
      await client.disconnect()
    }
    // It does err.
    const direct = await greeted({ path: socket })
    await direct.option(GO, infoData(''))
    expect(await did(direct, READ, 0, MIB)).toBe(EINVAL)
  })

  test('that errs what is not aligned has nothing changed by it, and is never read, changed and written', async ({
    nbdkit,
    gate,
  }) => {
    const address = await gate(await nbdkit('--filter=blocksize-policy', 'memory', '16M', ...STRICT))
    for (const infos of [[], [BLOCK_SIZE]]) {
      const client = await entered(address, ...infos)
      for (const [offset, length] of [
        [1, 4096],
        [0, 4095],
        [512, 512],
        [2048, 3 * MIB],
      ] as const) {
        expect(await did(client, WRITE, offset, length, Buffer.alloc(length, 0x61))).toBe(EINVAL)
        expect(await did(client, READ, offset, length)).toBe(EINVAL)
      }
      expect(bytesOf(await did(client, READ, 0, 4 * MIB)).compare(Buffer.alloc(4 * MIB))).toBe(0)
      await client.disconnect()
    }
  })

  test('with structured replies answers long READs by chunks, and with DF by one', async ({ nbdkit, gate }) => {
    const address = await gate(await nbdkit('--filter=blocksize-policy', 'memory', '16M', ...STRICT))
    const client = await greeted(address)
    await client.option(STRUCTURED_REPLY)
    await client.option(GO, infoData('disk', BLOCK_SIZE))
    const data = noise(MIB)
    client.request(WRITE, 1n, 0n, MIB, data)
    expect((await client.simpleReply()).error).toBe(0)
    const head = Buffer.alloc(28)
    head.writeUInt32BE(0x2560_9513, 0)
    head.writeUInt16BE(4, 4)
    head.writeUInt32BE(MIB, 24)
    client.write(head)
    const one = await client.read(28)
    expect([one.readUInt16BE(4), one.readUInt16BE(6), one.readUInt32BE(16)]).toEqual([1, 1, 8 + MIB])
    expect(data.equals(await client.read(MIB))).toBe(true)
    head.writeUInt16BE(0, 4)
    client.write(head)
    const got = Buffer.alloc(MIB)
    for (let [bytes, isDone] = [0, false]; !isDone; ) {
      const chunk = await client.read(28)
      isDone = chunk.readUInt16BE(4) === 1
      expect(chunk.readUInt16BE(6)).toBe(1)
      const piece = await client.read(chunk.readUInt32BE(16) - 8)
      piece.copy(got, Number(chunk.readBigUInt64BE(20)))
      bytes += piece.length
      if (isDone) expect(bytes).toBe(MIB)
    }
    expect(data.equals(got)).toBe(true)
  })

  test('is copied to and from by nbdcopy in requests that are larger than it takes, also over several connections', async ({
    nbdkit,
    gate,
    dir,
  }) => {
    const socket = await nbdkit('--filter=blocksize-policy', 'memory', '8M', ...STRICT)
    const [from, to] = [join(dir, 'from'), join(dir, 'to')]
    for (const connections of [1, 3]) {
      const uri = `nbd://${HOST}:${(await gate(socket, connections)).port}/disk`
      writeFileSync(from, noise(8 * MIB - connections * 4096))
      await runOk(['nbdcopy', '--request-size=4194304', from, uri])
      await runOk(['nbdcopy', '--request-size=4194304', '--connections=1', uri, to])
      expect(readFileSync(from).compare(readFileSync(to), 0, 8 * MIB - connections * 4096)).toBe(0)
    }
  })

  test('of 4 KiB sectors is asked in sectors by who knows them; for who does not, qemu does what it always did', async ({
    qemuNbd,
    gate,
    dir,
  }) => {
    const image = join(dir, 'sectors')
    writeFileSync(image, Buffer.alloc(MIB))
    const options = `driver=blkdebug,align=4096,image.driver=file,image.filename=${image}`
    const address = await gate(await qemuNbd(options, '--image-opts'))
    const knows = await greeted(address)
    const told = await knows.option(GO, infoData('disk', BLOCK_SIZE))
    expect(told.find(({ data }) => data.readUInt16BE(0) === BLOCK_SIZE)?.data.readUInt32BE(2)).toBe(4096)
    expect(await did(knows, WRITE, 512, 3, Buffer.from('abc'))).toBe(EINVAL)
    expect(await did(knows, READ, 512, 3)).toBe(EINVAL)
    await knows.disconnect()
    const old = await entered(address)
    expect(await did(old, WRITE, 511, 3, Buffer.from('abc'))).toBe(0)
    expect(await did(old, READ, 510, 5)).toEqual(Buffer.from('\0abc\0'))
    await old.disconnect()
  })
})
