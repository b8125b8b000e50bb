import { isIP } from 'node:net'
import type { MiddlewareHandler } from 'hono'
import { isPagePath } from './page-files.ts'
import type { TokenCheck } from './token.ts'

/** Anybody may know that the process is there and whether it is ready: balancers send no tokens. */
const OPEN_PATHS = ['/healthz', '/readyz']

/**
 * Keeps out who has no token where one is demanded. Without one the listener is on loopback, where every page in a browser
 * can reach it too: a name of the page's own that leads here (DNS rebinding) is not answered.
 */
export function guard(host: string, token: TokenCheck | undefined): MiddlewareHandler {
  return async (context, next) => {
    if (token === undefined) {
      if (isOwnName(context.req.header('host') ?? '', host)) return await next()
      return context.json({ error: 'this is not the name of this host' }, 421)
    }
    const isKnown = token(context.req.header('authorization'))
    context.set('isKnown', isKnown)
    const { path } = context.req
    if (isKnown || OPEN_PATHS.includes(path) || isPagePath(path)) return await next()
    context.header('WWW-Authenticate', 'Bearer')
    return context.json({ error: 'a token is needed' }, 401)
  }
}

/**
 * For the admin socket, which a browser reaches only through a forward (`ssh -L 9180:/run/nbdgate/admin.sock`): no other page
 * may use that. Programs call the gateway whatever they like, so of names only those are refused that somebody can own.
 */
export function forwardGuard(): MiddlewareHandler {
  return async (context, next) => {
    const host = context.req.header('host') ?? ''
    const origin = context.req.header('origin')
    if (!isOwnName(host, '') && host.includes('.'))
      return context.json({ error: 'this is not the name of this host' }, 421)
    const own = [undefined, `http://${host}`, `https://${host}`]
    if (!own.includes(origin)) return context.json({ error: 'not from another page' }, 403)
    return await next()
  }
}

/** An address, `localhost`, or the name that the listener was given. A page can have none of them for its own. */
function isOwnName(header: string, host: string): boolean {
  const name = header.replace(/:\d{1,5}$/, '').toLowerCase()
  const plain = name.startsWith('[') && name.endsWith(']') ? name.slice(1, -1) : name
  return isIP(plain) !== 0 || plain === 'localhost' || plain === host.toLowerCase()
}
