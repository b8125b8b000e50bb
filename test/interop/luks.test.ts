// Exports that go out encrypted or not at all, with headers that cryptsetup made.
import { copyFile, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Cmd, Err, Rep } from '../../src/protocol/constants.ts'
import { ext4Image } from '../support/disk.ts'
import { test as base } from '../support/fixtures.ts'
import { run, runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { allow, config, type Entry, tlsDoor } from './configs.ts'
import { enter, entered } from './sharing-ground.ts'

const MIB = 1024 * 1024
const HALF = 16 * 1024
const FAST = ['--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000', '--batch-mode']

const test = base
  .extend('secret', async ({ dir }) => {
    const secret = join(dir, 'passphrase')
    await writeFile(secret, 'a test, not a secret')
    return secret
  })
  .extend('empty', async ({ dir }) => {
    return async (name: string): Promise<string> => {
      await writeFile(join(dir, name), '')
      await truncate(join(dir, name), 32 * MIB)
      return join(dir, name)
    }
  })
  .extend('luks', async ({ empty, secret }) => {
    return async (name: string, ...args: readonly string[]): Promise<string> => {
      const file = await empty(name)
      await runOk(['cryptsetup', 'luksFormat', ...FAST, ...args, '--key-file', secret, file])
      return file
    }
  })
  .extend('serving', async ({ gateway, nbdServer, pki }) => {
    return async (files: Readonly<Record<string, string>>, more: Entry = {}): Promise<number> => {
      const names = Object.keys(files)
      const server = await nbdServer({
        exports: Object.fromEntries(names.map(name => [name, { file: files[name] ?? '', extra: 'trim = true' }])),
      })
      const rules = { allow: [allow('alice', 'write')], 'require-luks': true, ...more }
      const exports = names.map(name => ({ name, upstream: server.uri(name), ...rules }))
      return (await gateway(config([tlsDoor(pki)], exports))).port('tls')
    }
  })

requires(
  'nbd-server',
  'cryptsetup',
  'mke2fs',
)('require-luks', () => {
  test('lets LUKS out, and nothing else', async ({ dir, luks, empty, serving, pki }) => {
    const files = {
      one: await luks('one.img', '--type', 'luks1'),
      two: await luks('two.img', '--type', 'luks2'),
      bare: await ext4Image(dir, 8, 4),
      empty: await empty('empty.img'),
    }
    const port = await serving(files)
    for (const name of ['one', 'two']) await (await entered(port, pki.alice, name)).client.disconnect()
    for (const [name, problem] of [
      ['bare', 'it has no LUKS header'],
      ['empty', 'it is empty'],
    ] as const) {
      const refused = await enter(port, pki.alice, name)
      const text = `this export has to be encrypted with LUKS, and ${problem}`
      expect(refused).toMatchObject({ kind: 'refused', reply: Rep.ERR_POLICY, text })
    }
  })

  test('finds a header in a partition, and by its second copy', async ({ luks, serving, dir, pki }) => {
    const two = await readFile(await luks('two.img', '--type', 'luks2'))
    const partition = join(dir, 'partition.img')
    await writeFile(partition, Buffer.concat([Buffer.alloc(MIB), Buffer.alloc(HALF), two.subarray(HALF)]))
    const port = await serving({ partition }, { 'luks-at': '1MiB' })
    expect((await enter(port, pki.alice, 'partition')).kind).toBe('in')
  })

  test('keeps the header: EPERM for what would leave none, and keys can be added', async ({
    luks,
    serving,
    secret,
    dir,
    pki,
  }) => {
    const file = await luks('two.img', '--type', 'luks2')
    const port = await serving({ disk: file })
    const { client } = await entered(port, pki.alice)
    const write = async (at: number, bytes: Buffer): Promise<number> => {
      client.request(Cmd.WRITE, 1n, BigInt(at), bytes.length, bytes)
      return (await client.simpleReply()).error
    }
    // As mkfs, wipefs and blkdiscard begin.
    expect(await write(0, Buffer.alloc(MIB))).toBe(Err.PERM)
    client.request(Cmd.TRIM, 2n, 0n, 32 * MIB)
    expect(await client.simpleReply()).toMatchObject({ error: Err.PERM, cookie: 2n })
    const before = await readFile(file)
    // What cryptsetup makes of a copy, written as cryptsetup writes it: one header, then the other.
    const copy = join(dir, 'copy.img')
    const more = join(dir, 'more')
    await writeFile(more, 'another one')
    await copyFile(file, copy)
    const files = ['--key-file', secret, copy, more]
    await runOk(['cryptsetup', 'luksAddKey', ...FAST, ...files])
    const after = await readFile(copy)
    const last = 16 * MIB
    expect(await write(2 * HALF, after.subarray(2 * HALF, last))).toBe(0)
    expect(await write(0, Buffer.alloc(HALF))).toBe(0)
    expect(await write(HALF, Buffer.alloc(HALF))).toBe(Err.PERM)
    expect(await write(0, after.subarray(0, HALF))).toBe(0)
    expect(await write(HALF, after.subarray(HALF, 2 * HALF))).toBe(0)
    // Another session knows of all that; the read behind the header is the disk's.
    const second = await entered(port, pki.alice)
    second.client.request(Cmd.WRITE, 3n, 0n, 2 * HALF, Buffer.alloc(2 * HALF))
    expect(await second.client.simpleReply()).toMatchObject({ error: Err.PERM })
    expect((await readFile(file)).equals(before)).toBe(false)
    expect(await write(last, Buffer.alloc(512, 7))).toBe(0)
    await client.disconnect()
    const opens = ['cryptsetup', 'open', '--test-passphrase', '--key-file', more, file]
    expect(await run(opens)).toMatchObject({ code: 0 })
  })

  test('luks-format lets a writer begin anew', async ({ luks, serving, pki }) => {
    const port = await serving({ disk: await luks('one.img', '--type', 'luks1') }, { 'luks-format': true })
    const { client } = await entered(port, pki.alice)
    client.request(Cmd.WRITE, 1n, 0n, MIB, Buffer.alloc(MIB))
    expect(await client.simpleReply()).toMatchObject({ error: 0 })
    await client.disconnect()
    expect((await enter(port, pki.alice)).kind).toBe('refused')
  })
})
