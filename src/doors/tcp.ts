import type { Server } from 'node:net'
import { DuplexStream } from '../stream/duplex-stream.ts'
import { type Arrival, type ArrivalOptions, Arrivals, Gate, joinAddress } from './arrivals.ts'
import type { Door, GateReception, Reception, Room, RoomReception, TlsOffer } from './door.ts'
import { closeServer, type Given, listen, listenerOf } from './listen.ts'
import { TlsEnd, type TlsOptions } from './tls.ts'

export interface TcpDoorOptions extends ArrivalOptions {
  readonly host: string
  /** 0: any free port. */
  readonly port: number
  /** Instead of both. */
  readonly given?: Given | undefined
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
  return await openTcpGate(options, reception, new TcpRoom(options, reception))
}

/** Opens a TCP door to a room that may be elsewhere. @throws DoorError */
export async function openTcpGate(
  options: TcpDoorOptions,
  reception: GateReception,
  room: Room<TcpDoorOptions>,
): Promise<TcpDoor> {
  const { host, port, given } = options
  const gate = new Gate(options, reception, accepted => room.take(accepted))
  const server = await listen(given ?? { host, port }, `${host}:${port}`, gate.receive)
  server.on('error', error => reception.failed(error))
  let hasTls = options.tls !== undefined
  return {
    get kind() {
      return hasTls ? 'tls' : 'tcp'
    },
    address: addressOf(server),
    reload: next => {
      hasTls = next.tls !== undefined
      gate.reload(next)
      room.reload(next)
    },
    listener: () => listenerOf(server, true),
    release: async () => await closeServer(server),
    close: async () => {
      await closeServer(server)
      room.close()
    },
  }
}

/** What is behind a TCP door, for whoever has arrived. */
export class TcpRoom implements Room<TcpDoorOptions> {
  readonly take: Arrivals['take']
  readonly #arrivals: Arrivals
  readonly #reception: RoomReception
  #tls: TlsEnd | undefined

  constructor(options: TcpDoorOptions, reception: RoomReception) {
    this.#reception = reception
    this.#arrivals = new Arrivals(options, reception, this.#enter)
    this.take = this.#arrivals.take
    this.reload(options)
  }

  close(): void {
    this.#arrivals.close()
  }

  reload(options: TcpDoorOptions): void {
    const { tls } = options
    this.#arrivals.reload(options)
    if (tls === undefined) this.#tls = undefined
    else if (this.#tls === undefined) this.#tls = new TlsEnd(tls)
    else this.#tls.reload(tls)
  }

  readonly #enter = ({ socket, address, peer, via, endpoints }: Arrival): void => {
    const stream = new DuplexStream(socket)
    const tls = offerOf(this.#tls, stream)
    this.#reception.enter({ stream, door: 'tcp', peer, via, endpoints, identity: { address }, tls })
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
  // One that does not listen was given its only connection.
  if (bound === null || typeof bound === 'string') return 'a connection'
  return joinAddress(bound)
}
