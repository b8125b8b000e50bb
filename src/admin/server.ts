/**
 * The admin socket: HTTP with JSON on a Unix socket, for whoever may open it. Full control, so the socket is its owner's
 * alone.
 */
import { once } from 'node:events'
import type { Server } from 'node:http'
import { createAdaptorServer } from '@hono/node-server'
import { Hono } from 'hono'
import { DoorError } from '../doors/errors.ts'
import { listenPrivately } from '../doors/unix.ts'
import type { Managed } from './managed.ts'

/** Permissions of the socket. */
const MODE = 0o600

const UNKNOWN_SESSION = 'there is no such session'

/** An open admin socket. */
export interface Admin {
  readonly path: string
  close(): void
}

/**
 * Opens the admin socket; one that a killed gateway left behind is replaced.
 * @throws DoorError if somebody listens there, or it can not be made
 */
export async function openAdmin(path: string, managed: Managed): Promise<Admin> {
  const server = createAdaptorServer({ fetch: routes(managed).fetch }) as Server
  await listenPrivately(path, MODE, async () => {
    server.listen(path)
    try {
      await once(server, 'listening')
    } catch (error) {
      throw new DoorError(`can not listen on ${path}`, { cause: error })
    }
  })
  return {
    path,
    close: () => {
      server.close()
      server.closeAllConnections()
    },
  }
}

/** What there is to ask; paths and fields are stable within `/v1`. */
export function routes(managed: Managed): Hono {
  const app = new Hono()
  app.get('/v1/sessions', async context => context.json({ sessions: await managed.sessions() }))
  app.get('/v1/sessions/:id{[0-9]+}/explanation', async context => {
    const explanation = await managed.explain(Number(context.req.param('id')))
    return explanation === undefined ? context.json({ error: UNKNOWN_SESSION }, 404) : context.json(explanation)
  })
  app.delete('/v1/sessions/:id{[0-9]+}', async context => {
    const isKnown = await managed.kick(Number(context.req.param('id')))
    return isKnown ? context.body(null, 204) : context.json({ error: UNKNOWN_SESSION }, 404)
  })
  app.get('/v1/leases', context => context.json({ leases: managed.leases() }))
  app.delete('/v1/leases', async context => {
    const name = context.req.query('export')
    if (name === undefined) return context.json({ error: 'which export?' }, 400)
    const released = await managed.releaseLease(name, context.req.query('holder'))
    return released > 0 ? context.json({ released }) : context.json({ error: 'there is no such lease' }, 404)
  })
  app.post('/v1/reload', async context => {
    const result = await managed.reload()
    return result.kind === 'reloaded' ? context.json(result) : context.json(result, 409)
  })
  app.post('/v1/drain', context => {
    managed.drain()
    return context.body(null, 202)
  })
  app.notFound(context => context.json({ error: 'there is no such thing' }, 404))
  return app
}
