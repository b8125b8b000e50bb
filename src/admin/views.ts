/** What anybody who may look at the gateway can ask: nothing here changes anything. */
import { setMaxListeners } from 'node:events'
import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import { METRICS_TYPE, metricsText } from '../observe/metrics.ts'
import { json, problem } from './answers.ts'
import { eventStream } from './event-stream.ts'
import type { Observed } from './managed.ts'
import {
  eventSchema,
  explanationSchema,
  exportSchema,
  leaseSchema,
  overlaySchema,
  readinessSchema,
  sessionSchema,
} from './schemas.ts'

/** Streams of events at once. */
const MAX_STREAMS = 16

/** Names a session, in a path. */
export const sessionId = z.object({
  id: z
    .string()
    .regex(/^\d{1,15}$/, 'a session has a number')
    .openapi({ param: { name: 'id', in: 'path' } }),
})

export const UNKNOWN_SESSION = 'there is no such session'

const sessions = createRoute({
  method: 'get',
  path: '/v1/sessions',
  summary: 'Who is on which export',
  responses: {
    200: json(
      z.object({ sessions: z.array(sessionSchema).readonly() }),
      'In transmission phase now, the oldest first.',
    ),
  },
})

const explanation = createRoute({
  method: 'get',
  path: '/v1/sessions/{id}/explanation',
  summary: 'What the rules say of a session now',
  request: { params: sessionId },
  responses: {
    200: json(explanationSchema, 'The decision, and what each rule had to do with it.'),
    400: problem('It has no number.'),
    404: problem('There is no such session.'),
  },
})

const exportsRoute = createRoute({
  method: 'get',
  path: '/v1/exports',
  summary: 'What is configured, and who is on it',
  responses: {
    200: json(
      z.object({ exports: z.array(exportSchema).readonly() }),
      'In the order of the configuration; those that upstreams list come last.',
    ),
  },
})

const leases = createRoute({
  method: 'get',
  path: '/v1/leases',
  summary: 'Who holds which export',
  responses: { 200: json(z.object({ leases: z.array(leaseSchema).readonly() }), 'The oldest first.') },
})

const overlays = createRoute({
  method: 'get',
  path: '/v1/overlays',
  summary: 'What `prepare` has made and `spawn` has started',
  responses: { 200: json(z.object({ overlays: z.array(overlaySchema).readonly() }), 'The oldest first.') },
})

const events = createRoute({
  method: 'get',
  path: '/v1/events',
  summary: 'What happens from now on, as server-sent events',
  responses: {
    200: {
      description:
        'Each event has its kind for a type. Who does not keep up is told with `skipped` how many were left out.',
      content: { 'text/event-stream': { schema: eventSchema } },
    },
    503: problem(`There are ${MAX_STREAMS} listeners already.`),
  },
})

const metrics = createRoute({
  method: 'get',
  path: '/metrics',
  summary: 'Metrics for Prometheus',
  responses: { 200: { description: 'Text format 0.0.4.', content: { 'text/plain': { schema: z.string() } } } },
})

const health = createRoute({
  method: 'get',
  path: '/healthz',
  summary: 'Whether the process is there',
  responses: { 200: { description: 'It is.', content: { 'text/plain': { schema: z.literal('ok\n') } } } },
})

const readiness = createRoute({
  method: 'get',
  path: '/readyz',
  summary: 'Whether visitors can be served',
  description: 'Doors, upstreams, certificates and the audit trail; the upstreams are asked at most every ten seconds.',
  request: {
    query: z.object({
      export: z
        .union([z.string(), z.array(z.string())])
        .optional()
        .describe('Looks at the upstreams of these exports alone; may be repeated.'),
    }),
  },
  responses: {
    200: json(readinessSchema, 'They can.'),
    503: json(readinessSchema, 'They can not; `problems` say why.'),
  },
})

/** Adds the routes that only look. */
export function addViews(app: OpenAPIHono<AdminEnv>, observed: Observed, signal: AbortSignal): void {
  app.openapi(sessions, async context => context.json({ sessions: await observed.sessions() }, 200))
  app.openapi(explanation, async context => {
    const found = await observed.explain(Number(context.req.valid('param').id))
    return found === undefined ? context.json({ error: UNKNOWN_SESSION }, 404) : context.json({ ...found }, 200)
  })
  app.openapi(exportsRoute, async context => context.json({ exports: await observed.exports() }, 200))
  app.openapi(leases, context => context.json({ leases: observed.leases() }, 200))
  app.openapi(overlays, async context => context.json({ overlays: await observed.overlays() }, 200))
  app.openapi(metrics, async context => {
    return context.text(await metricsText(await observed.metrics()), 200, { 'Content-Type': METRICS_TYPE })
  })
  app.openapi(health, context => context.text('ok\n', 200))
  app.openapi(readiness, async context => {
    const { export: names } = context.req.valid('query')
    const checks = await observed.readiness(names === undefined ? undefined : [names].flat())
    const ready = checks.every(({ problems }) => problems.length === 0)
    const told = checks.map(({ name, problems }) => ({ name, ok: problems.length === 0, problems }))
    return context.json(context.get('isKnown') === false ? { ready } : { ready, checks: told }, ready ? 200 : 503)
  })
  addEvents(app, observed, signal)
}

/** What a request carries: `isKnown` is false for who has no token where there is one. */
export interface AdminEnv {
  Variables: { isKnown?: boolean }
}

function addEvents(app: OpenAPIHono<AdminEnv>, observed: Observed, signal: AbortSignal): void {
  let streams = 0
  setMaxListeners(2 * MAX_STREAMS, signal)
  app.openapi(events, context => {
    if (streams >= MAX_STREAMS) return context.json({ error: 'there are too many listeners' }, 503)
    streams++
    const stream = eventStream(observed.listen.bind(observed), signal, () => streams--)
    return context.body(stream, 200, { 'Content-Type': 'text/event-stream', 'X-Accel-Buffering': 'no' })
  })
}
