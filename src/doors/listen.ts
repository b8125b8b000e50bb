import { once } from 'node:events'
import { createServer, type ListenOptions, type Server, type Socket } from 'node:net'
import { descriptorOf } from '../platform/libc.ts'
import { DoorError } from './errors.ts'

/** How long a peer may be silent before TCP asks whether it is there: a kernel client sets no keepalive of its own. */
const KEEPALIVE_DELAY_MS = 15_000

/** A socket that listens. */
export interface Listener {
  readonly fd: number
  /** The path of a Unix socket is the gateway's to take away; it is not where a service manager has made it. */
  readonly isOurs?: boolean
}

/** Connections that wait for accept, and the most that Linux allows by default: beyond them the kernel drops a SYN, whose sender waits a second. */
export const BACKLOG = 4096

/** What is there already: a socket that listens, or the only connection that there will ever be. */
export type Given = Listener | { readonly connection: Socket }

/**
 * Listens, and hands over accepted sockets, paused and with TCP_NODELAY: a reply of 16 bytes must not wait for an ACK.
 * @throws DoorError that names `place`
 */
export async function listen(
  options: ListenOptions | Given,
  place: string,
  accept: (socket: Socket) => void,
): Promise<Server> {
  const server = createServer(
    {
      // A client may end its direction after the last request and still wants the replies.
      allowHalfOpen: true,
      pauseOnConnect: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: KEEPALIVE_DELAY_MS,
    },
    accept,
  )
  if ('connection' in options) {
    // There is the one visitor, and there will be no other.
    setImmediate(accept, options.connection)
    return server
  }
  try {
    server.listen({ ...options, backlog: BACKLOG })
    await once(server, 'listening')
  } catch (error) {
    throw listenError(place, error)
  }
  return server
}

/** The descriptor that a server listens at, for another process. */
export function listenerOf(server: Server, isOurs: boolean): Listener | undefined {
  const fd = server.listening ? descriptorOf(server) : undefined
  return fd === undefined ? undefined : { fd, isOurs }
}

/** Closes a listening server; its connections stay. */
export async function closeServer(server: Server): Promise<void> {
  await new Promise<void>(resolve => {
    // Not server.close(callback) alone: that calls back only when the last connection has gone.
    server.close()
    resolve()
  })
}

/** What a listener says that could not be opened. */
export function listenError(place: string, error: unknown): DoorError {
  return new DoorError(`can not listen on ${place}: ${sentenceOf(error)}`, { cause: error })
}

function sentenceOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  switch (code) {
    case 'EADDRINUSE':
      return 'the address is in use'
    case 'EADDRNOTAVAIL':
      return 'this host has no such address'
    case 'EACCES':
      return 'permission denied'
    case 'ENOENT':
      return 'no such directory'
    default:
      return typeof code === 'string' ? code : 'unknown error'
  }
}
