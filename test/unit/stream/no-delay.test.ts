import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { closeServer, listen } from '../../../src/doors/listen.ts'
import { acknowledgeOn } from '../../../src/stream/acknowledge.ts'
import { PooledSocket } from '../../../src/stream/pooled-socket.ts'
import { Wire } from '../../../src/stream/wire.ts'
import { connectUpstream } from '../../../src/upstreams/connect.ts'

/** Calls of setNoDelay on any TCP connection of this process: what Node tells the kernel. */
async function noDelays() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  await once(socket, 'connect')
  const calls = vi.spyOn(Object.getPrototypeOf(Reflect.get(socket, '_handle')), 'setNoDelay')
  socket.destroy()
  server.close()
  return calls
}

describe('TCP_NODELAY', () => {
  it('is set on what a door accepts and on what goes to an upstream', async () => {
    const calls = await noDelays()
    const accepted: Socket[] = []
    const server = await listen({ host: '127.0.0.1', port: 0 }, 'here', socket => void accepted.push(socket))
    const stream = new PooledSocket({ host: '127.0.0.1', port: (server.address() as AddressInfo).port })
    await stream.connected(AbortSignal.timeout(5000))
    await vi.waitFor(() => expect(accepted).toHaveLength(1))
    expect(calls.mock.calls).toEqual([[true], [true]])
    stream.destroy()
    for (const socket of accepted) socket.destroy()
    await closeServer(server)
    calls.mockRestore()
  })
})

describe('TCP_QUICKACK', () => {
  it('is asked for whenever a piece has come, while haggling', async () => {
    const sockets: Socket[] = []
    const server = createServer(socket => void sockets.push(socket)).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const config = { kind: 'tcp', host: '127.0.0.1', port, export: '', tls: false } as const
    const link = await connectUpstream(config, { readOnly: true }, AbortSignal.timeout(5000))
    if (link.kind !== 'server') throw new Error('no server')
    const acknowledge = vi.fn(link.acknowledge)
    const wire = new Wire(link.stream, 5000, acknowledge)
    await vi.waitFor(() => expect(sockets).toHaveLength(1))
    for (const piece of ['one', 'two']) {
      sockets[0]?.write(piece)
      expect((await wire.read(3)).toString()).toBe(piece)
    }
    expect(acknowledge).toHaveBeenCalledTimes(2)
    link.stream.destroy()
    for (const socket of sockets) socket.destroy()
    server.close()
  })

  it('works on TCP, and is nothing elsewhere', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'nbdgate-ack-'))
    const path = join(folder, 'sock')
    const [tcp, unix] = [createServer().listen(0, '127.0.0.1'), createServer().listen(path)]
    await Promise.all([tcp, unix].map(server => once(server, 'listening')))
    const sockets = [connect((tcp.address() as AddressInfo).port, '127.0.0.1'), connect(path)]
    await Promise.all(sockets.map(socket => once(socket, 'connect')))
    expect(sockets.map(acknowledgeOn)).toEqual([true, false])
    for (const socket of sockets) socket.destroy()
    expect(sockets.map(acknowledgeOn)).toEqual([false, false])
    for (const server of [tcp, unix]) server.close()
    rmSync(folder, { recursive: true })
  })
})
