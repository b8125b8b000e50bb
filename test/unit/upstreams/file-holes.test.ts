/** READs of a file that are answered by chunks: one for each stretch of data, and for each hole. */
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, truncateSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openFile } from '../../../src/upstreams/file.ts'
import { hex } from '../../support/bytes.ts'
import { closeStream } from './file-client.ts'

const KiB = 1024
const [READ, TRIM, FLUSH] = [0, 4, 3]
const DF = 4
const [DATA, HOLE, ERROR] = [1, 2, 0x8001]
const SIZE = 1024 * KiB

interface Chunk {
  readonly type: number
  readonly isLast: boolean
  readonly offset: number
  /** Of data; for a hole how long it is, for an error its value. */
  readonly data: Buffer
  readonly value: number
}

let folder = ''
let path = ''
let stream: Duplex | undefined

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'nbdgate-holes-'))
  path = join(folder, 'disk')
})
afterEach(async () => {
  if (stream !== undefined) await closeStream(stream)
  stream = undefined
  rmSync(folder, { recursive: true })
})

/** A file of 1 MiB with data at these places, 64 KiB each, and nothing elsewhere. */
async function serve(
  ...places: readonly number[]
): Promise<(type: number, at: number, length: number, flags?: number) => Promise<Chunk[]>> {
  const fd = openSync(path, 'w')
  ftruncateSync(fd, SIZE)
  for (const at of places) writeSync(fd, Buffer.alloc(64 * KiB, 1 + at / KiB / 64), 0, 64 * KiB, at)
  closeSync(fd)
  const opened = (await openFile(path, { readOnly: false, structured: true })).stream
  stream = opened
  let bytes: Buffer = Buffer.alloc(0)
  let wake = (): void => {}
  opened.on('data', (chunk: Buffer) => {
    bytes = Buffer.concat([bytes, chunk])
    wake()
  })
  const take = async (count: number): Promise<Buffer> => {
    while (bytes.length < count) await new Promise<void>(resolve => (wake = resolve))
    const taken = bytes.subarray(0, count)
    bytes = bytes.subarray(count)
    return taken
  }
  return async (type, at, length, flags = 0) => {
    const head = Buffer.alloc(28)
    head.writeUInt32BE(0x25609513, 0)
    head.writeUInt16BE(flags, 4)
    head.writeUInt16BE(type, 6)
    head.writeBigUInt64BE(7n, 8)
    head.writeBigUInt64BE(BigInt(at), 16)
    head.writeUInt32BE(length, 24)
    opened.write(head)
    if (type !== READ) {
      expect(await take(16)).toEqual(hex('67446698 00000000 0000000000000007'))
      return []
    }
    const chunks: Chunk[] = []
    for (;;) {
      const chunk = await take(20)
      expect([chunk.readUInt32BE(0), chunk.readBigUInt64BE(8)]).toEqual([0x668e33ef, 7n])
      const payload = await take(chunk.readUInt32BE(16))
      const kind = chunk.readUInt16BE(6)
      const isLast = (chunk.readUInt16BE(4) & 1) !== 0
      if (kind === ERROR)
        chunks.push({ type: kind, isLast, offset: 0, data: Buffer.alloc(0), value: payload.readUInt32BE(0) })
      else {
        const data = kind === DATA ? payload.subarray(8) : Buffer.alloc(0)
        const value = kind === HOLE ? payload.readUInt32BE(8) : data.length
        chunks.push({ type: kind, isLast, offset: Number(payload.readBigUInt64BE(0)), data, value })
      }
      if (isLast) return chunks
    }
  }
}

const shape = (chunks: readonly Chunk[]) => chunks.map(({ type, offset, value }) => [type, offset / KiB, value / KiB])
/** What a client has in the end. */
function bytesOf(chunks: readonly Chunk[], at: number, length: number): Buffer {
  const whole = Buffer.alloc(length)
  for (const { offset, data } of chunks) data.copy(whole, offset - at)
  return whole
}
function expected(at: number, length: number, ...places: readonly number[]): Buffer {
  const file = Buffer.alloc(SIZE)
  for (const place of places) file.fill(1 + place / KiB / 64, place, place + 64 * KiB)
  return file.subarray(at, at + length)
}

describe('a READ of a file with holes', () => {
  it('has a chunk for each hole, and for each stretch of data', async () => {
    const places = [128 * KiB, 512 * KiB]
    const ask = await serve(...places)
    const chunks = await ask(READ, 0, SIZE)
    expect(shape(chunks)).toEqual([
      [HOLE, 0, 128],
      [DATA, 128, 64],
      [HOLE, 192, 320],
      [DATA, 512, 64],
      [HOLE, 576, 448],
    ])
    expect(bytesOf(chunks, 0, SIZE).compare(expected(0, SIZE, ...places))).toBe(0)
    const cut = await ask(READ, 130 * KiB, 200 * KiB)
    expect(shape(cut)).toEqual([
      [DATA, 130, 62],
      [HOLE, 192, 138],
    ])
    expect(bytesOf(cut, 130 * KiB, 200 * KiB).compare(expected(130 * KiB, 200 * KiB, ...places))).toBe(0)
    expect(shape(await ask(READ, 640 * KiB, 256 * KiB))).toEqual([[HOLE, 640, 256]])
  })

  it('has one chunk with DF, and where it is short', async () => {
    const ask = await serve(128 * KiB)
    expect(shape(await ask(READ, 0, 256 * KiB, DF))).toEqual([[DATA, 0, 256]])
    expect(shape(await ask(READ, 0, 32 * KiB))).toEqual([[DATA, 0, 32]])
  })

  it('tells of holes that have come since by data at most, and of data that have come always', async () => {
    const ask = await serve(0, 64 * KiB, 128 * KiB)
    expect(shape(await ask(READ, 0, 192 * KiB))).toEqual([[DATA, 0, 192]])
    await ask(TRIM, 64 * KiB, 64 * KiB)
    const chunks = await ask(READ, 0, 192 * KiB)
    expect(bytesOf(chunks, 0, 192 * KiB).compare(expected(0, 192 * KiB, 0, 128 * KiB))).toBe(0)
    expect(shape(await ask(READ, 512 * KiB, 64 * KiB))).toEqual([[HOLE, 512, 64]])
    const fd = openSync(path, 'r+')
    writeSync(fd, Buffer.alloc(64 * KiB, 9), 0, 64 * KiB, 512 * KiB)
    closeSync(fd)
    const now = await ask(READ, 512 * KiB, 64 * KiB)
    expect(shape(now)).toEqual([[DATA, 512, 64]])
    expect(now[0]?.data.every(byte => byte === 9)).toBe(true)
    await ask(FLUSH, 0, 0)
  })

  it('fails by a chunk, also where the file was cut short', async () => {
    const ask = await serve(0)
    expect(await ask(READ, SIZE, 64 * KiB)).toMatchObject([{ type: ERROR, isLast: true, value: 22 }])
    truncateSync(path, 100 * KiB)
    expect(await ask(READ, 0, 256 * KiB)).toMatchObject([{ type: ERROR, isLast: true, value: 5 }])
    expect(await ask(READ, 512 * KiB, 128 * KiB)).toMatchObject([{ type: ERROR, isLast: true, value: 5 }])
  })
})
