// The memory that an SSH connection is read into: parts of it are with channels while the next packets come. Without ssh2's
// compiled cipher, which is built for one version of Node, packets are not deciphered in place, and each has memory of its own.
import { once } from 'node:events'
import { describe, expect, onTestFinished, test } from 'vitest'
import { SshReader } from '../../../src/doors/ssh-reader.ts'
import { isNative } from '../../../src/doors/ssh2.ts'
import { MEDIUM_BYTES } from '../../../src/stream/buffer-pool.ts'
import type { ByteStream } from '../../../src/stream/byte-stream.ts'
import { nextTurn } from '../../support/bytes.ts'
import { seededBytes } from '../../support/disk.ts'
import { tcpPair } from '../../support/socket-pairs.ts'
import { waitFor } from '../../support/wait.ts'
import { login, openChannel, openDoor, type TestClient } from './ssh-visit.ts'

const KIB = 1024
const PACKET_BYTES = 32 * KIB

/** A visitor whose data is kept in pieces, as they came, until `giveBack`. */
async function visit() {
  const door = await openDoor()
  const client = await login(door)
  const { theirs } = await openChannel(client)
  await waitFor('a visitor', () => door.visitors[0] !== undefined)
  const stream = door.visitors[0]?.stream as ByteStream
  const pieces: Buffer[] = []
  stream.start({ data: chunk => void pieces.push(chunk), ended: () => {}, closed: () => {}, drained: () => {} })
  const arrived = async (bytes: number): Promise<Buffer> => {
    const sum = (): number => pieces.reduce((all, { length }) => all + length, 0)
    await waitFor(`${bytes} bytes`, () => sum() >= bytes)
    return Buffer.concat(pieces)
  }
  const giveBack = (): Buffer[] => {
    const given = pieces.splice(0)
    for (const piece of given) stream.release(piece)
    return given
  }
  return {
    client,
    stream,
    pieces,
    arrived,
    giveBack,
    send: (bytes: Buffer) => client.protocol.channelData(theirs, bytes),
  }
}

/** Holds back what the client writes from now on, and sends it in pieces that `next` gives the sizes of. */
function cut({ socket }: TestClient): (next: () => number) => Promise<void> {
  const write = socket.write.bind(socket)
  const held: Buffer[] = []
  socket.write = (bytes: string | Uint8Array) => held.push(Buffer.from(bytes as Uint8Array)) > 0
  return async next => {
    socket.write = write
    const bytes = Buffer.concat(held)
    for (let at = 0; at < bytes.length; ) {
      const size = next()
      await new Promise(resolve => socket.write(bytes.subarray(at, at + size), resolve))
      // So that each piece is a read of its own, most of the time.
      await nextTurn()
      at += size
    }
  }
}

describe('what an SSH connection reads', () => {
  for (const [name, sizes] of [
    ['of a few bytes', [1, 2, 3, 5, 17]],
    ['that end within lengths, tags and packets', [20_000, 3, 12_816, 1, 32_000, 15, 4]],
    ['larger than its buffers', [200_000, 1000]],
  ] as const) {
    test(`is what was sent, in pieces ${name}, while all of it is kept`, async () => {
      const { client, send, arrived } = await visit()
      const bytes = seededBytes(1, name === 'of a few bytes' ? 10 * KIB : 1024 * KIB)
      const release = cut(client)
      for (let at = 0; at < bytes.length; ) {
        // Requests between payloads.
        const size = at % 3 === 0 ? 28 : PACKET_BYTES
        send(bytes.subarray(at, at + size))
        at += size
      }
      let index = 0
      await release(() => sizes[index++ % sizes.length] ?? 1)
      expect((await arrived(bytes.length)).equals(bytes)).toBe(true)
    })
  }

  test('is read into memory that was given back, and into no other', async () => {
    const { send, arrived, giveBack, pieces } = await visit()
    const bytes = seededBytes(2, 512 * KIB)
    const sendAll = async (): Promise<void> => {
      for (let at = 0; at < bytes.length; at += PACKET_BYTES) send(bytes.subarray(at, at + PACKET_BYTES))
      expect((await arrived(bytes.length)).equals(bytes)).toBe(true)
    }
    await sendAll()
    const first = new Set(pieces.map(({ buffer }) => buffer))
    const kept = pieces.splice(0)
    await sendAll()
    expect(pieces.filter(({ buffer }) => first.has(buffer))).toEqual([])
    expect(Buffer.concat(kept).equals(bytes)).toBe(true)
    const given = new Set(giveBack().map(({ buffer }) => buffer))
    await sendAll()
    const again = pieces.filter(({ buffer }) => given.has(buffer))
    expect(again.length > pieces.length / 2).toBe(isNative())
    expect(pieces.every(({ buffer }) => buffer.byteLength === MEDIUM_BYTES || !given.has(buffer))).toBe(true)
    expect(Buffer.concat(kept).equals(bytes)).toBe(true)
  })

  test('is not used again before the last part of it was given back, and each counts once', async () => {
    const { send, arrived, pieces, stream } = await visit()
    const bytes = seededBytes(3, 512 * KIB)
    const sendAll = async (): Promise<void> => {
      for (let at = 0; at < bytes.length; at += 8 * KIB) send(bytes.subarray(at, at + 8 * KIB))
      await arrived(bytes.length)
    }
    await sendAll()
    const all = pieces.splice(0)
    // Of each buffer one part stays; the others are given back as often as there are parts.
    const stays = new Map(all.map(piece => [piece.buffer, piece]))
    for (const piece of all) {
      for (let time = 0; time < 20; time++) if (stays.get(piece.buffer) !== piece) stream.release(piece)
    }
    const before = [...stays.values()].map(piece => Buffer.from(piece))
    for (let time = 0; time < 3; time++) {
      await sendAll()
      for (const piece of pieces.splice(0)) stream.release(piece)
    }
    expect([...stays.values()].every((piece, at) => piece.equals(before[at] ?? piece.subarray(1)))).toBe(true)
    expect(all.length > stays.size).toBe(isNative())
  })

  test('keeps requests apart from payloads: they are copies', async () => {
    const { send, arrived, pieces } = await visit()
    for (let n = 0; n < 100; n++) send(seededBytes(n, 28))
    await arrived(2800)
    expect(pieces.every(({ buffer }) => buffer.byteLength <= 8 * KIB)).toBe(true)
  })

  test('goes on across changes of keys, on both sides', async () => {
    const { client, send, arrived, giveBack } = await visit()
    const bytes = seededBytes(4, 256 * KIB)
    for (let round = 0; round < 6; round++) {
      if (round % 2 === 0) client.protocol.rekey()
      for (let at = 0; at < bytes.length; at += PACKET_BYTES) send(bytes.subarray(at, at + PACKET_BYTES))
      expect((await arrived(bytes.length)).equals(bytes)).toBe(true)
      giveBack()
    }
  })

  test('comes as ever where ssh2 is not as it is known', async () => {
    const { near, far } = await tcpPair()
    onTestFinished(() => {
      near.destroy()
      far.destroy()
    })
    const reader = new SshReader(near, Object.create(null))
    near.resume()
    const [came] = await Promise.all([once(near, 'data'), new Promise(resolve => far.write('anything', resolve))])
    expect(String(came[0])).toBe('anything')
    const data = Buffer.alloc(PACKET_BYTES)
    expect(reader.keep(data)).toBe(data)
  })
})
