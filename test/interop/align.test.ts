/** `align: true` in front of a server that takes whole blocks of 4 KiB alone: clients that know nothing of them write what they like. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { seededBytes } from '../support/disk.ts'
import { test as base } from '../support/fixtures.ts'
import { runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { config, tcpDoor } from './configs.ts'
import { exportInfo, greeted, infoData, told } from './raw-client.ts'
import { test as crashing } from './resume-ground.ts'

const HOST = '127.0.0.1'
const GO = 7
const BLOCK_SIZE = 3
const CAN_MULTI_CONN = 0x100
const MIB = 1 << 20
const STRICT = [
  'blocksize-minimum=4096',
  'blocksize-preferred=4096',
  'blocksize-maximum=64K',
  'blocksize-error-policy=error',
]
const NONSENSE = seededBytes(11, 4 * MIB)

/** A disk behind nbdkit that errs whatever is not whole blocks, and a gateway that makes them. */
const test = base.extend('aligned', async ({ dir, nbdkit, gateway }) => {
  return async (more: object = {}) => {
    const file = join(dir, 'disk.img')
    writeFileSync(file, NONSENSE)
    const socket = await nbdkit('--filter=blocksize-policy', 'file', file, ...STRICT)
    const upstream = { uri: `nbd+unix:///?socket=${socket}`, ...more }
    const allow = [{ who: 'anyone', rights: 'write' }]
    const running = await gateway(config([tcpDoor()], [{ name: 'disk', upstream, allow, align: true }]))
    const port = running.port('tcp')
    return { file, running, address: { host: HOST, port }, uri: `nbd://${HOST}:${port}/disk` }
  }
})

requires(
  'nbdkit',
  'fio',
  'qemu-io',
  'nbdcopy',
)('a server of 4 KiB blocks behind align', () => {
  test('is written by qemu-io at any place, and nothing beside it is changed', async ({ aligned }) => {
    const { file, uri } = await aligned()
    const expected = Buffer.from(NONSENSE)
    const writes = [
      [512, 512, 0x11],
      [4095, 2, 0x22],
      [8192, 4096, 0x33],
      [12_000, 100_000, 0x44],
      [4 * MIB - 700, 700, 0x55],
    ] as const
    const commands = writes.flatMap(([at, length, byte]) => {
      expected.fill(byte, at, at + length)
      return ['-c', `write -P ${byte} ${at} ${length}`]
    })
    expected.fill(0, 300_001, 300_001 + 50_000)
    commands.push('-c', 'write -z 300001 50000', '-c', 'discard 1000 3000', '-c', 'flush')
    commands.push('-c', 'read -P 0x22 4095 2', '-c', 'read -P 0x44 12001 70000', '-c', 'read -P 0 300001 50000')
    const said = await runOk(['qemu-io', '-f', 'raw', uri, ...commands])
    expect(said).not.toMatch(/fail|error/i)
    expect(readFileSync(file).compare(expected)).toBe(0)
  })

  test('is written and verified by fio in sectors of 512 bytes, 32 at once, and copied whole', async ({
    dir,
    aligned,
  }) => {
    const { file, uri } = await aligned()
    const job = ['--name=align', '--rw=randwrite', '--bs=512', '--iodepth=32', '--size=256k', '--offset=1m']
    const verify = ['--verify=crc32c', '--do_verify=1', '--verify_fatal=1', '--verify_state_save=0']
    await runOk(['fio', '--ioengine=nbd', `--uri=${uri}`, ...job, ...verify], { cwd: dir, timeoutMs: 60_000 })
    const left = readFileSync(file)
    expect(left.subarray(0, MIB).compare(NONSENSE.subarray(0, MIB))).toBe(0)
    expect(left.subarray(MIB + (256 << 10)).compare(NONSENSE.subarray(MIB + (256 << 10)))).toBe(0)
    const copy = join(dir, 'copy.img')
    await runOk(['nbdcopy', uri, copy])
    expect(readFileSync(copy).compare(left)).toBe(0)
  })

  test('says that it takes any size, over several connections too, and lets one connection write at a time', async ({
    aligned,
  }) => {
    const { file, running, address } = await aligned({ connections: 2 })
    const client = await greeted(address)
    const replies = await client.option(GO, infoData('disk', BLOCK_SIZE))
    expect(exportInfo(replies).flags & CAN_MULTI_CONN).toBe(0)
    expect(replies.find(({ data }) => data.readUInt16BE(0) === BLOCK_SIZE)?.data.readUInt32BE(2)).toBe(1)
    const other = await greeted(address)
    expect(told(await other.option(GO, infoData('disk')))[0]).toMatch(/^80000002 this export is in use for writing by/)
    await running.waitForLog(({ msg, reason }) => msg === 'refused' && reason === 'busy')
    const data = seededBytes(12, 200_001)
    client.request(1, 5n, 777n, data.length, data)
    expect((await client.simpleReply()).error).toBe(0)
    client.request(0, 6n, 770n, data.length + 20)
    const { data: back } = await client.simpleReply(data.length + 20)
    expect(back.subarray(7, 7 + data.length).compare(data)).toBe(0)
    expect(
      readFileSync(file)
        .subarray(777, 777 + data.length)
        .compare(data),
    ).toBe(0)
    await client.disconnect()
    const next = await greeted(address)
    expect((await next.option(GO, infoData('disk'))).at(-1)?.type).toBe(1)
  })
})

requires('nbdkit')('a server of 4 KiB blocks behind align that dies', () => {
  crashing('has what was not whole blocks made so once more', async ({ dir, forgetful, gateway }) => {
    const file = join(dir, 'disk.img')
    writeFileSync(file, NONSENSE)
    // Slow enough to die between the reading and the writing of a block.
    const filters = ['--filter=blocksize-policy', '--filter=delay']
    const server = await forgetful(...filters, 'file', file, ...STRICT, 'delay-read=25ms', 'delay-write=25ms')
    const allow = [{ who: 'anyone', rights: 'write' }]
    const running = await gateway(config([tcpDoor()], [{ name: 'disk', upstream: server.uri, allow, align: true }]))
    const client = await greeted({ host: HOST, port: running.port('tcp') })
    await client.option(GO, infoData('disk'))
    const expected = Buffer.from(NONSENSE)
    for (let n = 0; n < 40; n++) {
      const data = seededBytes(n, 700)
      data.copy(expected, 300 + n * 700)
      client.request(1, BigInt(n), BigInt(300 + n * 700), data.length, data)
    }
    expect((await client.simpleReply()).error).toBe(0)
    await server.crash()
    await server.comeBack()
    for (let n = 1; n < 40; n++) expect((await client.simpleReply()).error).toBe(0)
    await running.waitForLog(({ msg, again }) => msg === 'upstream back' && Number(again) > 0)
    expect(readFileSync(file).compare(expected)).toBe(0)
  })
})
