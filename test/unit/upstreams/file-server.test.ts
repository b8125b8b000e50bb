import { once } from 'node:events'
import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Cmd, CmdFlag, Err } from '../../../src/protocol/constants.ts'
import { openFile } from '../../../src/upstreams/file.ts'
import { closeStream, descriptorsOf, FileClient } from './file-client.ts'

/** Lets a test look at and hold back what happens to the file. */
const watch = vi.hoisted(() => ({ reads: 0, held: [] as (() => void)[], hold: false, syncs: 0 }))
vi.mock(import('node:fs'), async original => {
  const fs = await original()
  const read = (...args: Parameters<typeof fs.read>): void => {
    watch.reads++
    fs.read(...args)
  }
  const fdatasync = (fd: number, done: (error: NodeJS.ErrnoException | null) => void): void => {
    watch.syncs++
    if (watch.hold) watch.held.push(() => fs.fdatasync(fd, done))
    else fs.fdatasync(fd, done)
  }
  return { ...fs, read, fdatasync } as typeof fs
})

const MiB = 1024 * 1024
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex')
let folder = ''
let path = ''
let stream: Duplex | undefined

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'nbdgate-file-'))
  path = join(folder, 'disk')
  Object.assign(watch, { reads: 0, held: [], hold: false, syncs: 0 })
})
afterEach(async () => {
  letGo()
  if (stream !== undefined) await closeStream(stream)
  stream = undefined
  rmSync(folder, { recursive: true })
})

/** Lets all held operations, and those to come, go on. */
function letGo(): void {
  watch.hold = false
  for (const release of watch.held.splice(0)) release()
}

/** A server for a file with this content, or for zeroes. */
async function serve(content: Buffer | number, readOnly = false): Promise<Duplex> {
  writeFileSync(path, typeof content === 'number' ? Buffer.alloc(content) : content)
  stream = (await openFile(path, { readOnly })).stream
  return stream
}

/** All that a stream says until it ends. */
async function everythingFrom(source: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = []
  source.on('data', (chunk: Buffer) => chunks.push(chunk))
  await once(source, 'end')
  return Buffer.concat(chunks)
}

describe('a conversation', () => {
  /** READ of 4 at 2, WRITE of 3 at 10, FLUSH, READ beyond the end, DISC. */
  const asked =
    '25609513 0000 0000 a000000000000001 0000000000000002 00000004' +
    '25609513 0000 0001 a000000000000002 000000000000000a 00000003 585958' +
    '25609513 0000 0003 a000000000000003 0000000000000000 00000000' +
    '25609513 0000 0000 a000000000000004 000000000000000d 00000004' +
    '25609513 0000 0002 a000000000000005 0000000000000000 00000000'
  const answered = [
    '67446698 00000000 a000000000000001 63646566',
    '67446698 00000000 a000000000000002',
    '67446698 00000000 a000000000000003',
    '67446698 00000016 a000000000000004',
  ]
  const content = Buffer.from('abcdefghijklmnop')

  async function converse(chunks: readonly Buffer[]): Promise<void> {
    const server = await serve(content)
    const everything = everythingFrom(server)
    for (const chunk of chunks) server.write(chunk)
    const said = (await everything).toString('hex')
    // The order is that in which things were done.
    const sorted = answered.map(answer => answer.replaceAll(' ', '')).sort((a, b) => said.indexOf(a) - said.indexOf(b))
    expect(said).toBe(sorted.join(''))
    expect(readFileSync(path, 'latin1')).toBe('abcdefghijXYXnop')
  }

  it('goes the same way wherever it is cut in two', async () => {
    const size = hex(asked).length
    for (let at = 0; at <= size; at++) await converse([hex(asked).subarray(0, at), hex(asked).subarray(at)])
  })

  it('goes the same way byte by byte', async () => {
    await converse(Array.from(hex(asked), byte => Buffer.from([byte])))
  })

  it('ends with DISC and whatever follows it is dropped', async () => {
    await converse([Buffer.concat([hex(asked), Buffer.alloc(100, 0xff)]), Buffer.alloc(100, 0xff)])
  })

  it('ends in order when the other side just ends between two requests', async () => {
    const server = await serve(content)
    const everything = everythingFrom(server)
    server.end(hex(asked).subarray(0, 28))
    expect((await everything).toString('hex')).toBe('67446698 00000000 a000000000000001 63646566'.replaceAll(' ', ''))
    await once(server, 'close')
    expect(server.errored).toBeNull()
  })

  it.each([
    ['a wrong magic', '25609514 0000 0000 a000000000000001 0000000000000002 00000004', 'BAD_MAGIC'],
    ['a WRITE above 128 MiB', '25609513 0000 0001 a000000000000001 0000000000000002 08000001', 'TOO_LONG'],
    ['the end in a head', '25609513 0000', 'TRUNCATED'],
    ['the end in a payload', '25609513 0000 0001 a000000000000001 0000000000000002 00000004 4142', 'TRUNCATED'],
  ])('is broken off by %s', async (_title, bytes, code) => {
    const server = await serve(content)
    server.end(hex(bytes))
    await expect(once(server, 'close')).rejects.toMatchObject({ name: 'ProtocolError', code })
    if (!server.closed) await once(server, 'close')
    expect(descriptorsOf(path)).toBe(0)
    expect(readFileSync(path).equals(content)).toBe(true)
  })
})

