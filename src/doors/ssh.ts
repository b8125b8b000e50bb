/**
 * The SSH door: ssh2 as a server behind our own listener, so that limits and addresses are looked at before a byte of
 * SSH. Each channel that leads to NBD is a visitor of its own, with the identity of the login.
 */
import type { Socket } from 'node:net'
import type { Connection, Server as SshServer } from 'ssh2'
import type { Log } from '../observe/log.ts'
import { nameOf } from '../policy/identity.ts'
import { printable } from '../protocol/strings.ts'
import { DOOR_ALGORITHMS } from '../ssh/algorithms.ts'
import { type FileProblem, KeyRing } from '../ssh/key-ring.ts'
import type { Target } from '../ssh/target.ts'
import { type Arrival, type ArrivalOptions, Arrivals, Gate } from './arrivals.ts'
import type { Accepted, Door, GateReception, Offence, Reception, Room, RoomReception, TurnedAway } from './door.ts'
import { DoorError } from './errors.ts'
import { closeServer, type Given, listen, listenerOf } from './listen.ts'
import { SshLink } from './ssh-link.ts'
import { SshLogin } from './ssh-login.ts'
import type { SshStream } from './ssh-stream.ts'
import { openWays } from './ssh-ways.ts'
import { isNative, loadSsh2, protocolOf, socketOf } from './ssh2.ts'
import { addressOf } from './tcp.ts'

export interface SshDoorOptions extends ArrivalOptions {
  readonly host: string
  /** 0: any free port. */
  readonly port: number
  /** Instead of both. */
  readonly given?: Given | undefined
  /** Host keys. */
  readonly keys: readonly Buffer[]
  /** Paths. */
  readonly authorizedKeys?: string | undefined
  readonly userCa?: string | undefined
  readonly revokedKeys?: string | undefined
  /** From accept to the end of the login. */
  readonly loginMs: number
  readonly log: Log
}

const KEEPALIVE_MS = 15_000
const NO_LOGIN = 'no login in time'

/** An open SSH door. */
export interface SshDoor extends Door {
  /** Takes other options, the place excepted. Who has logged in stays, and is held against them at the next channel. */
  reload(options: SshDoorOptions): void
}

/** Opens an SSH door. @throws DoorError */
export async function openSshDoor(options: SshDoorOptions, reception: Reception): Promise<SshDoor> {
  return await openSshGate(options, reception, new SshRoom(options, reception))
}

/** Opens an SSH door to a room that may be elsewhere. @throws DoorError */
export async function openSshGate(
  options: SshDoorOptions,
  reception: GateReception,
  room: Room<SshDoorOptions>,
): Promise<SshDoor> {
  const { host, port, given, log } = options
  if (!isNative()) log.warn({}, 'ssh runs without its native cipher')
  const gate = new Gate(options, reception, accepted => room.take(accepted))
  const listener = await listen(given ?? { host, port }, `${host}:${port}`, gate.receive)
  listener.on('error', error => reception.failed(error))
  return {
    kind: 'ssh',
    address: addressOf(listener),
    reload: next => {
      gate.reload(next)
      room.reload(next)
    },
    listener: () => listenerOf(listener, true),
    release: async () => {
      await closeServer(listener)
      // Logins that have begun come to their end. After that, who has nothing open here would be here for ever.
      setTimeout(() => room.close(), options.loginMs).unref()
    },
    close: async () => {
      await closeServer(listener)
      room.close()
    },
  }
}

/** What is behind an SSH door: ssh2, and those who are logged in or about to. */
export class SshRoom implements Room<SshDoorOptions> {
  readonly #door: OpenDoor
  readonly #arrivals: Arrivals

  constructor(options: SshDoorOptions, reception: RoomReception) {
    const door: OpenDoor = {
      reception,
      visits: new Set(),
      isClosing: false,
      options,
      ring: ringOf(options),
      server: serve(options, client => greet(door, client)),
    }
    this.#door = door
    this.#arrivals = new Arrivals(options, reception, arrival => receive(arrival, door))
  }

