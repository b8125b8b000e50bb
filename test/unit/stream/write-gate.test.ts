import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { expect, it } from 'vitest'
import { DuplexStream } from '../../../src/stream/duplex-stream.ts'
import { PooledSocket } from '../../../src/stream/pooled-socket.ts'

it('what waits in the stream when the gate shuts never leaves, and its owner gets the memory back', async () => {
  const left: string[] = []
  let goOn: () => void = () => {}
  const duplex = new Duplex({
    read: () => {},
    write: (chunk, _encoding, done) => {
      left.push(String(chunk))
      goOn = done
    },
  })
  const stream = new DuplexStream(duplex)
  let isOpen = true
  stream.gate(() => isOpen)
  const sent: string[] = []
  stream.write(Buffer.from('begun'), () => sent.push('begun'))
  stream.write(Buffer.from('waits'), () => sent.push('waits'))
  expect(left).toEqual(['begun'])
  isOpen = false
  const closed = new Promise<void>(resolve => {
    stream.start({ data: () => {}, ended: () => {}, closed: () => resolve(), drained: () => {} })
  })
  goOn()
  await closed
  expect(left).toEqual(['begun'])
  expect(sent).toEqual(['begun', 'waits'])
})

it('a gate is asked once for all that was corked, and lets a socket write as before', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  const accepted: Promise<Socket[]> = once(server, 'connection')
  const socket = new PooledSocket({ host: '127.0.0.1', port: address.port })
  await socket.connected(AbortSignal.timeout(5000))
  let asked = 0
  let isOpen = true
  socket.gate(() => {
    asked++
    return isOpen
  })
  socket.cork()
  for (const text of ['a', 'b', 'c']) socket.write(Buffer.from(text))
  socket.uncork()
  const [peer] = await accepted
  const [bytes] = peer === undefined ? [] : await once(peer, 'data')
  expect(String(bytes)).toBe('abc')
  expect(asked).toBe(1)
  isOpen = false
  socket.write(Buffer.from('d'))
  if (peer !== undefined) await once(peer.resume(), 'close')
  expect(peer?.bytesRead).toBe(3)
  server.close()
})
