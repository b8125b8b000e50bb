/** The gateway itself, and what goes on in it: what the page shows beside sessions, exports and leases. */
import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import { BOUNDS_SECONDS } from '../observe/histogram.ts'
import { certificateSchema, gatewaySchema, regionsSchema, trafficSchema, waitingSchema } from './activity-schemas.ts'
import { json, problem } from './answers.ts'
import type { Observed } from './managed.ts'
import { eventSchema } from './schemas.ts'
import type { AdminEnv } from './views.ts'

/** Whether what changes something can be asked for as well. */
export type Access = 'look' | 'full'

const gateway = createRoute({
  method: 'get',
  path: '/v1/gateway',
  summary: 'What runs here',
  responses: { 200: json(gatewaySchema, 'The gateway.'), 503: problem('It is still starting.') },
})

const traffic = createRoute({
  method: 'get',
  path: '/v1/traffic',
  summary: 'What has passed on each export, and how long its upstream took',
  description: 'Of those that an upstream lists, the ones that are in use or were lately.',
  responses: { 200: json(trafficSchema, 'Counts since the gateway has started; they begin again with a worker.') },
})

const regions = createRoute({
  method: 'get',
  path: '/v1/regions',
  summary: 'Which regions of an export are read and written',
  description:
    'Counted from the first question on, until nobody has asked for a quarter of a minute: two answers differ by what has happened in between.',
  request: { query: z.object({ export: z.string({ error: 'which export?' }) }) },
  responses: {
    200: json(regionsSchema, 'A count for each of 1,024 regions at most.'),
    400: problem('It names no export.'),
    404: problem('There is no such export.'),
  },
})

const waiting = createRoute({
  method: 'get',
  path: '/v1/waiting',
  summary: 'Who waits for an export',
  responses: { 200: json(z.object({ waiting: z.array(waitingSchema).readonly() }), 'The oldest first.') },
})

const refusals = createRoute({
  method: 'get',
  path: '/v1/refusals',
  summary: 'Who was refused, and why',
  responses: {
    200: json(z.object({ refusals: z.array(eventSchema).readonly() }), 'The last hundred at most, the newest first.'),
  },
})

const certificates = createRoute({
  method: 'get',
  path: '/v1/certificates',
  summary: 'When certificates and revocation lists end',
  responses: {
    200: json(z.object({ certificates: z.array(certificateSchema).readonly() }), 'Looked at now and then.'),
  },
})

/** Adds the routes; `access` is told to who asks. */
export function addActivity(app: OpenAPIHono<AdminEnv>, observed: Observed, access: Access): void {
  app.openapi(gateway, context => {
    const about = observed.about()
    if (about === undefined) return context.json({ error: 'the gateway is still starting' }, 503)
    return context.json({ ...about, access }, 200)
  })
  app.openapi(traffic, async context => {
    return context.json({ bounds: BOUNDS_SECONDS, exports: await observed.traffic() }, 200)
  })
  app.openapi(regions, async context => {
    const found = await observed.regions(context.req.valid('query').export)
    return found === undefined
      ? context.json({ error: 'there is no such export' }, 404)
      : context.json({ ...found }, 200)
  })
  app.openapi(waiting, context => context.json({ waiting: observed.waiting() }, 200))
  app.openapi(refusals, context => context.json({ refusals: observed.refusals() }, 200))
  app.openapi(certificates, context => context.json({ certificates: observed.certificates() }, 200))
}
