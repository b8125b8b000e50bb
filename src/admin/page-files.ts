import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { extname } from 'node:path'
import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import { problem } from './answers.ts'
import type { AdminEnv } from './views.ts'

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.txt': 'text/plain; charset=utf-8',
}

const INDEX = 'index.html'

/** A file of the page, in memory. */
export interface PageFile {
  readonly body: Uint8Array<ArrayBuffer>
  readonly type: string
  /** Names this content. */
  readonly etag: string
}

/** The files of the page, by name. */
export type PageFiles = ReadonlyMap<string, PageFile>

/** Where the build puts them: beside the bundle. */
export const PAGE_FOLDER = new URL('page/', import.meta.url)

/** Loads the page; without its folder there is none. */
export function loadPage(folder: URL = PAGE_FOLDER): PageFiles {
  return new Map(
    namesIn(folder).flatMap(name => {
      const type = TYPES[extname(name)]
      if (type === undefined) return []
      const body = new Uint8Array(readFileSync(new URL(name, folder)))
      const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`
      return [[name, { body, type, etag }] as const]
    }),
  )
}

function namesIn(folder: URL): readonly string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

/** Paths of the page: nothing in its files is secret, and who has to give a token needs something to give it to. */
export function isPagePath(path: string): boolean {
  return path === '/' || path.startsWith('/page/')
}

const answers = {
  200: { description: 'It.', content: { '*/*': { schema: z.string() } } },
  304: { description: 'Nothing has changed.' },
  404: problem('There is no such file.'),
}

const index = createRoute({ method: 'get', path: '/', summary: 'The page', responses: answers })

const file = createRoute({
  method: 'get',
  path: '/page/{file}',
  summary: 'A file of the page',
  request: { params: z.object({ file: z.string() }) },
  responses: answers,
})

/** Adds the page. */
export function addPage(app: OpenAPIHono<AdminEnv>, files: PageFiles): void {
  const answer = (name: string, seen: string | undefined): Response | undefined => {
    const found = files.get(name)
    if (found === undefined) return undefined
    // What is there may have changed since: a new gateway brings a new page.
    const headers = { ETag: found.etag, 'Cache-Control': 'no-cache' }
    if (seen === found.etag) return new Response(null, { status: 304, headers })
    return new Response(found.body, { headers: { ...headers, 'Content-Type': found.type } })
  }
  const missing = { error: 'there is no such file' }
  app.openapi(index, context => {
    return answer(INDEX, context.req.header('if-none-match')) ?? context.json(missing, 404)
  })
  app.openapi(file, context => {
    const { file: name } = context.req.valid('param')
    return answer(name, context.req.header('if-none-match')) ?? context.json(missing, 404)
  })
}
