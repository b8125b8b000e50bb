import { Validator } from '@seriousme/openapi-schema-validator'
import { expect, it } from 'vitest'
import { z } from 'zod'
import {
  certificateSchema,
  gatewaySchema,
  regionsSchema,
  trafficSchema,
  waitingSchema,
} from '../../../src/admin/activity-schemas.ts'
import { allRoutes, viewRoutes } from '../../../src/admin/routes.ts'
import {
  eventSchema,
  explanationSchema,
  exportSchema,
  leaseSchema,
  overlaySchema,
  readinessSchema,
  reloadSchema,
  sessionSchema,
} from '../../../src/admin/schemas.ts'
import { managed } from './managed.ts'

const document = z.looseObject({ paths: z.record(z.string(), z.record(z.string(), z.unknown())) })

async function describe(app: ReturnType<typeof allRoutes>) {
  return document.parse(await (await app.request('/v1/openapi.json')).json())
}

/** `GET /v1/sessions`, as the description has them. */
const described = ({ paths }: z.infer<typeof document>) =>
  Object.entries(paths).flatMap(([path, methods]) => Object.keys(methods).map(each => `${each.toUpperCase()} ${path}`))

it.each([
  ['the socket', allRoutes(managed())],
  ['http', viewRoutes(managed())],
])('the description for %s is valid OpenAPI and has every route in it', async (_, app) => {
  const found = await describe(app)
  const { valid, errors } = await new Validator().validate(structuredClone(found))
  expect(errors).toBeUndefined()
  expect(valid).toBe(true)
  const served = app.routes
    .filter(({ method, path }) => method !== 'ALL' && path !== '/v1/openapi.json')
    .map(({ method, path }) => `${method} ${path.replace(/:(\w+)/g, '{$1}')}`)
  expect([...new Set(served)].toSorted()).toEqual(described(found).toSorted())
})

it('http has nothing that changes anything', async () => {
  const found = described(await describe(viewRoutes(managed())))
  expect(found.filter(each => !each.startsWith('GET '))).toEqual([])
  const all = described(await describe(allRoutes(managed())))
  expect(all.filter(each => !each.startsWith('GET ')).toSorted()).toEqual([
    'DELETE /v1/leases',
    'DELETE /v1/overlays/{id}',
    'DELETE /v1/sessions/{id}',
    'POST /v1/drain',
    'POST /v1/reload',
    'PUT /v1/overlays/{id}/kept',
  ])
  const changes = ['DELETE /v1/sessions/7', 'DELETE /v1/leases?export=disk', 'POST /v1/reload', 'POST /v1/drain']
  for (const each of [...changes, 'DELETE /v1/overlays/a', 'PUT /v1/overlays/a/kept']) {
    const [method, path] = each.split(' ')
    const gateway = managed({ kick: () => expect.unreachable(), drain: () => expect.unreachable() })
    expect((await viewRoutes(gateway).request(path ?? '', { method: method ?? '' })).status).toBe(404)
  }
})

it('answers are what the description says', async () => {
  const app = allRoutes(managed())
  const answers: readonly (readonly [string, string, z.ZodType])[] = [
    ['GET', '/v1/sessions', z.strictObject({ sessions: z.array(sessionSchema.strict()) })],
    ['GET', '/v1/sessions/7/explanation', explanationSchema.strict()],
    ['GET', '/v1/exports', z.strictObject({ exports: z.array(exportSchema.strict()) })],
    ['GET', '/v1/leases', z.strictObject({ leases: z.array(leaseSchema.strict()) })],
    ['GET', '/v1/gateway', gatewaySchema.strict()],
    ['GET', '/v1/traffic', trafficSchema.strict()],
    ['GET', '/v1/regions?export=disk', regionsSchema.strict()],
    ['GET', '/v1/waiting', z.strictObject({ waiting: z.array(waitingSchema.strict()) })],
    ['GET', '/v1/refusals', z.strictObject({ refusals: z.array(eventSchema.strict()) })],
    ['GET', '/v1/certificates', z.strictObject({ certificates: z.array(certificateSchema.strict()) })],
    ['DELETE', '/v1/leases?export=disk', z.strictObject({ released: z.literal(1) })],
    ['GET', '/v1/overlays', z.strictObject({ overlays: z.array(overlaySchema.strict()) })],
    ['POST', '/v1/reload', reloadSchema],
    ['GET', '/readyz', readinessSchema.strict()],
  ]
  for (const [method, path, schema] of answers) {
    const response = await app.request(path, { method })
    expect([path, response.status]).toEqual([path, 200])
    schema.parse(await response.json())
  }
})