  take(accepted: Accepted): void {
    this.#arrivals.take(accepted)
  }

  reload(options: SshDoorOptions): void {
    const door = this.#door
    door.options = options
    this.#arrivals.reload(options)
    door.ring = ringOf(options)
    door.server = serve(options, client => greet(door, client))
  }

  close(): void {
    this.#door.isClosing = true
    this.#arrivals.close()
    for (const visit of this.#door.visits) visit.endIfIdle()
  }
}

interface OpenDoor {
  readonly reception: RoomReception
  readonly visits: Set<Visit>
  options: SshDoorOptions
  ring: KeyRing
  server: SshServer
  isClosing: boolean
}

function serve({ keys }: SshDoorOptions, greeted: (client: Connection) => void): SshServer {
  const server = new (loadSsh2().Server)({
    hostKeys: [...keys],
    ident: 'nbdgate',
    algorithms: DOOR_ALGORITHMS,
    keepaliveInterval: KEEPALIVE_MS,
    keepaliveCountMax: 3,
  })
  server.on('connection', greeted)
  return server
}

function ringOf(options: SshDoorOptions): KeyRing {
  const ring = new KeyRing(options, problem => options.log.warn(describe(problem), 'ssh key file'))
  // Once now, so that what is wrong is said at once.
  ring.keys()
  return ring
}

function greet({ visits }: OpenDoor, client: Connection): void {
  const visit = [...visits].find(({ socket }) => socket === socketOf(client))
  if (visit === undefined) client.end()
  else visit.greet(client)
}

function receive(arrival: Arrival, door: OpenDoor): void {
  door.visits.add(new Visit({ ...arrival, door }))
  door.server.injectSocket(arrival.socket)
}

interface Where extends Arrival {
  readonly door: OpenDoor
}

/** One SSH connection, from accept to close. */
class Visit {
  readonly socket: Socket
  readonly #where: Where
  readonly #log: Log
  readonly #timer: NodeJS.Timeout
  #link: SshLink | undefined
  #login: SshLogin | undefined
  #error: Error | undefined
  /** Why we ended it; undefined: we did not. */
  #why: string | undefined
  #hasPlace = false
  #isKnown = false

