import { once } from 'node:events'
import { chmodSync, lstatSync, rmSync, unlinkSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { bindUnix } from '../platform/descriptors.ts'
import { descriptorOf, peerCredentials } from '../platform/libc.ts'
import type { Identity } from '../policy/identity.ts'
import { DuplexStream } from '../stream/duplex-stream.ts'
import type { Accepted, Door, GateReception, Reception, Room, RoomReception, TurnedAway } from './door.ts'
import { DoorError } from './errors.ts'
import { closeServer, type Given, type Listener, listen, listenError, listenerOf } from './listen.ts'

export interface UnixDoorOptions {
  readonly path: string
  /** Permission bits of the socket, 0o660 say. */
  readonly mode: number
  /** What is there already; its path and mode are its maker's. */
  readonly given?: Given | undefined
}

/** A door that listens on a Unix socket. */
export interface UnixDoor extends Door {
  /** Takes another mode. @throws the system's error if the socket's file is gone */
  reload(options: UnixDoorOptions): void
}

/**
 * Opens a door on a Unix socket. A socket that nobody listens on any more is replaced; a live one, or any other file, is
 * not. @throws DoorError
 */
export async function openUnixDoor(options: UnixDoorOptions, reception: Reception): Promise<UnixDoor> {
  return await openUnixGate(options, reception, new UnixRoom(reception))
}

/** As openUnixDoor, to a room that may be elsewhere. @throws DoorError */
export async function openUnixGate(
  { path, mode, given }: UnixDoorOptions,
  reception: GateReception,
  room: Room<UnixDoorOptions>,
): Promise<UnixDoor> {
  const judge = (socket: Socket, reason: TurnedAway | undefined): void => {
    if (reason === undefined) {
      room.take({ socket, isBalancer: false })
      return
    }
    const { peer } = identify(socket)
    socket.destroy()
    reception.turnedAway(peer, reason)
  }
  const accept = (socket: Socket): void => {
    socket.on('error', () => {})
    const answer = reception.admit(undefined)
    if (answer instanceof Promise) void answer.then(reason => judge(socket, reason))
    else judge(socket, answer)
  }
  const { server, remove } = await (given === undefined
    ? listenPrivately(path, mode, where => listen(where, path, accept))
    : takeOver(path, given, () => listen(given, path, accept)))
  const isOurs = given === undefined || ('isOurs' in given && given.isOurs === true)
  let isReleased = false
  server.on('error', error => reception.failed(error))
  return {
    kind: 'unix',
    address: path,
    reload: next => (isOurs ? chmodSync(path, next.mode) : undefined),
    listener: () => listenerOf(server, isOurs),
    release: async () => {
      isReleased = true
      await closeServer(server)
    },
    close: async () => {
      await closeServer(server)
      if (!isReleased) remove()
      room.close()
    },
  }
}

/** What is behind a Unix door: the visitor is who the kernel says. */
export class UnixRoom implements Room<UnixDoorOptions> {
  readonly #reception: RoomReception

  constructor(reception: RoomReception) {
    this.#reception = reception
  }

  take({ socket }: Accepted): void {
    this.#reception.enter({ stream: new DuplexStream(socket), door: 'unix', ...identify(socket) })
  }

  reload(): void {}

  close(): void {}
}

/** What listens, and how its path is taken away when it does not any more. */
export interface Listening<T> {
  readonly server: T
  remove(): void
}

/**
 * Opens a Unix socket that `listen` listens on, with a path to bind or a socket that is bound. One that nobody listens on any
 * more is replaced. It is made with no permissions at all and opened up afterwards: nobody slips in between bind() and
 * chmod(). @throws DoorError
 */
export async function listenPrivately<T>(
  path: string,
  mode: number,
  listen: (where: { readonly path: string } | { readonly fd: number }) => Promise<T>,
): Promise<Listening<T>> {
  await removeStale(path)
  const before = process.umask(0o777)
  let listening: Promise<T>
  try {
    const fd = bindUnix(path)
    listening = listen(fd === undefined ? { path } : { fd })
  } catch (error) {
    throw listenError(path, error)
  } finally {
    process.umask(before)
  }
  const server = await listening
  chmodSync(path, mode)
  const { ino } = lstatSync(path)
  return { server, remove: () => removeOwn(path, ino) }
}

/** Listens at a socket that is there; its path is taken away in the end if it is the gateway's own. */
export async function takeOver<T>(
  path: string,
  given: Given | Listener,
  listen: () => Promise<T>,
): Promise<Listening<T>> {
  const isOurs = 'isOurs' in given && given.isOurs === true
  const ino = isOurs ? lstatSync(path, { throwIfNoEntry: false })?.ino : undefined
  return { server: await listen(), remove: () => (ino === undefined ? undefined : removeOwn(path, ino)) }
}

/** Node does it where it has bound the path itself. */
function removeOwn(path: string, ino: number): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.ino === ino) rmSync(path, { force: true })
}

function identify(socket: Socket): { readonly peer: string; readonly identity: Identity } {
  const descriptor = descriptorOf(socket)
  const credentials = descriptor === undefined ? undefined : peerCredentials(descriptor)
  // Without credentials no uid: or gid: rule holds: closed by default.
  if (credentials === undefined) return { peer: 'unix', identity: {} }
  const { uid, gid, pid } = credentials
  return { peer: `uid ${uid} pid ${pid}`, identity: { uid, gid } }
}

async function removeStale(path: string): Promise<void> {
  const stats = lstatSync(path, { throwIfNoEntry: false })
  if (stats === undefined) return
  if (!stats.isSocket()) throw new DoorError(`can not listen on ${path}: there is a file that is no socket`)
  if (await isLive(path)) throw new DoorError(`can not listen on ${path}: the address is in use`)
  unlinkSync(path)
}

async function isLive(path: string): Promise<boolean> {
  const socket = connect(path)
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(2000) })
    return true
  } catch (error) {
    // Only a refusal proves that nobody listens; a full backlog or missing rights do not.
    return !(error instanceof Error && 'code' in error && error.code === 'ECONNREFUSED')
  } finally {
    socket.destroy()
  }
}
