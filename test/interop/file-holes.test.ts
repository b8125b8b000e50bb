/** Holes of a file that the gateway serves itself: clients with structured replies are told of them, and read what all others read. */
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { sha256 } from '../support/disk.ts'
import { test } from '../support/fixtures.ts'
import { runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { config, tcpDoor } from './configs.ts'
import { greeted, infoData } from './raw-client.ts'

const HOST = '127.0.0.1'
const MIB = 1 << 20
const [GO, STRUCTURED_REPLY] = [7, 8]
const [DATA, HOLE] = [1, 2]
const DF = 4

requires('nbdcopy', 'qemu-io')('a file with holes', () => {
  test('has them told to who knows chunks, and none with DF; copies are what it is', async ({ dir, gateway }) => {
    const file = join(dir, 'sparse.img')
    const fd = openSync(file, 'w')
    ftruncateSync(fd, 64 * MIB)
    writeSync(fd, Buffer.alloc(MIB, 0x5a), 0, MIB, 20 * MIB)
    closeSync(fd)
    const exports = [{ name: 'disk', upstream: { file }, allow: [{ who: 'anyone', rights: 'write' }] }]
    const port = (await gateway(config([tcpDoor()], exports))).port('tcp')
    const client = await greeted({ host: HOST, port })
    await client.option(STRUCTURED_REPLY)
    await client.option(GO, infoData('disk'))
    const read = async (at: number, length: number, flags: number): Promise<(readonly [number, number])[]> => {
      const head = Buffer.alloc(28)
      head.writeUInt32BE(0x2560_9513, 0)
      head.writeUInt16BE(flags, 4)
      head.writeBigUInt64BE(BigInt(at), 16)
      head.writeUInt32BE(length, 24)
      client.write(head)
      const chunks: (readonly [number, number])[] = []
      for (;;) {
        const chunk = await client.read(20)
        const payload = await client.read(chunk.readUInt32BE(16))
        const type = chunk.readUInt16BE(6)
        chunks.push([type, type === HOLE ? payload.readUInt32BE(8) : payload.length - 8])
        if ((chunk.readUInt16BE(4) & 1) !== 0) return chunks
      }
    }
    expect(await read(19 * MIB, 3 * MIB, 0)).toEqual([
      [HOLE, MIB],
      [DATA, MIB],
      [HOLE, MIB],
    ])
    expect(await read(19 * MIB, 3 * MIB, DF)).toEqual([[DATA, 3 * MIB]])
    await client.disconnect()
    const uri = `nbd://${HOST}:${port}/disk`
    const copy = join(dir, 'copy.img')
    await runOk(['nbdcopy', uri, copy])
    expect(await sha256(copy)).toBe(await sha256(file))
    const commands = [
      'read -P 0 0 20971520',
      'read -P 0x5a 20971520 1048576',
      'write -P 7 1000 5000',
      'read -P 7 1000 5000',
    ]
    const said = await runOk(['qemu-io', '-f', 'raw', ...commands.flatMap(each => ['-c', each]), uri])
    expect(said).not.toMatch(/fail|error/i)
  })
})
