import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { createServer as createTlsServer, type TLSSocket, connect as tlsConnect } from 'node:tls'

/** Both ends of a connection on loopback; `near` was accepted. Who takes it destroys both. */
export interface SocketPair<Kind extends Socket = Socket> {
  readonly near: Kind
  readonly far: Kind
}

/** A connection as a door has it. */
export async function tcpPair(): Promise<SocketPair> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const far = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [[near]] = await Promise.all([once(server, 'connection'), once(far, 'connect')])
  server.close()
  return { near, far }
}

/** The same with TLS on it, by a key that both know. */
export async function tlsPair(): Promise<SocketPair<TLSSocket>> {
  const raw = await tcpPair()
  const psk = Buffer.alloc(16, 1)
  const options = { ciphers: 'ECDHE-PSK-CHACHA20-POLY1305', maxVersion: 'TLSv1.2' } as const
  const server = createTlsServer({ ...options, pskCallback: () => psk })
  server.emit('connection', raw.near)
  const far = tlsConnect({
    ...options,
    socket: raw.far,
    pskCallback: () => ({ psk, identity: 'somebody' }),
    checkServerIdentity: () => undefined,
  })
  const [[near]] = await Promise.all([once(server, 'secureConnection'), once(far, 'secureConnect')])
  return { near, far }
}
