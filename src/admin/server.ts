/**
 * The admin socket: HTTP with JSON on a Unix socket, for whoever may open it. Full control, so the socket is its owner's
 * alone. And the same over TCP for those who only look: on loopback, or elsewhere with a token.
 */
import { once } from 'node:events'
import type { Server } from 'node:http'
import type { ListenOptions } from 'node:net'
import { createAdaptorServer } from '@hono/node-server'
import type { OpenAPIHono } from '@hono/zod-openapi'
import { DoorError } from '../doors/errors.ts'
import { type Listener, listenerOf } from '../doors/listen.ts'
import { listenPrivately, takeOver } from '../doors/unix.ts'
import { forwardGuard, guard } from './guard.ts'
import type { Managed, Observed } from './managed.ts'
import { loadPage } from './page-files.ts'
import { allRoutes, viewRoutes } from './routes.ts'
import { loadToken } from './token.ts'
import type { AdminEnv } from './views.ts'

/** Permissions of the socket. */
const MODE = 0o600

/** Of one listener; each holds a descriptor that a visitor could have. */
const MAX_CONNECTIONS = 64

/** How long a client may take to say what it wants. */
const REQUEST_MS = 10_000

/** An open admin socket, or HTTP listener. */
export interface Admin {
  /** A path, or `127.0.0.1:9180`. */
  readonly address: string
  /** The socket that it listens at, for another process. */
  listener(): Listener | undefined
  /** Another process listens there now. */
  release(): void
  close(): void
}

/** Where to listen; `given`: what is there already. */
export interface AdminSocket {
  readonly path: string
  readonly given?: Listener | undefined
}

/** Where to listen, and the file with the token that is demanded. */
export interface AdminHttp {
  readonly host: string
  /** 0: any free one. */
  readonly port: number
  readonly tokenFile?: string | undefined
  /** A socket that listens there already. */
  readonly given?: Listener | undefined
}

/**
 * Opens the admin socket; one that a killed gateway left behind is replaced.
 * @throws DoorError if somebody listens there, or it can not be made
 */
export async function openAdmin({ path, given }: AdminSocket, managed: Managed): Promise<Admin> {
  const closing = new AbortController()
  const server = serve(allRoutes(managed, { guard: forwardGuard(), signal: closing.signal, page: loadPage() }))
  const { remove } = await (given === undefined
    ? listenPrivately(path, MODE, where => listenOn(server, where, path))
    : takeOver(path, given, () => listenOn(server, given, path)))
  const isOurs = given === undefined || given.isOurs === true
  let isReleased = false
  return {
    address: path,
    listener: () => listenerOf(server, isOurs),
    release: () => {
      isReleased = true
      close(server, closing)
    },
    close: () => {
      close(server, closing)
      if (!isReleased) remove()
    },
  }
}

/** Opens what may only look, over TCP. @throws DoorError, TokenError */
export async function openAdminHttp({ host, port, tokenFile, given }: AdminHttp, observed: Observed): Promise<Admin> {
  const token = tokenFile === undefined ? undefined : loadToken(tokenFile)
  const closing = new AbortController()
  const server = serve(viewRoutes(observed, { guard: guard(host, token), signal: closing.signal, page: loadPage() }))
  const shown = host.includes(':') ? `[${host}]` : host
  await listenOn(server, given ?? { host, port }, `${shown}:${port}`)
  const bound = server.address()
  const address = `${shown}:${typeof bound === 'object' && bound !== null ? bound.port : port}`
  const end = (): void => close(server, closing)
  return { address, listener: () => listenerOf(server, true), release: end, close: end }
}

function serve(app: OpenAPIHono<AdminEnv>): Server {
  const server = createAdaptorServer({ fetch: app.fetch }) as Server
  server.maxConnections = MAX_CONNECTIONS
  server.headersTimeout = REQUEST_MS
  server.requestTimeout = REQUEST_MS
  return server
}

async function listenOn(server: Server, options: ListenOptions | Listener, place: string): Promise<void> {
  server.listen(options)
  try {
    await once(server, 'listening')
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? `: ${error.code}` : ''
    throw new DoorError(`can not listen on ${place}${code}`, { cause: error })
  }
}

function close(server: Server, closing: AbortController): void {
  closing.abort()
  server.close()
  server.closeAllConnections()
}
