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
import { listenPrivately } from '../doors/unix.ts'
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
  close(): void
}

/** Where to listen; `given`: what is there already. */
export interface AdminSocket {
  readonly path: string
  readonly given?: { readonly fd: number } | undefined
}

/** Where to listen, and the file with the token that is demanded. */
export interface AdminHttp {
  readonly host: string
  /** 0: any free one. */
  readonly port: number
  readonly tokenFile?: string | undefined
  /** A socket that listens there already. */
  readonly given?: { readonly fd: number } | undefined
}

/**
 * Opens the admin socket; one that a killed gateway left behind is replaced.
 * @throws DoorError if somebody listens there, or it can not be made
 */
export async function openAdmin({ path, given }: AdminSocket, managed: Managed): Promise<Admin> {
  const closing = new AbortController()
  const server = serve(allRoutes(managed, { guard: forwardGuard(), signal: closing.signal, page: loadPage() }))
  if (given !== undefined) {
    await listenOn(server, given, path)
    return { address: path, close: () => close(server, closing) }
  }
  const { remove } = await listenPrivately(path, MODE, where => listenOn(server, where, path))
  return {
    address: path,
    close: () => {
      close(server, closing)
      remove()
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
  return { address, close: () => close(server, closing) }
}

function serve(app: OpenAPIHono<AdminEnv>): Server {
  const server = createAdaptorServer({ fetch: app.fetch }) as Server
  server.maxConnections = MAX_CONNECTIONS
  server.headersTimeout = REQUEST_MS
  server.requestTimeout = REQUEST_MS
  return server
}

async function listenOn(
  server: Server,
  options: ListenOptions | { readonly fd: number },
  place: string,
): Promise<void> {
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
