import { once } from 'node:events'
import { chmodSync, lstatSync, unlinkSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { descriptorOf, peerCredentials } from '../platform/libc.ts'
import type { Identity } from '../policy/identity.ts'
import { DuplexStream } from '../stream/duplex-stream.ts'
import type { Accepted, Door, GateReception, Reception, Room, RoomReception } from './door.ts'
import { DoorError } from './errors.ts'
import { closeServer, listen } from './listen.ts'

export interface UnixDoorOptions {
  readonly path: string
  /** Permission bits of the socket, 0o660 say. */
  readonly mode: number
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
  { path, mode }: UnixDoorOptions,
  reception: GateReception,
  room: Room<UnixDoorOptions>,
): Promise<UnixDoor> {
  const accept = (socket: Socket): void => {
    socket.on('error', () => {})
    const reason = reception.admit(undefined)
    if (reason === undefined) {
      room.take({ socket, isBalancer: false })
      return
    }
    const { peer } = identify(socket)
    socket.destroy()
    reception.turnedAway(peer, reason)
  }
  const server = await listenPrivately(path, mode, () => listen({ path }, path, accept))
  server.on('error', error => reception.failed(error))
  return {
    kind: 'unix',
    address: path,
    reload: next => chmodSync(path, next.mode),
    close: async () => {
      await closeServer(server)
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

/**
 * Opens a Unix socket that `bind` binds before it returns. One that nobody listens on any more is replaced. It is made
 * with no permissions at all and opened up afterwards: nobody slips in between bind() and chmod(). @throws DoorError
 */
export async function listenPrivately<T>(path: string, mode: number, bind: () => Promise<T>): Promise<T> {
  await removeStale(path)
  const before = process.umask(0o777)
  const listening = bind()
  process.umask(before)
  const server = await listening
  chmodSync(path, mode)
  return server
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