describe('requests', () => {
  it.each([
    ['READ beyond the end', { type: Cmd.READ, offset: 4090, length: 7 }, Err.INVAL],
    ['WRITE beyond the end', { type: Cmd.WRITE, offset: 4090, payload: Buffer.alloc(7) }, Err.NOSPC],
    ['WRITE_ZEROES beyond the end', { type: Cmd.WRITE_ZEROES, offset: 4090, length: 7 }, Err.NOSPC],
    ['TRIM beyond the end', { type: Cmd.TRIM, offset: 4090, length: 7 }, Err.INVAL],
    ['READ that would wrap', { type: Cmd.READ, offset: 2 ** 52, length: 0xffff_ffff }, Err.INVAL],
    ['READ above 32 MiB', { type: Cmd.READ, length: 32 * MiB + 1 }, Err.INVAL],
    ['READ with DF', { type: Cmd.READ, length: 1, flags: CmdFlag.DF }, Err.INVAL],
    ['CACHE', { type: Cmd.CACHE, length: 1 }, Err.INVAL],
    ['BLOCK_STATUS', { type: Cmd.BLOCK_STATUS, length: 1 }, Err.INVAL],
  ])('refuses %s and goes on', async (_title, ask, error) => {
    const client = new FileClient(await serve(4096))
    expect((await client.ask(ask)).error).toBe(error)
    expect(await client.ask({ type: Cmd.READ, length: 2 })).toEqual({ error: 0, data: Buffer.alloc(2) })
    expect(readFileSync(path).length).toBe(4096)
  })

  it('refuses every change of a file that is served read-only, and reads on', async () => {
    const content = Buffer.from('unchanged')
    const client = new FileClient(await serve(content, true))
    expect((await client.ask({ type: Cmd.WRITE, payload: Buffer.from('changed') })).error).toBe(Err.PERM)
    expect((await client.ask({ type: Cmd.TRIM, length: 9 })).error).toBe(Err.PERM)
    expect((await client.ask({ type: Cmd.WRITE_ZEROES, length: 9 })).error).toBe(Err.PERM)
    expect((await client.ask({ type: Cmd.FLUSH })).error).toBe(Err.NONE)
    expect((await client.ask({ type: Cmd.READ, length: 9 })).data).toEqual(content)
    expect(readFileSync(path)).toEqual(content)
  })

  it('answers a WRITE with FUA, a FLUSH and a TRIM with FUA only after fdatasync, and READs meanwhile', async () => {
    const client = new FileClient(await serve(4096))
    watch.hold = true
    const answers: string[] = []
    const held = [
      client
        .ask({ type: Cmd.WRITE, flags: CmdFlag.FUA, payload: Buffer.from('fua') })
        .then(() => answers.push('write')),
      client.ask({ type: Cmd.FLUSH }).then(() => answers.push('flush')),
      client.ask({ type: Cmd.TRIM, flags: CmdFlag.FUA, offset: 1024, length: 1 }).then(() => answers.push('trim')),
    ]
    await vi.waitFor(() => expect(watch.held.length).toBe(3))
    expect((await client.ask({ type: Cmd.READ, length: 3 })).data.toString()).toBe('fua')
    expect(answers).toEqual([])
    letGo()
    await Promise.all(held)
    expect(answers.toSorted()).toEqual(['flush', 'trim', 'write'])
  })

  it('does not sync a WRITE without FUA', async () => {
    const client = new FileClient(await serve(4096))
    await client.ask({ type: Cmd.WRITE, payload: Buffer.from('plain') })
    expect(watch.syncs).toBe(0)
  })

  it('keeps many mixed reads and writes apart', async () => {
    const slots = 64
    const slotBytes = 6000
    const client = new FileClient(await serve(slots * slotBytes))
    const model = Buffer.alloc(slots * slotBytes)
    let seed = 42
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff
      return (seed >>> 8) % below
    }
    // Within a slot one after another, so that the outcome is known; all slots at once.
    const useSlot = async (slot: number): Promise<void> => {
      for (let turn = 0; turn < 25; turn++) {
        const start = slot * slotBytes + random(slotBytes - 1)
        const end = start + 1 + random((slot + 1) * slotBytes - start)
        const kind = random(4)
        if (kind < 2) {
          const payload = model.fill(random(256), start, end).subarray(start, end)
          expect((await client.ask({ type: Cmd.WRITE, offset: start, payload })).error).toBe(0)
        } else if (kind === 2) {
          model.fill(0, start, end)
          const ask = { type: Cmd.WRITE_ZEROES, offset: start, length: end - start, flags: random(2) * CmdFlag.NO_HOLE }
          expect((await client.ask(ask)).error).toBe(0)
        } else {
          const { data } = await client.ask({ type: Cmd.READ, offset: start, length: end - start })
          expect(data.equals(model.subarray(start, end))).toBe(true)
        }
      }
    }
    await Promise.all(Array.from({ length: slots }, (_, slot) => useSlot(slot)))
    expect(readFileSync(path).equals(model)).toBe(true)
  })
})

