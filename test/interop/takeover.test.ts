// A lease is taken away in the middle of writes: nothing of the old holder lands after the new one's first write.
import { open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Cmd } from '../../src/protocol/constants.ts'
import { run, runOk, start } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { allow, config, tlsDoor } from './configs.ts'
import { AS_NOBODY, home } from './fio-home.ts'
import { entered, nbdgate, test } from './sharing-ground.ts'

const MIB = 1024 * 1024
const BLOCK = 4096
const PIECE = 256 * 1024
const ROUNDS = 5
const MIN_WRITTEN = 4 * MIB

/** The longest run of blocks that a file of an ext4 image lies in, in bytes. */
async function extentOf(image: string, file: string): Promise<{ readonly at: number; readonly bytes: number }> {
  const blocks = (await runOk(['debugfs', '-R', `blocks ${file}`, image])).trim().split(/\s+/).map(Number)
  let best = { at: 0, bytes: 0 }
  for (let first = 0, index = 1; index <= blocks.length; index++) {
    if (blocks[index] === (blocks[index - 1] ?? 0) + 1) continue
    const bytes = (index - first) * BLOCK
    if (bytes > best.bytes) best = { at: (blocks[first] ?? 0) * BLOCK, bytes }
    first = index
  }
  return best
}

requires(
  'nbd-server',
  'fio',
  'mke2fs',
  'e2fsck',
  'debugfs',
)('a lease that is taken away', () => {
  test('in the middle of writes leaves the new holder alone with the disk', { timeout: 120_000 }, async ({
    dir,
    pki,
    nbdServer,
    gateway,
  }) => {
    const content = join(dir, 'content')
    await writeFile(content, Buffer.alloc(24 * MIB, 1))
    const image = join(dir, 'disk.ext4')
    await runOk(['mke2fs', '-q', '-F', '-t', 'ext4', '-b', String(BLOCK), image, '64M'])
    await runOk(['debugfs', '-w', '-R', `write ${content} file`, image])
    const extent = await extentOf(image, '/file')
    expect(extent.bytes).toBeGreaterThanOrEqual(8 * MIB)
    const bytes = extent.bytes - (extent.bytes % PIECE)
    const server = await nbdServer({ exports: { disk: { file: image, flush: true, fua: true } } })
    const socket = join(dir, 'admin.sock')
    const rules = [allow('alice', 'write'), allow('bob', 'write')]
    const exports = [{ name: 'disk', upstream: server.uri('disk'), allow: rules }]
    const running = await gateway(config([tlsDoor(pki)], exports, { admin: { socket } }))
    const port = running.port('tls')
    const folder = await home(dir, pki.alice)
    const where = ['--ioengine=nbd', `--uri=nbds://localhost:${port}/disk`, `--offset=${extent.at}`, `--size=${bytes}`]
    const job = ['--name=alice', '--rw=randwrite', '--bs=4k', '--iodepth=64', '--time_based', '--runtime=60']
    const written = async (): Promise<number> => {
      const { stdout } = await nbdgate('sessions', '--json', '--socket', socket)
      const sessions: { bytesWritten: number }[] = JSON.parse(stdout)
      return sessions[0]?.bytesWritten ?? 0
    }
    for (let round = 1; round <= ROUNDS; round++) {
      const fio = await start([...AS_NOBODY, 'fio', ...where, ...job], {
        cwd: folder,
        env: { ...process.env, HOME: folder },
        ready: async () => (await written()) > MIN_WRITTEN,
      })
      expect(await nbdgate('lease', 'release', 'disk', '--socket', socket)).toMatchObject({ code: 0 })
      const bob = await entered(port, pki.bob)
      for (let at = 0; at < bytes; at += PIECE) {
        bob.client.request(Cmd.WRITE, BigInt(at), BigInt(extent.at + at), PIECE, Buffer.alloc(PIECE, 0xb0 + round))
        expect(await bob.client.simpleReply()).toMatchObject({ error: 0 })
      }
      bob.client.request(Cmd.FLUSH, 0n, 0n, 0)
      expect(await bob.client.simpleReply()).toMatchObject({ error: 0 })
      expect((await fio.waitForExit()).code).not.toBe(0)
      await bob.client.disconnect()
      const disk = await open(image)
      const { buffer } = await disk.read(Buffer.alloc(bytes), 0, bytes, extent.at).finally(() => disk.close())
      expect(buffer.equals(Buffer.alloc(bytes, 0xb0 + round))).toBe(true)
      expect(await run(['e2fsck', '-fn', image])).toMatchObject({ code: 0 })
    }
    const ended = running.log().filter(line => line.msg === 'session ended' && line.why === 'lease released')
    expect(ended).toHaveLength(ROUNDS)
  })
})
