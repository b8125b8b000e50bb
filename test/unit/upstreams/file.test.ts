import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { Cmd, CmdFlag, TransmissionFlag } from '../../../src/protocol/constants.ts'
import { deviceNumbers, type FileUpstream, openFile } from '../../../src/upstreams/file.ts'
import { closeStream, descriptorsOf, FileClient } from './file-client.ts'

const MiB = 1024 * 1024
let folder = ''
let path = ''

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'nbdgate-file-'))
  path = join(folder, 'disk')
})
afterEach(() => rmSync(folder, { recursive: true }))

async function open(where: string, readOnly = false): Promise<FileUpstream> {
  const upstream = await openFile(where, { readOnly })
  onTestFinished(() => closeStream(upstream.stream))
  return upstream
}

/** Bytes of disk that a file takes. */
const usedBytes = (): number => statSync(path).blocks * 512

describe('openFile', () => {
  it('tells size, flags and block size of a file', async () => {
    writeFileSync(path, Buffer.alloc(1234567))
    const upstream = await open(path)
    expect(upstream.sizeBytes).toBe(1234567n)
    // HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES, MULTI_CONN; FAST_ZERO where fallocate() can be called.
    expect(upstream.flags & ~TransmissionFlag.SEND_FAST_ZERO).toBe(0b1_0110_1101)
    expect(upstream.blockSize).toEqual({ minimum: 1, preferred: 4096, maximumPayload: 33554432 })
  })

  it('says READ_ONLY and offers no changes when it was asked to', async () => {
    writeFileSync(path, 'x')
    expect((await open(path, true)).flags).toBe(0b1_0000_1111)
  })

  it.runIf(existsSync('/sys/kernel/uevent_seqnum'))('says READ_ONLY of what nobody may write', async () => {
    expect((await open('/sys/kernel/uevent_seqnum')).flags).toBe(0b1_0000_1111)
  })

  it('serves an empty file', async () => {
    writeFileSync(path, '')
    expect((await open(path)).sizeBytes).toBe(0n)
  })

  it('never makes a file', async () => {
    await expect(openFile(path, { readOnly: false })).rejects.toMatchObject({
      name: 'UpstreamError',
      code: 'DIAL',
      message: `${path} can not be opened: ENOENT`,
    })
    expect(existsSync(path)).toBe(false)
  })

  it('refuses a directory, a FIFO, a socket and a character device, without waiting', async () => {
    const refused = (what: string) => ({
      code: 'REFUSED',
      message: expect.stringContaining(` is ${what}, neither a file nor a block device`),
    })
    mkdirSync(path)
    await expect(openFile(path, { readOnly: true })).rejects.toMatchObject(refused('a directory'))
    const fifo = join(folder, 'fifo')
    execFileSync('mkfifo', [fifo])
    await expect(openFile(fifo, { readOnly: true })).rejects.toMatchObject(refused('a FIFO'))
    const socket = join(folder, 'socket')
    const server = createServer().listen(socket)
    await once(server, 'listening')
    await expect(openFile(socket, { readOnly: false })).rejects.toMatchObject(refused('a socket'))
    server.close()
    await expect(openFile('/dev/null', { readOnly: false })).rejects.toMatchObject(refused('a character device'))
  })

  // Sparse files of this size are for tmpfs.
  it.runIf(existsSync('/dev/shm'))('refuses a file beyond 2^53 bytes, and closes it', async () => {
    const memory = mkdtempSync('/dev/shm/nbdgate-file-')
    onTestFinished(() => rmSync(memory, { recursive: true }))
    const huge = join(memory, 'huge')
    execFileSync('truncate', ['--size', String(2 ** 53), huge])
    await expect(openFile(huge, { readOnly: false })).rejects.toMatchObject({ code: 'REFUSED' })
    expect(descriptorsOf(huge)).toBe(0)
  })

  it('takes device numbers apart as makedev(3) puts them together', () => {
    expect(deviceNumbers(0xfe03n)).toEqual({ major: 254n, minor: 3n })
    expect(deviceNumbers(0x12000abc345den)).toEqual({ major: 0x12345n, minor: 0xabcden })
  })
})