describe('back-pressure', () => {
  /** READs of 1 MiB, one after another. */
  const reads = (count: number): Buffer =>
    Buffer.concat(
      Array.from({ length: count }, () => hex('25609513 0000 0000 a000000000000001 0000000000000000 00100000')),
    )

  it('begins no further READ while nobody reads the answers, and all of them later', async () => {
    const server = await serve(MiB)
    let taken = false
    server.write(reads(100), () => {
      taken = true
    })
    const full = 16 * (MiB + 16)
    await vi.waitFor(() => expect(server.readableLength).toBe(full))
    expect({ reads: watch.reads, taken }).toEqual({ reads: 16, taken: false })

    let received = 0
    server.on('data', (chunk: Buffer) => {
      received += chunk.length
    })
    await vi.waitFor(() => expect(received).toBe(100 * (MiB + 16)))
    expect({ reads: watch.reads, taken }).toEqual({ reads: 100, taken: true })
  })

  it('keeps the answers of requests without payload within bounds too', async () => {
    const server = await serve(4096)
    watch.hold = true
    server.write(
      Buffer.concat(
        Array.from({ length: 1000 }, () => hex('25609513 0000 0003 a000000000000001 0000000000000000 00000000')),
      ),
    )
    expect(watch.held.length).toBe(256)
    letGo()
    await vi.waitFor(() => expect(watch.syncs).toBe(1000))
  })
})

describe('the descriptor', () => {
  it('is closed when the stream is destroyed in the middle of reads, and not before they are done', async () => {
    const server = await serve(8 * MiB)
    server.resume()
    const head = hex('25609513 0000 0000 a000000000000001 0000000000000000 00800000')
    server.write(Buffer.concat([head, head, head, head]))
    expect(watch.reads).toBe(2)
    expect(descriptorsOf(path)).toBe(1)
    server.destroy()
    expect(descriptorsOf(path)).toBe(1)
    await once(server, 'close')
    expect(descriptorsOf(path)).toBe(0)
  })

  it('stays open for an operation that takes long', async () => {
    const server = await serve(4096)
    watch.hold = true
    server.write(hex('25609513 0000 0003 a000000000000001 0000000000000000 00000000'))
    server.destroy()
    await new Promise(resolve => setImmediate(resolve))
    expect({ open: descriptorsOf(path), closed: server.closed }).toEqual({ open: 1, closed: false })
    const closed = once(server, 'close')
    letGo()
    await closed
    expect(descriptorsOf(path)).toBe(0)
  })

  it('is closed after DISC even if nobody reads the end, and closed once', async () => {
    const server = await serve(4096)
    server.write(hex('25609513 0000 0002 a000000000000001 0000000000000000 00000000'))
    await vi.waitFor(() => expect(descriptorsOf(path)).toBe(0))
    // Another file takes the number: it must stay open.
    const other = openSync(path, 'r')
    server.destroy()
    await once(server, 'close')
    expect(fstatSync(other).size).toBe(4096)
    expect(readSync(other, Buffer.alloc(1))).toBe(1)
    closeSync(other)
    expect(server.errored).toBeNull()
  })

  it('tells whoever writes that the stream was destroyed', async () => {
    const server = await serve(MiB)
    const written = new Promise<unknown>(resolve => {
      server.write(
        Buffer.concat(
          Array.from({ length: 40 }, () => hex('25609513 0000 0000 a000000000000001 0000000000000000 00100000')),
        ),
        resolve,
      )
    })
    const reason = new Error('the visitor is gone')
    server.on('error', () => {})
    server.destroy(reason)
    expect(await written).toBe(reason)
  })
})
