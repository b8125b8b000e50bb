// What a TLS socket writes at once decides how much memory Node keeps for it until it closes.
import { afterEach, expect, it } from 'vitest'
import { startSlowly } from '../../../src/stream/slow-start.ts'
import { type SocketPair, tlsPair } from '../../support/socket-pairs.ts'

const KIB = 1024
const MIB = 1024 * KIB

const sumOf = (sizes: number[]): number => sizes.reduce((sum, size) => sum + size, 0)

let pair: SocketPair | undefined

afterEach(() => {
  pair?.near.destroy()
  pair?.far.destroy()
})

/** A TLS socket that starts slowly, and the sizes of what it then enciphers at once. */
async function slowly() {
  const { near, far } = await tlsPair()
  pair = { near, far }
  const sizes: number[] = []
  const { _write, _writev } = near
  near._write = (chunk, encoding, done) => {
    sizes.push(chunk.length)
    _write.call(near, chunk, encoding, done)
  }
  near._writev = (chunks, done) => {
    sizes.push(sumOf(chunks.map(({ chunk }) => chunk.length)))
    _writev?.call(near, chunks, done)
  }
  startSlowly(near)
  return { near, far, sizes }
}

async function arrived(from: SocketPair['far'], bytes: number): Promise<Buffer> {
  const parts: Buffer[] = []
  let left = bytes
  for await (const part of from.iterator({ destroyOnReturn: false })) {
    parts.push(part)
    left -= part.length
    if (left <= 0) break
  }
  return Buffer.concat(parts)
}

/** Bytes of which no two neighbourhoods are the same. */
function pattern(bytes: number): Buffer {
  const made = Buffer.alloc(bytes)
  for (let at = 0; at + 4 <= bytes; at += 4) made.writeUInt32LE(Math.imul(at, 0x9e3779b1) >>> 0, at)
  return made
}

it('enciphers less than 16 KiB at once until a MiB has been written, then all there is; every byte arrives in order', async () => {
  const { near, far, sizes } = await slowly()
  const bytes = pattern(4 * MIB)
  const whole = arrived(far, bytes.length)
  let acknowledged = 0
  // Alone, corked and behind one that has not left yet: heads and payloads as the relay writes them.
  for (let begin = 0; begin < bytes.length; begin += 256 * KIB) {
    near.cork()
    near.write(bytes.subarray(begin, begin + 16), () => acknowledged++)
    near.write(bytes.subarray(begin + 16, begin + 100 * KIB), () => acknowledged++)
    near.uncork()
    await new Promise<void>(resolve => {
      near.write(bytes.subarray(begin + 100 * KIB, begin + 256 * KIB), () => resolve())
    })
  }
  expect((await whole).equals(bytes)).toBe(true)
  expect(acknowledged).toBe(32)
  const grown = sizes.findIndex((_size, index) => sumOf(sizes.slice(0, index + 1)) > MIB)
  expect(Math.max(...sizes.slice(0, grown))).toBe(16_383)
  expect(Math.max(...sizes.slice(grown))).toBe(156 * KIB)
})

it('leaves what is small as it was: one write for all that was corked', async () => {
  const { near, far, sizes } = await slowly()
  const whole = arrived(far, 4112)
  near.cork()
  near.write(Buffer.alloc(16))
  near.write(Buffer.alloc(4096))
  near.uncork()
  await whole
  expect(sizes).toEqual([4112])
})

it('says that a write is over when the socket is destroyed between two pieces', async () => {
  const { near, sizes } = await slowly()
  near.on('error', () => {})
  const over = new Promise<unknown>(resolve => {
    near.write(Buffer.alloc(512 * KIB), resolve)
  })
  near.destroy()
  expect(await over).toBeInstanceOf(Error)
  expect(sizes.length).toBeLessThan(8)
})