describe.runIf(process.platform === 'linux')('space', () => {
  async function filled(): Promise<FileClient> {
    const fd = openSync(path, 'w')
    writeSync(fd, Buffer.alloc(4 * MiB, 0x77))
    closeSync(fd)
    return new FileClient((await open(path)).stream)
  }

  it('is given back by TRIM, and the range reads as zeroes', async () => {
    const client = await filled()
    await client.ask({ type: Cmd.FLUSH })
    const before = usedBytes()
    expect((await client.ask({ type: Cmd.TRIM, offset: MiB, length: 2 * MiB })).error).toBe(0)
    expect(before - usedBytes()).toBe(2 * MiB)
    expect(statSync(path).size).toBe(4 * MiB)
    const expected = Buffer.alloc(4 * MiB, 0x77).fill(0, MiB, 3 * MiB)
    expect(readFileSync(path).equals(expected)).toBe(true)
  })

  it('is given back by WRITE_ZEROES', async () => {
    const client = await filled()
    await client.ask({ type: Cmd.FLUSH })
    const before = usedBytes()
    const flags = CmdFlag.FAST_ZERO
    expect((await client.ask({ type: Cmd.WRITE_ZEROES, offset: 0, length: MiB, flags })).error).toBe(0)
    expect(before - usedBytes()).toBe(MiB)
  })

  it('is kept by WRITE_ZEROES with NO_HOLE, and taken where there was a hole', async () => {
    writeFileSync(path, '')
    truncateSync(path, 4 * MiB)
    const client = new FileClient((await open(path)).stream)
    const flags = CmdFlag.NO_HOLE | CmdFlag.FUA
    expect((await client.ask({ type: Cmd.WRITE_ZEROES, offset: MiB, length: MiB, flags })).error).toBe(0)
    expect(usedBytes()).toBeGreaterThanOrEqual(MiB)
    expect(readFileSync(path).equals(Buffer.alloc(4 * MiB))).toBe(true)
  })

  it('is addressed exactly beyond 4 GiB', async () => {
    writeFileSync(path, '')
    truncateSync(path, 9 * 2 ** 30)
    const upstream = await open(path)
    expect(upstream.sizeBytes).toBe(9n * 2n ** 30n)
    const client = new FileClient(upstream.stream)
    const marks = [0, 2 ** 32 - 8, 2 ** 32, 2 ** 33 - 9, 2 ** 33, 9 * 2 ** 30 - 8]
    const payloads = marks.map(mark => Buffer.from(`@${mark.toString(36)}`.padEnd(8)))
    for (const [i, offset] of marks.entries())
      await client.ask({ type: Cmd.WRITE, offset, payload: payloads[i] ?? Buffer.alloc(0) })
    const fd = openSync(path, 'r')
    onTestFinished(() => closeSync(fd))
    for (const [i, offset] of marks.entries()) {
      const bytes = Buffer.alloc(8)
      readSync(fd, bytes, 0, 8, offset)
      expect(bytes).toEqual(payloads[i])
      expect((await client.ask({ type: Cmd.READ, offset, length: 8 })).data).toEqual(payloads[i])
    }
    // Longer than a signed 32-bit number: from the third mark to the fourth.
    expect((await client.ask({ type: Cmd.WRITE_ZEROES, offset: 2 ** 32, length: 2 ** 32 - 9 })).error).toBe(0)
    const left = await Promise.all(marks.map(offset => client.ask({ type: Cmd.READ, offset, length: 8 })))
    expect(left.map(({ data }) => data)).toEqual(payloads.map((payload, i) => (i === 2 ? Buffer.alloc(8) : payload)))
  })
})

describe.runIf(process.platform === 'linux' && process.getuid?.() === 0)('a block device', () => {
  it('has its size and is read, written and trimmed', async context => {
    writeFileSync(path, Buffer.alloc(4 * MiB, 0x33))
    let device = ''
    try {
      device = execFileSync('losetup', ['--find', '--show', path], { encoding: 'utf8', stdio: 'pipe' }).trim()
    } catch {
      context.skip('no loop device can be had here')
    }
    onTestFinished(() => void execFileSync('losetup', ['--detach', device]))
    const upstream = await openFile(device, { readOnly: false })
    expect(upstream.sizeBytes).toBe(BigInt(4 * MiB))
    const client = new FileClient(upstream.stream)
    expect((await client.ask({ type: Cmd.WRITE, offset: 5, payload: Buffer.from('block') })).error).toBe(0)
    expect((await client.ask({ type: Cmd.TRIM, offset: MiB, length: MiB })).error).toBe(0)
    // Not whole sectors: the device can not, so zeroes are written.
    expect((await client.ask({ type: Cmd.WRITE_ZEROES, offset: 3 * MiB + 1, length: 1000 })).error).toBe(0)
    expect((await client.ask({ type: Cmd.FLUSH })).error).toBe(0)
    const expected = Buffer.alloc(4 * MiB, 0x33)
      .fill(0, MiB, 2 * MiB)
      .fill(0, 3 * MiB + 1, 3 * MiB + 1001)
    expected.write('block', 5)
    const { data } = await client.ask({ type: Cmd.READ, length: 4 * MiB })
    expect(data.equals(expected)).toBe(true)
    await closeStream(upstream.stream)
  })
})
