import type { Server, Socket } from 'node:net'
import type { Cidr } from '../config/cidr.ts'
import { compileCidrs, plainAddress } from '../policy/cidr.ts'
import { DuplexStream } from '../stream/duplex-stream.ts'
import type { Door, Reception, TlsOffer } from './door.ts'
import { closeServer, listen } from './listen.ts'

export interface TcpDoorOptions {
  readonly host: string
  /** 0: any free port. */
  readonly port: number
  /** Addresses that may come in; others are closed at accept. Undefined: all. */
  readonly from?: readonly Cidr[] | undefined
  /** Makes it a TLS door. */
  readonly tls?: ((stream: DuplexStream) => TlsOffer) | undefined
}

/** Opens a TCP door, plain or with STARTTLS. @throws DoorError */
export async function openTcpDoor(options: TcpDoorOptions, reception: Reception): Promise<Door> {
  const { host, port, tls, from } = options
  const isWelcome = from === undefined ? () => true : compileCidrs(from)
  const accept = (socket: Socket): void => receive(socket, isWelcome, tls, reception)
  const server = await listen({ host, port }, `${host}:${port}`, accept)
  server.on('error', error => reception.failed(error))
  return { kind: tls === undefined ? 'tcp' : 'tls', address: addressOf(server), close: () => closeServer(server) }
}

function receive(
  socket: Socket,
  isWelcome: (address: string) => boolean,
  tls: TcpDoorOptions['tls'],
  reception: Reception,
): void {
  const stream = new DuplexStream(socket)
  const address = plainAddress(socket.remoteAddress ?? '')
  // A socket without an address has been reset between accept and here.
  if (address === undefined) {
    socket.destroy()
    return
  }
  const peer = joinAddress(address, socket.remotePort ?? 0)
  const reason = !isWelcome(address) ? 'from' : reception.admit(address)
  if (reason !== undefined) {
    socket.destroy()
    reception.turnedAway(peer, reason)
    return
  }
  reception.enter({ stream, door: 'tcp', peer, identity: { address }, tls: tls?.(stream) })
}

/** Where a server listens, for logs. */
export function addressOf(server: Server): string {
  const bound = server.address()
  if (bound === null || typeof bound === 'string') return String(bound)
  return joinAddress(bound.address, bound.port)
}

/** An address with its port, `[::1]:10809`. */
export function joinAddress(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}
