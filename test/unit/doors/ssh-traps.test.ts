// What ssh2 1.17.0 lets a client do to a server, and the SSH door does not: each of these fails without its guard.
import { EventEmitter, once } from 'node:events'
import { createRequire } from 'node:module'
import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { Visitor } from '../../../src/doors/door.ts'
import { isNative } from '../../../src/doors/ssh2.ts'
import type { ByteSink } from '../../../src/stream/byte-stream.ts'
import { nextTurn } from '../../support/bytes.ts'
import { waitFor } from '../../support/wait.ts'
import { begin, login, openChannel, openDoor, STRANGER, type TestDoor } from './ssh-visit.ts'

const MIB = 1024 * 1024

const visitorOf = async (door: TestDoor, at = 0): Promise<Visitor> => {
  await waitFor('a visitor', () => door.visitors[at] !== undefined)
  const visitor = door.visitors[at]
  if (visitor === undefined) throw new Error('unreachable')
  return visitor
}
/** A number when it has not changed for a while of polls. */
const settled = async (read: () => number): Promise<number> => {
  let [before, same] = [read(), 0]
  await waitFor('a number that stays', () => {
    const now = read()
    same = now === before ? same + 1 : 0
    before = now
    return same > 30
  })
  return before
}
const sink = (more: Partial<ByteSink> = {}): ByteSink => ({
  data: () => {},
  ended: () => {},
  closed: () => {},
  drained: () => {},
  ...more,
})

