// SSH servers that mean no good, or hang: the way out ends in time, with a clear error, and holds little.
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer, type Server as NetServer, type Socket } from 'node:net'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import ssh2, { type Connection, type ServerChannel } from 'ssh2'
import { describe, expect } from 'vitest'
import { mintHostKey } from '../../src/pki/ssh-host-key.ts'
import { SshPool } from '../../src/upstreams/ssh.ts'
import { type GatedChannel, SshStream } from '../../src/upstreams/ssh-stream.ts'
import { test as base } from '../support/fixtures.ts'
import { waitFor } from '../support/wait.ts'

const MIB = 1024 * 1024
const HOST = '127.0.0.1'
/** More than the way out allows itself. */
const PATIENCE_MS = 20_000

/** The parts of ssh2's own server that a bad one misuses. */
interface Wires {
  readonly _sock: Socket
  readonly _protocol: {
    ping(): void
    channelOpenConfirm(to: number, from: number, window: number, packet: number): void
    channelData(to: number, data: Buffer): void
  }
}

const wiresOf = (connection: Connection): Wires => connection as unknown as Wires

/** Channels may send as much as they like, whether it is read or not. */
function giveBoundlessWindows({ _protocol }: Wires): void {
  const confirm = _protocol.channelOpenConfirm.bind(_protocol)
  _protocol.channelOpenConfirm = (to, from, _, packet) => confirm(to, from, 0xffff_ffff, packet)
}

interface Trap {
  readonly port: number
  /** Dials it as an upstream. */
  dial(ms?: number): Promise<Duplex>
  dialGated(): Promise<GatedChannel>
  readonly connections: Connection[]
}

const test = base
  .extend('listen', async ({}, { onCleanup }) => {
    const servers: NetServer[] = []
    const sockets: Socket[] = []
    onCleanup(async () => {
      for (const socket of sockets) socket.destroy()
      for (const server of servers) server.close()
    })
    return async (visit: (socket: Socket) => void): Promise<number> => {
      const server = createServer(socket => {
        sockets.push(socket.on('error', () => {}))
        visit(socket)
      }).listen(0, HOST)
      servers.push(server)
      await once(server, 'listening')
      const address = server.address()
      return typeof address === 'object' && address !== null ? address.port : 0
    }
  })
  /** A pool, and a way to dial a port with it; known_hosts knows a key for every host. */
  .extend('dialPort', async ({ dir }) => {
    // Not ssh2's own: of 256 keys that it makes it can not read one.
    const [host, user] = [mintHostKey('host'), mintHostKey('user')]
    const [identity, knownHosts] = [join(dir, 'user'), join(dir, 'known')]
    writeFileSync(identity, user.privateText)
    writeFileSync(knownHosts, `* ${host.publicText}`)
    const pool = new SshPool()
    const dialGated = async (port: number, ms = PATIENCE_MS): Promise<GatedChannel> => {
      const place = { kind: 'ssh', host: HOST, port, user: 'me', export: '', tls: false } as const
      const target = { kind: 'tcp', port: 10809 } as const
      return await pool.dial({ ...place, target, identity, knownHosts }, AbortSignal.timeout(ms))
    }
    const dial = async (port: number, ms?: number): Promise<Duplex> => (await dialGated(port, ms)).channel
    return { dial, dialGated, hostKey: host.privateText }
  })
  /** An SSH server of ssh2 that lets everybody in; `channel` gets what is opened. */
  .extend('trap', async ({ listen, dialPort }) => {
    return async (more: {
      readonly login?: boolean
      readonly prepare?: (wires: Wires) => void
      readonly open?: (accept: () => ServerChannel, wires: Wires) => void
    }): Promise<Trap> => {
      const connections: Connection[] = []
      const server = new ssh2.Server({ hostKeys: [dialPort.hostKey] }, connection => {
        connections.push(connection)
        more.prepare?.(wiresOf(connection))
        connection.on('error', () => {})
        connection.on('authentication', context => (more.login === false ? undefined : context.accept()))
        connection.on('tcpip', accept => {
          more.open?.(() => accept().on('error', () => {}), wiresOf(connection))
        })
      })
      const port = await listen(socket => server.injectSocket(socket))
      return { port, dial: ms => dialPort.dial(port, ms), dialGated: () => dialPort.dialGated(port), connections }
    }
  })

