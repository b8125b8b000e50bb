import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Found, findLuks } from '../../../src/sharing/luks-guard.ts'
import { runOk } from '../../support/process.ts'
import { requires } from '../../support/requires.ts'

const MIB = 1024 * 1024
const AT = MIB
const HALF = 16 * 1024
const FAST = ['--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000']

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'nbdgate-luks-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

/** The first 2 MiB of a disk that cryptsetup has formatted, a MiB into a disk. */
async function formatted(...args: readonly string[]): Promise<Buffer> {
  const file = join(folder, 'disk.img')
  const secret = join(folder, 'passphrase')
  writeFileSync(file, '')
  truncateSync(file, 32 * MIB)
  writeFileSync(secret, 'a test, not a secret')
  await runOk(['cryptsetup', 'luksFormat', '--batch-mode', ...args, '--key-file', secret, file])
  return Buffer.concat([Buffer.alloc(AT), readFileSync(file).subarray(0, 2 * MIB)])
}

function look(disk: Buffer): Promise<Found> {
  const read = async (offset: number, length: number) => Buffer.from(disk.subarray(offset, offset + length))
  return findLuks(read, AT, BigInt(disk.length))
}

async function problemOf(disk: Buffer): Promise<string> {
  const found = await look(disk)
  return found.kind === 'luks' ? 'none' : found.problem
}

/** The disk with other bytes at an offset from its header. */
function changed(disk: Buffer, at: number, bytes: string | number): Buffer {
  const copy = Buffer.from(disk)
  if (typeof bytes === 'string') copy.write(bytes, AT + at, 'latin1')
  else copy.fill(0, AT + at, AT + at + bytes)
  return copy
}

requires('cryptsetup')('a LUKS header', () => {
  it('of version 1 is known, and missed when it is gone', async () => {
    const disk = await formatted('--type', 'luks1', ...FAST)
    const found = await look(disk)
    expect(found).toMatchObject({ kind: 'luks', version: 1 })
    expect(await problemOf(changed(disk, 0, 'luks'))).toBe('it has no LUKS header')
    expect(await problemOf(changed(disk, 8, 32))).toBe('it has a LUKS1 header without a cipher')
    expect(await problemOf(changed(disk, 8, 'cipher_null\0'))).toBe(
      'it has a LUKS1 header whose cipher encrypts nothing',
    )
    expect(await problemOf(changed(disk, 104, 4))).toBe('it has a LUKS1 header without a key')
  })

  it('of version 2 is known by either copy, with its checksum', async () => {
    const disk = await formatted('--type', 'luks2', ...FAST)
    expect(await look(disk)).toMatchObject({ kind: 'luks', version: 2 })
    expect(await problemOf(changed(disk, 5000, 'x'))).toBe('none')
    expect(await problemOf(changed(disk, 0, 4096))).toBe('none')
    expect(await problemOf(changed(disk, HALF, HALF))).toBe('none')
    expect(await problemOf(changed(changed(disk, HALF, HALF), 5000, 'x'))).toBe(
      'it has a LUKS2 header with a wrong checksum',
    )
    expect(await problemOf(changed(disk, 0, 2 * HALF))).toBe('it is empty')
    // The first copy in place of the second is none.
    expect(await problemOf(changed(changed(disk, 0, HALF), HALF, 'LUKS\xba\xbe'))).not.toBe('none')
  })

  it('is not what encrypts nothing, nor what is not there', async () => {
    const plain = await formatted('--type', 'luks2', ...FAST, '--cipher', 'cipher_null-ecb', '--key-size', '128').catch(
      () => undefined,
    )
    if (plain !== undefined) {
      expect(await problemOf(plain)).toBe('it has a LUKS2 header whose cipher encrypts nothing')
    }
    expect(await problemOf(Buffer.alloc(4 * MIB))).toBe('it is empty')
    expect(await problemOf(Buffer.alloc(4 * MIB, 'ext4'))).toBe('it has no LUKS header')
    expect(await problemOf(Buffer.alloc(AT + 512))).toBe('it is too small')
  })

  it('stays: a write that would leave none is refused, others are not', async () => {
    const disk = await formatted('--type', 'luks2', ...FAST)
    const found = await look(disk)
    if (found.kind === 'none') throw new Error(found.problem)
    const { guard } = found
    expect([guard.touches(0, AT), guard.touches(AT - 1, 2), guard.touches(AT + 2 * HALF, 512)]).toEqual([
      false,
      true,
      false,
    ])
    expect(guard.admits(0, 4 * MIB)).toBe(false)
    expect(guard.admits(AT, Buffer.alloc(2 * HALF, 1))).toBe(false)
    // As cryptsetup does it: one copy, and then the other.
    expect(guard.admits(AT, HALF)).toBe(true)
    expect(guard.admits(AT + HALF, 512)).toBe(false)
    expect(guard.admits(AT - 512, Buffer.concat([Buffer.alloc(512), disk.subarray(AT, AT + HALF)]))).toBe(true)
    expect(guard.admits(AT + HALF, 512)).toBe(true)
  })
})