describe('a client that', () => {
  test('takes packets of 0 bytes gets no channel: ssh2 would write without end', async () => {
    const door = await openDoor()
    const client = await login(door)
    await expect(openChannel(client, { packetBytes: 0 })).rejects.toThrow(/packets that small/)
    await expect(openChannel(client, { packetBytes: 1023 })).rejects.toThrow(/packets that small/)
    await openChannel(client, { packetBytes: 1024 })
    expect(door.visitors).toHaveLength(1)
  })

  test('sends more than its window is cut off, and what it sent is not kept', async () => {
    const door = await openDoor()
    const client = await login(door)
    const { theirs } = await openChannel(client)
    await visitorOf(door)
    for (let sent = 0; sent <= 2 * MIB; sent += 32 * 1024) client.protocol.channelData(theirs, Buffer.alloc(32 * 1024))
    await client.closed
    expect(await door.logged('ssh ended')).toMatchObject({ level: 'warn', reason: 'more data than its window' })
  })

  test('sends all of its window, and no more before it is read, is served', async () => {
    const door = await openDoor()
    const client = await login(door)
    const { theirs } = await openChannel(client)
    const { stream } = await visitorOf(door)
    for (let sent = 0; sent < 2 * MIB; sent += 32 * 1024) client.protocol.channelData(theirs, Buffer.alloc(32 * 1024))
    let received = 0
    const data = (chunk: Buffer): void => {
      received += chunk.length
    }
    stream.start(sink({ data }))
    await waitFor('all of it', () => received === 2 * MIB)
    for (let sent = 0; sent < MIB; sent += 32 * 1024) client.protocol.channelData(theirs, Buffer.alloc(32 * 1024))
    await waitFor('more', () => received === 3 * MIB)
  })

  for (const how of ['does not read', 'begins a key exchange and does not end it'] as const) {
    test(`${how}, with a window of 4 GiB, has next to nothing buffered for it`, async () => {
      const door = await openDoor()
      const client = await login(door)
      const { mine } = await openChannel(client, { window: 2 ** 32 - 1 })
      const { stream } = await visitorOf(door)
      let received = 0
      client.protocol._handlers.CHANNEL_DATA = (_, id, data) => {
        if (id === mine && Buffer.isBuffer(data)) received += data.length
      }
      client.socket.pause()
      if (how !== 'does not read') {
        client.protocol.rekey()
        await waitFor('the exchange to have begun', () => client.socket.writableLength === 0)
      }
      let sent = 0
      const piece = Buffer.alloc(MIB, 7)
      for (let i = 0; i < 64; i++) stream.write(piece, () => sent++)
      // The kernel takes some MiB of it, at both ends; the rest is still ours, by reference.
      await waitFor('the link to be full', () => sent > 0 || how !== 'does not read')
      expect(stream.unsentBytes).toBeGreaterThan(48 * MIB)
      client.socket.resume()
      await waitFor('all of it', () => received === 64 * MIB)
      expect(sent).toBe(64)
      expect(stream.unsentBytes).toBe(0)
    })
  }

  test('grants a window beyond 2^32 - 1 is cut off', async () => {
    const door = await openDoor()
    const client = await login(door)
    const { theirs } = await openChannel(client)
    client.protocol.channelWindowAdjust(theirs, 2 ** 32 - 1)
    await client.closed
    expect(await door.logged('ssh ended')).toMatchObject({ reason: 'a window larger than there are' })
  })

  test('asks and asks and takes no answers is not read any more', { timeout: 60_000 }, async () => {
    const door = await openDoor()
    const client = await login(door)
    client.protocol._handlers.REQUEST_FAILURE = () => {}
    client.socket.pause()
    // A few at a time: Node 24 does not take half a million buffers as one write.
    const queued = (): number => client.socket.writableLength
    for (let sent = 0; sent < 500_000 && queued() < 4 * MIB; sent += 500) {
      for (let i = 0; i < 500; i++) client.protocol.ping()
      await nextTurn()
    }
    expect(await settled(queued)).toBeGreaterThan(MIB)
    client.socket.destroy()
    await waitFor('its end', () => door.places() === 0)
  })

  test('goes on to ask for what is refused has 64 refusals', async () => {
    const door = await openDoor()
    const client = await login(door)
    for (let i = 0; i < 100; i++) client.protocol.tcpipForward('', 0, true)
    await client.closed
    expect(door.log.filter(({ message }) => message === 'ssh refused')).toHaveLength(64)
  })

  test('says nothing is cut off when the time for a login has passed', async () => {
    const door = await openDoor({ loginMs: 50 })
    const socket = connect({ host: '127.0.0.1', port: door.port })
    socket.resume()
    await once(socket, 'close')
    expect(await door.logged('ssh login failed')).toMatchObject({ reason: 'no login in time' })
    expect(door.places()).toBe(0)
  })

  test('speaks SSH and does not log in is cut off, too', async () => {
    const door = await openDoor({ loginMs: 300 })
    const client = begin(door, { authHandler: () => undefined })
    await client.closed
    expect(await door.logged('ssh login failed')).toMatchObject({ reason: 'no login in time' })
  })

  test('stays after its login is not', async () => {
    const door = await openDoor({ loginMs: 300 })
    const client = await login(door)
    await expect(once(client.socket, 'close', { signal: AbortSignal.timeout(600) })).rejects.toThrow()
    await openChannel(client)
  })

  test('tries key after key has six of them', async () => {
    const door = await openDoor()
    let tries = 0
    const authHandler = () => ({
      type: 'publickey' as const,
      username: 'bob',
      key: STRANGER.privateText,
      tries: tries++,
    })
    const client = begin(door, { authHandler: (_left, _partial, next) => next(authHandler()) })
    await client.closed
    expect(tries).toBe(6)
    expect(await door.logged('ssh login failed')).toMatchObject({
      user: 'bob',
      attempts: 6,
      reason: 'too many attempts, the last one an unknown key',
    })
  })

  test('tries a password is refused', async () => {
    const door = await openDoor()
    const client = begin(door, { privateKey: undefined, password: 'secret' } as object)
    await client.closed
    expect(JSON.stringify(door.log)).not.toContain('secret')
    expect(door.log.some(({ message }) => message === 'ssh login')).toBe(false)
  })

  test('opens channels has 32 of them', async () => {
    const door = await openDoor()
    const client = await login(door)
    for (let i = 0; i < 32; i++) await openChannel(client)
    await expect(openChannel(client)).rejects.toThrow(/too many channels/)
    expect(door.visitors).toHaveLength(32)
    // And closing one makes room.
    const first = await visitorOf(door)
    first.stream.destroy()
    await waitFor('a place', () =>
      openChannel(client).then(
        () => true,
        () => false,
      ),
    )
  })

  test('finds no room in the gateway is told so, and takes no place', async () => {
    const door = await openDoor({ room: 2 })
    const client = await login(door)
    await openChannel(client)
    await expect(openChannel(client)).rejects.toThrow(/as many sessions as there may be/)
    expect(door.places()).toBe(2)
  })

  test('is not to be let in hears nothing of SSH', async () => {
    const door = await openDoor({ room: 0 })
    const socket = connect(door.port, '127.0.0.1')
    const heard: Buffer[] = []
    socket.on('data', bytes => heard.push(bytes))
    socket.on('error', () => {})
    socket.write('SSH-2.0-test\r\n')
    await new Promise(resolve => socket.once('close', resolve))
    expect(heard).toEqual([])
    expect(await door.logged('turned away')).toMatchObject({ reason: 'sessions' })
    expect([door.places(), door.visitors]).toEqual([0, []])
  })

  test.each(['before', 'inside', 'after'])(
    'sends garbage %s the key exchange is gone, and the others stay',
    async when => {
      const door = await openDoor()
      const other = await login(door)
      const garbage = Buffer.alloc(100_000, 0xa5)
      if (when === 'before') {
        const socket = connect({ host: '127.0.0.1', port: door.port })
        socket.on('error', () => {})
        socket.resume()
        socket.end(garbage)
        await once(socket, 'close')
      } else {
        const client = when === 'inside' ? begin(door) : await login(door)
        if (when === 'inside') await once(client.socket, 'data')
        client.socket.write(garbage)
        await client.closed
      }
      await waitFor('its place', () => door.places() === 1)
      await openChannel(other)
      expect(door.visitors).toHaveLength(1)
    },
  )

  test('vanishes in the middle of everything leaves nothing behind', async () => {
    const door = await openDoor()
    const client = await login(door)
    await openChannel(client)
    const { stream } = await visitorOf(door)
    let closes = 0
    stream.start(sink({ closed: () => void closes++ }))
    stream.write(Buffer.alloc(8 * MIB))
    client.socket.resetAndDestroy()
    await waitFor('its end', () => closes === 1)
    stream.write(Buffer.alloc(10))
    stream.end()
    stream.destroy()
    await waitFor('the place of the connection', () => door.places() === 1)
    expect(closes).toBe(1)
  })

  test('has channels that break inside ssh2 does not end the process', async () => {
    const { Channel }: { Channel: { prototype: Duplex } } = createRequire(import.meta.url)('ssh2/lib/Channel.js')
    const resume = vi.spyOn(Channel.prototype, 'resume')
    onTestFinished(() => resume.mockRestore())
    const door = await openDoor()
    const { client, ...rest } = await login(door)
    await openChannel({ client, ...rest })
    await new Promise(resolve => client.exec('ls', resolve))
    await door.logged('ssh refused')
    const channels = resume.mock.contexts.filter(each => each instanceof EventEmitter)
    const ours = new Set(channels.filter(each => Reflect.get(each, 'server') === true))
    expect(ours.size).toBe(2)
    for (const channel of ours) channel.emit('error', new Error('broken'))
  })

  test('reads server-sig-algs finds what may log in, each name on its own', async () => {
    const door = await openDoor()
    const client = begin(door)
    const told = new Promise<unknown>(resolve => {
      client.protocol._handlers.EXT_INFO = (_, extensions) => resolve(extensions)
    })
    expect(await told).toMatchObject([
      {
        name: 'server-sig-algs',
        algs: [
          'ssh-ed25519',
          'ecdsa-sha2-nistp256',
          'ecdsa-sha2-nistp384',
          'ecdsa-sha2-nistp521',
          'rsa-sha2-512',
          'rsa-sha2-256',
        ],
      },
    ])
  })
})

test('a door says when ssh2 has no compiled cipher', async () => {
  const { log } = await openDoor()
  const warned = log.some(({ level, message }) => level === 'warn' && message === 'ssh runs without its native cipher')
  expect(warned).toBe(!isNative())
})

describe('a door that closes', () => {
  test('ends who only holds a connection, and lets the others finish', async () => {
    const door = await openDoor()
    const [idle, busy] = [await login(door), await login(door)]
    const silent = connect({ host: '127.0.0.1', port: door.port })
    silent.on('error', () => {})
    silent.resume()
    await waitFor('the silent one', () => door.places() === 3)
    await openChannel(busy)
    await door.close()
    await Promise.all([idle.closed, once(silent, 'close')])
    await expect(openChannel(busy)).rejects.toThrow(/shutting down/)
    const { stream } = await visitorOf(door)
    stream.end()
    stream.destroy()
    await busy.closed
  })
})