describe('an SSH server', () => {
  test('that speaks garbage is refused', async ({ listen, dialPort }) => {
    const noise = generateKeyPairSync('ed25519').publicKey.export({ format: 'der', type: 'spki' })
    for (const answer of [Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'), noise, Buffer.alloc(MIB, 'x')]) {
      const port = await listen(socket => void socket.end(answer))
      await expect(dialPort.dial(port)).rejects.toMatchObject({ code: 'HANDSHAKE' })
    }
    const header = Buffer.from('SSH-2.0-x\r\n')
    const port = await listen(socket => void socket.end(Buffer.concat([header, Buffer.alloc(100, 0xff)])))
    await expect(dialPort.dial(port)).rejects.toMatchObject({ code: 'HANDSHAKE' })
  })

  test('that says nothing is given up', async ({ listen, dialPort }) => {
    const port = await listen(() => {})
    await expect(dialPort.dial(port)).rejects.toThrow('Timed out while waiting for handshake')
  })

  test('that never ends the login is given up', async ({ trap }) => {
    const { dial } = await trap({ login: false })
    await expect(dial()).rejects.toThrow('Timed out while waiting for handshake')
  })

  test('that never answers for a channel is given up, and the next session connects anew', async ({ trap }) => {
    const { dial, connections } = await trap({})
    await expect(dial(300)).rejects.toMatchObject({ code: 'DIAL' })
    await expect(dial(300)).rejects.toMatchObject({ code: 'DIAL' })
    expect(connections.length).toBe(2)
  })

  test('that takes packets of no bytes gets none', async ({ trap }) => {
    const { dial } = await trap({
      prepare: ({ _protocol }) => {
        const confirm = _protocol.channelOpenConfirm.bind(_protocol)
        _protocol.channelOpenConfirm = (to, from, window) => confirm(to, from, window, 0)
      },
      open: accept => void accept(),
    })
    await expect(dial()).rejects.toThrow('takes no packets of use')
  })

  test('that sends more than its window allows loses the connection', async ({ trap }) => {
    const { dial, connections } = await trap({
      open: (accept, { _protocol }) => {
        accept()
        for (let sent = 0; sent < 16 * MIB; sent += 32_000) _protocol.channelData(0, Buffer.alloc(32_000))
      },
    })
    const channel = await dial()
    await waitFor('the end of the connection', () => connections.every(each => wiresOf(each)._sock.destroyed))
    expect(channel.readableLength).toBeLessThan(5 * MIB)
    const closed = once(channel, 'close')
    channel.resume()
    await closed
  })

  test('that reads nothing, whatever its window, is sent little, and all in the end', async ({ trap }) => {
    let got = 0
    const { dial, connections } = await trap({
      prepare: giveBoundlessWindows,
      open: (accept, { _sock }) => {
        accept().on('data', (chunk: Buffer) => {
          got += chunk.length
        })
        _sock.pause()
      },
    })
    const channel = await dial()
    for (let written = 0; written < 64; written++) channel.write(Buffer.alloc(MIB, written))
    for (let turns = 0; turns < 1000; turns++) await turn()
    expect(channel.writableLength).toBeGreaterThan(32 * MIB)
    for (const connection of connections) wiresOf(connection)._sock.resume()
    await waitFor('all bytes', () => got === 64 * MIB)
    channel.destroy()
  })

  test('that reads nothing when the time to write is over gets no more of it, nor has the connection', async ({
    trap,
  }) => {
    let got = 0
    const { dialGated, connections } = await trap({
      prepare: giveBoundlessWindows,
      open: accept => {
        accept().on('data', (chunk: Buffer) => {
          got += chunk.length
        })
      },
    })
    let isOver = false
    /** A stream whose time ends with that of all, and whether it is closed. */
    const visit = async () => {
      const stream = new SshStream(await dialGated())
      const state = { stream, isClosed: false }
      const closed = (): void => {
        state.isClosed = true
      }
      stream.start({ data: chunk => stream.release(chunk), ended: () => {}, drained: () => {}, closed })
      return state
    }
    const [first, second, lasting] = [await visit(), await visit(), await visit()]
    first.stream.gate(() => !isOver)
    second.stream.gate(() => !isOver)
    first.stream.write(Buffer.alloc(MIB))
    await waitFor('its bytes', () => got === MIB)
    isOver = true
    first.stream.destroy()
    await waitFor('its end', () => first.isClosed)
    // All of it had been sent: the others go on.
    lasting.stream.write(Buffer.alloc(MIB))
    await waitFor('bytes of another', () => got === 2 * MIB)
    isOver = false
    for (const connection of connections) wiresOf(connection)._sock.pause()
    for (let written = 0; written < 64; written++) second.stream.write(Buffer.alloc(MIB))
    for (let turns = 0; turns < 1000; turns++) await turn()
    expect(second.stream.unsentBytes).toBeGreaterThan(32 * MIB)
    isOver = true
    second.stream.destroy()
    await waitFor('the end of all', () => second.isClosed && lasting.isClosed)
  })

  test('that never ends a change of keys is sent nothing meanwhile', async ({ trap }) => {
    let got = 0
    const { dial, connections } = await trap({
      prepare: giveBoundlessWindows,
      open: accept => {
        accept().on('data', (chunk: Buffer) => {
          got += chunk.length
        })
      },
    })
    const channel = await dial()
    const isChanging = (): boolean => {
      const client: unknown = Reflect.get(channel, '_client')
      return Reflect.get(Object(Reflect.get(Object(client), '_protocol')), '_kexinit') !== undefined
    }
    for (const connection of connections) {
      wiresOf(connection)._sock.pause()
      connection.rekey()
    }
    await waitFor('the change of keys', isChanging)
    for (let written = 0; written < 16; written++) channel.write(Buffer.alloc(MIB, written))
    for (let turns = 0; turns < 100; turns++) await turn()
    expect(channel.writableLength).toBe(16 * MIB)
    for (const connection of connections) wiresOf(connection)._sock.resume()
    await waitFor('all bytes', () => got === 16 * MIB)
    channel.destroy()
  })

  test('that asks and asks and reads no answer loses the connection', { timeout: 120_000 }, async ({ trap }) => {
    const { dial, connections } = await trap({ open: accept => void accept() })
    const channel = await dial()
    const [wires] = connections.map(wiresOf)
    wires?._sock.pause()
    // The kernel takes a quarter of a million answers before one waits, and ssh2 without its native cipher is slow.
    const isOver = () => {
      if (wires?._sock.destroyed !== false) return true
      for (let asked = 0; asked < 2000; asked++) wires._protocol.ping()
      return false
    }
    await waitFor('the end of the connection', isOver, { boundMs: 100_000 })
    channel.destroy()
  })
})
