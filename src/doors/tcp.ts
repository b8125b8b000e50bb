import type { Server, Socket } from 'node:net'
import { type CidrMatcher, plainAddress } from '../policy/cidr.ts'
import { DuplexStream } from '../stream/duplex-stream.ts'
import type { Door, Reception, TlsOffer } from './door.ts'
import { closeServer, listen } from './listen.ts'

export interface TcpDoorOptions {
  readonly host: string
  /** 0: any free port. */
  readonly port: number
  /** Addresses that may come in; others are closed at accept. Undefined: all. */
  readonly from?: CidrMatcher | undefined
  /** Makes it a TLS door. */
  readonly tls?: TlsOffer | undefined
}

/** Opens a TCP door, plain or with STARTTLS. @throws DoorError */
export async function openTcpDoor(options: TcpDoorOptions, reception: Reception): Promise<Door> {
  const { host, port, tls } = options
  const server = await listen({ host, port }, `${host}:${port}`, socket => receive(socket, options, reception))
  server.on('error', error => reception.failed(error))
  return { kind: tls === undefined ? 'tcp' : 'tls', address: addressOf(server), close: () => closeServer(server) }
}

function receive(socket: Socket, { from, tls }: TcpDoorOptions, reception: Reception): void {
  const stream = new DuplexStream(socket)
  const address = socket.remoteAddress === undefined ? undefined : plainAddress(socket.remoteAddress)
  // A socket without an address has been reset between accept and here.
  if (address === undefined) return void socket.destroy()
  const peer = joinAddress(address, socket.remotePort ?? 0)
  const reason = from !== undefined && !from(address) ? 'from' : reception.admit(address)
  if (reason !== undefined) {
    socket.destroy()
    reception.turnedAway(peer, reason)
    return
  }
  reception.enter({ stream, door: 'tcp', peer, identity: { address }, tls })
}

function addressOf(server: Server): string {
  const bound = server.address()
  if (bound === null || typeof bound === 'string') return String(bound)
  return joinAddress(bound.address, bound.port)
}

function joinAddress(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}
