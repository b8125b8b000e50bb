/**
 * The first look at a connection on TCP: where it comes from, whether it may come from there, and whether there is room.
 * Behind a balancer that takes a PROXY header, which nobody else is asked for and nobody else is believed.
 *
 * The gate looks at accept, without a byte of the connection; what takes longer is the business of Arrivals, which may be
 * in another process.
 *
 * Until the header is there, a connection counts against all sessions and against no address: a crowd that comes through
 * one balancer at once is not a crowd of the balancer's.
 */
import type { Socket } from 'node:net'
import type { Cidr } from '../config/cidr.ts'
import { compileCidrs, plainAddress } from '../policy/cidr.ts'
import { ProtocolError } from '../protocol/errors.ts'
import type { Endpoints, IpEndpoint } from '../protocol/proxy-facts.ts'
import { StreamError } from '../stream/errors.ts'
import type { Accepted, GateReception, RoomReception, TurnedAway } from './door.ts'
import { readProxyHeader } from './proxy-reader.ts'
import { watchForVanishing } from './vanishing.ts'

export interface ArrivalOptions {
  /** Addresses that may come in; others are closed at accept. Undefined: all. */
  readonly from?: readonly Cidr[] | undefined
  /** Balancers, who may speak whatever `from` says: it is held against whom they speak for. */
  readonly proxyProtocol?: readonly Cidr[] | undefined
  /** How long a balancer may take for its header. */
  readonly headerMs: number
}

/** A connection that may come in, with a place taken for its address. */
export interface Arrival {
  /** Paused. */
  readonly socket: Socket
  /** The client's, whoever has passed it on. */
  readonly address: string
  /** For logs: `192.0.2.7:50312`. */
  readonly peer: string
  /** The balancer that has passed it on. */
  readonly via: string | undefined
  readonly endpoints: Endpoints
}

/** Receives sockets, and passes on those that may come in. */
export class Gate {
  readonly #reception: GateReception
  readonly #passed: (accepted: Accepted) => void
  #isWelcome: (address: string) => boolean = () => false
  #isBalancer: (address: string) => boolean = () => false

  constructor(options: ArrivalOptions, reception: GateReception, passed: (accepted: Accepted) => void) {
    this.#reception = reception
    this.#passed = passed
    this.reload(options)
  }

  /** Takes other options, for all who come from now on. */
  reload({ from, proxyProtocol }: ArrivalOptions): void {
    this.#isWelcome = from === undefined ? () => true : compileCidrs(from)
    this.#isBalancer = compileCidrs(proxyProtocol ?? [])
  }

  readonly receive = (socket: Socket): void => {
    // Whoever has the socket learns of its close; an error that nobody hears would end the process.
    socket.on('error', () => {})
    const ends = endsOf(socket)
    if (ends === undefined) {
      // A socket without an address has been reset between accept and here.
      socket.destroy()
      return
    }
    const { address } = ends.source
    const isBalancer = this.#isBalancer(address)
    const isWelcome = isBalancer || this.#isWelcome(address)
    const answer = isWelcome ? this.#reception.admit(isBalancer ? undefined : address) : 'from'
    if (answer instanceof Promise) void answer.then(reason => this.#judge({ socket, ends, isBalancer }, reason))
    else this.#judge({ socket, ends, isBalancer }, answer)
  }

  #judge(accepted: Accepted & { readonly ends: Endpoints }, reason: TurnedAway | undefined): void {
    if (reason === undefined) {
      this.#passed(accepted)
      return
    }
    accepted.socket.destroy()
    this.#reception.turnedAway(joinAddress(accepted.ends.source), reason)
  }
}

/** Takes those who have passed the gate, and hands them on when it is known whom they speak for. */
export class Arrivals {
  readonly #reception: RoomReception
  readonly #arrived: (arrival: Arrival) => void
  /** Of balancers who have not said yet whom they speak for. */
  readonly #unsaid = new Set<Socket>()
  #headerMs = 0
  #isWelcome: (address: string) => boolean = () => false

  constructor(options: ArrivalOptions, reception: RoomReception, arrived: (arrival: Arrival) => void) {
    this.#reception = reception
    this.#arrived = arrived
    this.reload(options)
  }

  /** Takes other options, for all who have not arrived yet. */
  reload({ from, headerMs }: ArrivalOptions): void {
    this.#isWelcome = from === undefined ? () => true : compileCidrs(from)
    this.#headerMs = headerMs
  }

  readonly take = ({ socket, ends, isBalancer }: Accepted): void => {
    if (ends === undefined) throw new TypeError('a connection on TCP without addresses')
    if (isBalancer) void this.#listenTo(socket, ends)
    else this.#arrive(socket, ends, undefined)
  }

  /** Ends the connections of those who have not said whom they speak for. */
  close(): void {
    for (const socket of this.#unsaid) socket.destroy()
  }

  /** Never rejects. */
  async #listenTo(socket: Socket, ends: Endpoints): Promise<void> {
    const balancer = joinAddress(ends.source)
    this.#unsaid.add(socket)
    try {
      const header = await readProxyHeader(socket, this.#headerMs)
      this.#said(socket)
      if (header === null) socket.destroy()
      else if (header.kind === 'own') await this.#admit(socket, ends, undefined)
      else await this.#admit(socket, plainEnds(header), balancer)
    } catch (error) {
      this.#said(socket)
      socket.destroy()
      if (!(error instanceof ProtocolError || error instanceof StreamError)) this.#reception.failed(toError(error))
      else this.#reception.turnedAway(balancer, 'proxy header', { code: error.code, err: error })
    }
  }

  #said(socket: Socket): void {
    if (this.#unsaid.delete(socket)) this.#reception.left(undefined, false)
  }

  async #admit(socket: Socket, endpoints: Endpoints, via: string | undefined): Promise<void> {
    const { address } = endpoints.source
    const reason = this.#isWelcome(address) ? await this.#reception.admit(address) : 'from'
    if (reason !== undefined) {
      socket.destroy()
      this.#reception.turnedAway(joinAddress(endpoints.source), reason, { via })
    } else if (socket.destroyed) this.#reception.left(address, false)
    else this.#arrive(socket, endpoints, via)
  }

  #arrive(socket: Socket, endpoints: Endpoints, via: string | undefined): void {
    const { address } = endpoints.source
    this.#arrived({ socket, address, peer: joinAddress(endpoints.source), via, endpoints })
    // After the greeting: the first time it takes longer than all else.
    setImmediate(() => watchForVanishing(socket, this.#reception.vanishedMs))
  }
}

/** An address with its port, `[::1]:10809`. */
export function joinAddress({ address, port }: IpEndpoint): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}

function endsOf({ remoteAddress, remotePort, localAddress, localPort }: Socket): Endpoints | undefined {
  const [source, destination] = [plainAddress(remoteAddress ?? ''), plainAddress(localAddress ?? '')]
  if (source === undefined || destination === undefined) return undefined
  return {
    source: { address: source, port: remotePort ?? 0 },
    destination: { address: destination, port: localPort ?? 0 },
  }
}

/** The spelling that all else uses: an IPv4 address mapped into IPv6 is IPv4. */
function plainEnds({ source, destination }: Endpoints): Endpoints {
  const plain = ({ address, port }: IpEndpoint): IpEndpoint => ({ address: plainAddress(address) ?? address, port })
  return { source: plain(source), destination: plain(destination) }
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}
