/** A TCP link that can be cut: what is on its way stays there, as with a cable that is pulled. */
import { connect, createServer, type Socket } from 'node:net'

export interface Link {
  readonly port: number
  cut(): void
  heal(): void
  stop(): Promise<void>
}

/** Passes connections on to a port of the loopback. */
export async function startLink(to: number): Promise<Link> {
  const sockets = new Set<Socket>()
  let isCut = false
  const server = createServer({ allowHalfOpen: true }, socket => {
    const far = connect({ host: '127.0.0.1', port: to, allowHalfOpen: true })
    for (const [from, onward] of [
      [socket, far],
      [far, socket],
    ] as const) {
      sockets.add(from)
      from.on('error', () => onward.destroy())
      from.on('data', bytes => onward.write(bytes))
      from.on('end', () => onward.end())
      from.on('close', () => {
        sockets.delete(from)
        // While the cable is out nobody hears that the other has gone.
        if (!isCut) onward.destroy()
      })
      if (isCut) from.pause()
    }
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port')
  return {
    port: address.port,
    cut: () => {
      isCut = true
      for (const socket of sockets) socket.pause()
    },
    heal: () => {
      isCut = false
      for (const socket of sockets) socket.resume()
    },
    stop: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise(resolve => server.close(resolve))
    },
  }
}
