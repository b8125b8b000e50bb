/** What only the admin socket can ask: all that changes something. */
import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import { json, problem } from './answers.ts'
import type { Managed } from './managed.ts'
import { reloadSchema } from './schemas.ts'
import { type AdminEnv, sessionId, UNKNOWN_SESSION } from './views.ts'

const ONLY_SOCKET = 'On the admin socket alone.'

const kick = createRoute({
  method: 'delete',
  path: '/v1/sessions/{id}',
  summary: 'End a session now',
  description: ONLY_SOCKET,
  request: { params: sessionId },
  responses: {
    204: { description: 'It is ended.' },
    400: problem('It has no number.'),
    404: problem('There is no such session.'),
  },
})

const release = createRoute({
  method: 'delete',
  path: '/v1/leases',
  summary: "End the sessions of an export's holders, and wait until their leases are free",
  description: ONLY_SOCKET,
  request: {
    query: z.object({
      export: z.string({ error: 'which export?' }),
      holder: z.string().optional().describe('This one alone, as `GET /v1/leases` shows it.'),
    }),
  },
  responses: {
    200: json(z.object({ released: z.int() }), 'How many there were.'),
    400: problem('It names no export.'),
    404: problem('Nobody holds it.'),
  },
})

const overlayId = z.object({
  id: z
    .string()
    .regex(/^[\w.-]{1,128}$/, 'that is no id of an overlay')
    .openapi({ param: { name: 'id', in: 'path' } }),
})

const removeOverlay = createRoute({
  method: 'delete',
  path: '/v1/overlays/{id}',
  summary: 'Clean up what was made for somebody, and wait until that is done',
  description: ONLY_SOCKET,
  request: { params: overlayId },
  responses: {
    204: { description: 'It is gone.' },
    400: problem('That is no id.'),
    404: problem('There is no such overlay.'),
    409: problem('Somebody uses it.'),
  },
})

const keepOverlay = createRoute({
  method: 'put',
  path: '/v1/overlays/{id}/kept',
  summary: 'Keep one however old it gets, or let it age again',
  description: ONLY_SOCKET,
  request: {
    params: overlayId,
    body: { required: true, content: { 'application/json': { schema: z.object({ kept: z.boolean() }) } } },
  },
  responses: {
    204: { description: 'So it is.' },
    400: problem('That is no id, or it does not say which.'),
    404: problem('There is no such overlay.'),
  },
})

const reload = createRoute({
  method: 'post',
  path: '/v1/reload',
  summary: 'Read the configuration and all it names again',
  description: ONLY_SOCKET,
  responses: { 200: json(reloadSchema, 'Done.'), 409: json(reloadSchema, 'All stays as it was.') },
})

const drain = createRoute({
  method: 'post',
  path: '/v1/drain',
  summary: 'Let nobody in any more, and end when the last session has',
  description: ONLY_SOCKET,
  responses: { 202: { description: 'It has begun.' } },
})

const UNKNOWN_OVERLAY = 'there is no such overlay'

/** Adds the routes that change something. */
export function addControls(app: OpenAPIHono<AdminEnv>, managed: Managed): void {
  app.openapi(kick, async context => {
    const isKnown = await managed.kick(Number(context.req.valid('param').id))
    return isKnown ? context.body(null, 204) : context.json({ error: UNKNOWN_SESSION }, 404)
  })
  app.openapi(release, async context => {
    const { export: name, holder } = context.req.valid('query')
    const released = await managed.releaseLease(name, holder)
    return released > 0 ? context.json({ released }, 200) : context.json({ error: 'there is no such lease' }, 404)
  })
  app.openapi(removeOverlay, async context => {
    const removal = await managed.removeOverlay(context.req.valid('param').id)
    if (removal === 'removed') return context.body(null, 204)
    if (removal === 'unknown') return context.json({ error: UNKNOWN_OVERLAY }, 404)
    return context.json({ error: 'somebody uses it: `nbdgate kick` ends sessions' }, 409)
  })
  app.openapi(keepOverlay, async context => {
    const isKnown = await managed.keepOverlay(context.req.valid('param').id, context.req.valid('json').kept)
    return isKnown ? context.body(null, 204) : context.json({ error: UNKNOWN_OVERLAY }, 404)
  })
  app.openapi(reload, async context => {
    const result = await managed.reload()
    return context.json(result, result.kind === 'reloaded' ? 200 : 409)
  })
  app.openapi(drain, context => {
    managed.drain()
    return context.body(null, 202)
  })
}