  constructor(where: Where) {
    const { socket } = where
    this.socket = socket
    this.#where = where
    this.#log = where.door.options.log
    this.#timer = setTimeout(() => this.#cutOff(NO_LOGIN), where.door.options.loginMs)
    socket.once('close', () => this.#closed())
  }

  /** The peer has said that it speaks SSH. */
  greet(client: Connection): void {
    const protocol = protocolOf(client)
    client.on('error', error => {
      this.#error ??= error
      this.#link?.end()
    })
    if (protocol === undefined) {
      this.#log.error({ err: new DoorError('this version of ssh2 is not one that we know') }, 'door failed')
      this.socket.destroy()
      return
    }
    const { address, door } = this.#where
    const link = new SshLink(client, this.socket, protocol, {
      broken: reason => (this.#why ??= reason),
      idle: () => door.isClosing && link.end(),
    })
    const giveUp = (): void => link.end()
    const login = new SshLogin(client, { keys: () => door.ring.keys(), address, giveUp })
    this.#link = link
    this.#login = login
    client.once('ready', () => this.#ready())
    openWays({
      link,
      login,
      isClosing: () => door.isClosing,
      reserve: then => this.#reserve(then),
      enter: (stream, target) => this.#enter(stream, target),
      giveBack: () => this.#giveBack(),
      refused: (what, reason) => this.#log.warn({ ...this.#facts, what, reason }, 'ssh refused'),
    })
  }

  /** Ends the connection if nobody uses it. */
  endIfIdle(): void {
    if (this.#link === undefined) this.socket.destroy()
    else if (this.#link.openStreams === 0) this.#link.end()
  }

  get #facts(): Record<string, unknown> {
    const ssh = this.#login?.facts
    const { peer, via } = this.#where
    return { peer, via, ...(ssh === undefined ? {} : { who: nameOf({ ssh }), key: ssh.key }) }
  }

  #ready(): void {
    clearTimeout(this.#timer)
    this.#isKnown = true
    this.#where.door.reception.known()
    this.#log.info({ ...this.#facts, principals: this.#login?.facts?.principals }, 'ssh login')
    if (this.#where.door.isClosing) this.#link?.end()
  }

  #reserve(then: (full: string | undefined) => void): void {
    const { address, peer, via, door } = this.#where
    const answered = (reason: TurnedAway | undefined): void => {
      if (reason !== undefined) {
        door.reception.turnedAway(peer, reason, { via })
        then('there are as many sessions as there may be')
        return
      }
      this.#hasPlace = true
      then(undefined)
    }
    const answer = door.reception.admit(address)
    if (!(answer instanceof Promise)) {
      answered(answer)
      return
    }
    void answer.then(reason => {
      if (!this.socket.destroyed) answered(reason)
      else if (reason === undefined) door.reception.left(address, false)
    })
  }

  #enter(stream: SshStream, target: Target): void {
    const { address, peer, via, endpoints, door } = this.#where
    const ssh = this.#login?.facts
    if (ssh === undefined || !this.#hasPlace) {
      stream.destroy()
      return
    }
    this.#hasPlace = false
    const only = target.kind === 'export' ? target.name : undefined
    const recheck = (): string | undefined => {
      const standing = this.#login?.standing()
      return standing?.kind === 'refused' ? standing.reason : undefined
    }
    const identity = { address, ssh }
    door.reception.enter({ stream, door: 'ssh', peer, via, endpoints, identity, only, recheck })
  }

  #giveBack(): void {
    if (this.#hasPlace) this.#where.door.reception.left(this.#where.address, false)
    this.#hasPlace = false
  }

  /** What came and went without a word has failed at nothing. */
  #offence(attempts: number): Offence | undefined {
    if (attempts > 0) return 'authfail'
    if (this.#why === NO_LOGIN) return 'grace-exceeded'
    return this.#why !== undefined || (this.#error !== undefined && !isGoodbye(this.#error)) ? 'invalid' : undefined
  }

  #cutOff(reason: string): void {
    this.#why ??= reason
    this.socket.destroy()
  }

  #closed(): void {
    const { address, door } = this.#where
    clearTimeout(this.#timer)
    door.visits.delete(this)
    door.reception.left(address, this.#isKnown)
    const error = this.#error === undefined || isGoodbye(this.#error) ? {} : { err: this.#error }
    if (this.#login?.facts !== undefined) {
      const level = this.#why === undefined ? 'info' : 'warn'
      this.#log[level](
        { ...this.#facts, ...(this.#why === undefined ? {} : { reason: this.#why }), ...error },
        'ssh ended',
      )
      return
    }
    const { user, reason, attempts } = this.#login?.refusal ?? { user: '', reason: 'no SSH', attempts: 0 }
    const facts = { user: printable(user, 64), reason: this.#why ?? reason, attempts }
    const offence = this.#offence(attempts)
    if (offence !== undefined) door.reception.charge(address, offence)
    this.#log.warn({ ...this.#facts, ...facts, ...error }, 'ssh login failed')
  }
}

/** A connection that is reset has ended, however rudely. */
function isGoodbye(error: Error): boolean {
  return 'code' in error && (error.code === 'ECONNRESET' || error.code === 'EPIPE')
}

function describe({ file, problem }: FileProblem): Record<string, unknown> {
  if (problem === undefined) return { file, problem: 'it can not be read: it admits nobody' }
  return { file, line: problem.line, column: problem.column, problem: problem.message }
}
