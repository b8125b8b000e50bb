import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect, it } from 'vitest'
import { forwardGuard, guard } from '../../../src/admin/guard.ts'
import { loadPage } from '../../../src/admin/page-files.ts'
import { allRoutes, viewRoutes } from '../../../src/admin/routes.ts'
import { test } from '../../support/fixtures.ts'
import { managed } from './managed.ts'

const POLICY =
  "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; " +
  "script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'"

const withPage = test.extend('page', async ({ dir }) => {
  const folder = join(dir, 'page')
  await mkdir(folder)
  await writeFile(join(folder, 'index.html'), '<p>hello')
  await writeFile(join(folder, 'page.js'), 'let here')
  await writeFile(join(folder, 'page.ts'), 'let source: never')
  return loadPage(pathToFileURL(`${folder}/`))
})

withPage('the page comes from memory, and is not sent twice', async ({ page }) => {
  const app = viewRoutes(managed(), { page })
  const first = await app.request('/')
  expect([first.status, first.headers.get('content-type'), await first.text()]).toEqual([
    200,
    'text/html; charset=utf-8',
    '<p>hello',
  ])
  expect(first.headers.get('cache-control')).toBe('no-cache')
  expect(first.headers.get('content-security-policy')).toBe(POLICY)
  const etag = first.headers.get('etag') ?? ''
  const again = await app.request('/', { headers: { 'if-none-match': etag } })
  expect([again.status, await again.text(), again.headers.get('etag')]).toEqual([304, '', etag])
  expect((await app.request('/page/page.js', { headers: { 'if-none-match': etag } })).status).toBe(200)
  for (const path of ['/page/page.ts', '/page/..%2Findex.html', '/page/nothing', '/page/']) {
    expect([path, (await app.request(path)).status]).toEqual([path, 404])
  }
})

withPage('the page may be had without the token, and nothing else with it', async ({ page }) => {
  const app = viewRoutes(managed(), { page, guard: guard('0.0.0.0', header => header === 'Bearer right') })
  for (const path of ['/', '/page/page.js']) expect([path, (await app.request(path)).status]).toEqual([path, 200])
  for (const path of ['/v1/gateway', '/v1/traffic', '/v1/regions?export=disk', '/v1/refusals', '/page', '/pages/x']) {
    expect([path, (await app.request(path)).status]).toEqual([path, 401])
  }
})

withPage('without the token a foreign name gets no page', async ({ page }) => {
  const app = viewRoutes(managed(), { page, guard: guard('127.0.0.1', undefined) })
  expect((await app.request('/', { headers: { host: 'evil.example' } })).status).toBe(421)
})

it('says whether it can change something', async () => {
  const access = async (app: ReturnType<typeof allRoutes>) => (await app.request('/v1/gateway')).json()
  expect(await access(viewRoutes(managed()))).toMatchObject({ access: 'look' })
  expect(await access(allRoutes(managed()))).toMatchObject({ access: 'full' })
  expect((await viewRoutes(managed({ about: () => undefined })).request('/v1/gateway')).status).toBe(503)
})

it('no other page can use a forward of the admin socket', async () => {
  const app = allRoutes(managed(), { guard: forwardGuard() })
  const ask = async (host: string, origin?: string) => {
    const headers: Record<string, string> = origin === undefined ? { host } : { host, origin }
    return (await app.request('/v1/reload', { method: 'POST', headers })).status
  }
  for (const host of ['', 'localhost', 'gateway', 'localhost:9180', '127.0.0.1:9180', '[::1]:9180']) {
    expect([host, await ask(host)]).toEqual([host, 200])
  }
  expect(await ask('localhost:9180', 'http://localhost:9180')).toBe(200)
  expect(await ask('localhost:9180', 'https://evil.example')).toBe(403)
  expect(await ask('localhost:9180', 'null')).toBe(403)
  expect(await ask('evil.example:9180', 'http://evil.example:9180')).toBe(421)
})
