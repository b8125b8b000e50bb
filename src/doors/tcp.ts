import type { Server, Socket } from 'node:net'
import type { Cidr } from '../config/cidr.ts'
import { compileCidrs, plainAddress } from '../policy/cidr.ts'
import { DuplexStream } from '../stream/duplex-stream.ts'
import type { Door, Reception, TlsOffer } from './door.ts'
import { closeServer, listen } from './listen.ts'
import { TlsEnd, type TlsOptions } from './tls.ts'

export interface TcpDoorOptions {
  readonly host: string
  /** 0: any free port. */
  readonly port: number
  /** Addresses that may come in; others are closed at accept. Undefined: all. */
  readonly from?: readonly Cidr[] | undefined
  /** Makes it a TLS door. */
  readonly tls?: TlsOptions | undefined
}

/** A door that listens on TCP. */
export interface TcpDoor extends Door {
  /** Takes other options, the place excepted. Visitors who are in stay, and are held against them by their `recheck`. */
  reload(options: TcpDoorOptions): void
}

/** Opens a TCP door, plain or with STARTTLS. @throws DoorError */
export async function openTcpDoor(options: TcpDoorOptions, reception: Reception): Promise<TcpDoor> {
  const door = new Threshold(options, reception)
  const { host, port } = options
  const server = await listen({ host, port }, `${host}:${port}`, door.receive)
  server.on('error', error => reception.failed(error))
  return {
    get kind() {
      return door.tls === undefined ? 'tcp' : 'tls'
    },
    address: addressOf(server),
    reload: next => door.reload(next),
    close: () => closeServer(server),
  }
}

/** Who may step over the sill of a door, and what is offered there. */
class Threshold {
  readonly #reception: Reception
  #tls: TlsEnd | undefined
  #isWelcome: (address: string) => boolean = () => false

  constructor(options: TcpDoorOptions, reception: Reception) {
    this.#reception = reception
    this.reload(options)
  }

  get tls(): TlsEnd | undefined {
    return this.#tls
  }

  reload({ from, tls }: TcpDoorOptions): void {
    this.#isWelcome = from === undefined ? () => true : compileCidrs(from)
    if (tls === undefined) this.#tls = undefined
    else if (this.#tls === undefined) this.#tls = new TlsEnd(tls)
    else this.#tls.reload(tls)
  }

  readonly receive = (socket: Socket): void => {
    const stream = new DuplexStream(socket)
    const address = plainAddress(socket.remoteAddress ?? '')
    // A socket without an address has been reset between accept and here.
    if (address === undefined) {
      socket.destroy()
      return
    }
    const peer = joinAddress(address, socket.remotePort ?? 0)
    const reason = this.#isWelcome(address) ? this.#reception.admit(address) : 'from'
    if (reason !== undefined) {
      socket.destroy()
      this.#reception.turnedAway(peer, reason)
      return
    }
    this.#reception.enter({ stream, door: 'tcp', peer, identity: { address }, tls: offerOf(this.#tls, stream) })
  }
}

/** What the door's TLS offers to a visitor on this stream, now and after a reload. */
function offerOf(end: TlsEnd | undefined, stream: DuplexStream): TlsOffer | undefined {
  if (end === undefined) return undefined
  return {
    get mode() {
      return end.mode
    },
    upgrade: () => end.upgrade(stream),
  }
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
