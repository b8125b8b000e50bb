import { expect, it } from 'vitest'
import { guard } from '../../../src/admin/guard.ts'
import type { Managed } from '../../../src/admin/managed.ts'
import { allRoutes, viewRoutes } from '../../../src/admin/routes.ts'
import { managed, session } from './managed.ts'

const TOKEN = 'correct horse battery staple'.replaceAll(' ', '-')
const isToken = (header: string | undefined) => header === `Bearer ${TOKEN}`
const open = viewRoutes(managed(), { guard: guard('127.0.0.1', undefined) })

const get = (app: typeof open, path: string, headers: Record<string, string> = {}) => app.request(path, { headers })

it.each(['127.0.0.1:9180', 'localhost:9180', 'LOCALHOST', '[::1]:9180', '127.0.0.1'])(
  'on loopback %s is one of its names',
  async host => {
    expect((await get(open, '/v1/sessions', { host })).status).toBe(200)
  },
)

it.each(['evil.example:9180', 'localhost.evil.example', '127.0.0.1.evil.example:9180', 'evil.example:127', '', '[::1'])(
  'a page that calls it "%s" gets no answer',
  async host => {
    for (const path of ['/v1/sessions', '/metrics', '/healthz', '/readyz', '/v1/openapi.json']) {
      expect([path, (await get(open, path, { host })).status]).toEqual([path, 421])
    }
  },
)

it('with a token there is nothing without it but health, which says no more than yes or no', async () => {
  const readiness: Managed['readiness'] = async () => [{ name: 'upstreams', problems: ['disk: nbd://10.0.0.9: down'] }]
  const app = viewRoutes(managed({ readiness }), { guard: guard('0.0.0.0', isToken) })
  const wrong: Record<string, string>[] = [{}, { authorization: 'Bearer wrong' }, { authorization: `Basic ${TOKEN}` }]
  for (const headers of wrong) {
    for (const path of ['/v1/sessions', '/v1/exports', '/v1/events', '/metrics', '/v1/openapi.json', '/nothing']) {
      expect([path, (await get(app, path, headers)).status]).toEqual([path, 401])
    }
    expect((await get(app, '/healthz', headers)).status).toBe(200)
    const ready = await get(app, '/readyz', headers)
    expect([ready.status, await ready.json()]).toEqual([503, { ready: false }])
  }
  const known = { authorization: `Bearer ${TOKEN}`, host: 'gateway.example:9180' }
  expect((await get(app, '/v1/sessions', known)).status).toBe(200)
  expect(await (await get(app, '/readyz', known)).json()).toMatchObject({
    checks: [{ name: 'upstreams', ok: false, problems: ['disk: nbd://10.0.0.9: down'] }],
  })
})

it('no answer may be read by a page of another origin, framed, sniffed or kept', async () => {
  for (const path of ['/v1/sessions', '/metrics', '/nothing']) {
    const headers = Object.fromEntries(
      (await get(open, path, { host: 'localhost', origin: 'https://evil.example' })).headers,
    )
    expect(headers).toMatchObject({
      'content-security-policy': expect.stringContaining("default-src 'none'"),
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      'cross-origin-resource-policy': 'same-origin',
      'referrer-policy': 'no-referrer',
      'cache-control': 'no-store',
    })
    expect(Object.keys(headers).filter(name => name.startsWith('access-control'))).toEqual([])
  }
})

it('what can not be understood is refused with a sentence', async () => {
  const app = allRoutes(managed())
  const answer = async (method: string, path: string) => {
    const response = await app.request(path, { method })
    return [response.status, await response.json()]
  }
  expect(await answer('DELETE', '/v1/sessions/abc')).toEqual([400, { error: 'a session has a number' }])
  expect(await answer('DELETE', `/v1/sessions/${'9'.repeat(400)}`)).toEqual([400, { error: 'a session has a number' }])
  expect(await answer('DELETE', '/v1/sessions/8')).toEqual([404, { error: 'there is no such session' }])
  expect(await answer('DELETE', '/v1/leases')).toEqual([400, { error: 'which export?' }])
  expect(await answer('DELETE', '/v1/leases?export=nix')).toEqual([404, { error: 'there is no such lease' }])
  expect(await answer('DELETE', '/v1/overlays/nix')).toEqual([404, { error: 'there is no such overlay' }])
  expect(await answer('DELETE', '/v1/overlays/..%2Fa')).toEqual([400, { error: 'that is no id of an overlay' }])
  expect(await answer('DELETE', '/v1/overlays/used')).toEqual([
    409,
    { error: expect.stringContaining('somebody uses it') },
  ])
  expect(await answer('PUT', '/v1/overlays/nix/kept')).toMatchObject([400, { error: expect.any(String) }])
  expect(await answer('GET', '/v1/nothing')).toEqual([404, { error: 'there is no such thing' }])
})

it('a bug says nothing of itself', async () => {
  const failing = allRoutes(managed({ sessions: () => Promise.reject(new Error('/etc/secret')) }))
  const response = await failing.request('/v1/sessions')
  expect([response.status, await response.text()]).toEqual([500, '{"error":"this failed inside the gateway"}'])
})

it('lists 10,000 sessions', async () => {
  const many = Array.from({ length: 10_000 }, (_, id) => session(id))
  const response = await allRoutes(managed({ sessions: async () => many })).request('/v1/sessions')
  expect(await response.json()).toEqual({ sessions: many })
})

it('asks about the exports that readiness is asked for', async () => {
  const asked: unknown[] = []
  const readiness: Managed['readiness'] = async names => {
    asked.push(names)
    return []
  }
  const app = viewRoutes(managed({ readiness }))
  for (const query of ['', '?export=a', '?export=a&export=b%2Fc']) await app.request(`/readyz${query}`)
  expect(asked).toEqual([undefined, ['a'], ['a', 'b/c']])
})

it('has room for sixteen listeners, and for the next when one has gone', async () => {
  let listening = 0
  const listen = () => {
    listening++
    return () => listening--
  }
  const app = viewRoutes(managed({ listen }))
  const streams = await Promise.all(Array.from({ length: 16 }, () => app.request('/v1/events')))
  expect(streams.map(({ status }) => status)).toEqual(Array.from({ length: 16 }, () => 200))
  expect((await app.request('/v1/events')).status).toBe(503)
  await streams[3]?.body?.cancel()
  expect(listening).toBe(15)
  const next = await app.request('/v1/events')
  expect(next.status).toBe(200)
  for (const each of [...streams, next]) if (!each.bodyUsed) await each.body?.cancel().catch(() => {})
  expect(listening).toBe(0)
})
