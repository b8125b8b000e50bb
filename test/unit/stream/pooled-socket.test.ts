import { once } from 'node:events'
import { createServer } from 'node:net'
import { expect, test } from 'vitest'
import type { ByteSink } from '../../../src/stream/byte-stream.ts'
import { PooledSocket } from '../../../src/stream/pooled-socket.ts'

test('a connection that has closed leaves its read buffer to the next one', async () => {
  const server = createServer(socket => socket.end('nbd!')).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  const memory = new Set<ArrayBufferLike>()
  try {
    for (let round = 0; round < 3; round++) {
      const socket = new PooledSocket({ host: '127.0.0.1', port: address.port })
      await socket.connected(AbortSignal.timeout(5000))
      await new Promise<void>(resolve => {
        const sink: ByteSink = {
          data: chunk => {
            memory.add(chunk.buffer)
            socket.release(chunk)
          },
          ended: () => socket.end(),
          closed: () => resolve(),
          drained: () => {},
        }
        socket.start(sink)
      })
    }
  } finally {
    server.close()
  }
  expect(memory.size).toBe(1)
})
