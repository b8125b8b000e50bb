import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { describe, expect, it, vi } from 'vitest'
import { closeServer, listen } from '../../../src/doors/listen.ts'
import { PooledSocket } from '../../../src/stream/pooled-socket.ts'

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
