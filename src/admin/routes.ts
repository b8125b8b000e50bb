import { OpenAPIHono } from '@hono/zod-openapi'
import type { MiddlewareHandler } from 'hono'
import { secureHeaders } from 'hono/secure-headers'
import { type Access, addActivity } from './activity-views.ts'
import { addControls } from './controls.ts'
import type { Managed, Observed } from './managed.ts'
import { addPage, isPagePath, type PageFiles } from './page-files.ts'
import { type AdminEnv, addViews } from './views.ts'

/** How a set of routes is served. */
export interface RouteOptions {
  /** Says no to requests before anything else looks at them. */
  readonly guard?: MiddlewareHandler | undefined
  /** Ends streams. */
  readonly signal?: AbortSignal
  /** What `/` shows. */
  readonly page?: PageFiles
}

const NEVER = new AbortController().signal

/** What can be seen: nothing that changes anything. Paths and fields are stable within `/v1`. */
export function viewRoutes(observed: Observed, options: RouteOptions = {}): OpenAPIHono<AdminEnv> {
  return withDescription(withViews(observed, 'look', options))
}

/** What can be seen and done. */
export function allRoutes(managed: Managed, options: RouteOptions = {}): OpenAPIHono<AdminEnv> {
  const app = withViews(managed, 'full', options)
  addControls(app, managed)
  return withDescription(app)
}

function withViews(
  observed: Observed,
  access: Access,
  { guard, signal = NEVER, page = new Map() }: RouteOptions,
): OpenAPIHono<AdminEnv> {
  const app = base(guard)
  addViews(app, observed, signal)
  addActivity(app, observed, access)
  addPage(app, page)
  return app
}

/** Answers load nothing, and nobody frames them. */
const CLOSED = {
  defaultSrc: ["'none'"],
  frameAncestors: ["'none'"],
  baseUri: ["'none'"],
  formAction: ["'none'"],
}

const SELF = ["'self'"]

const answerHeaders = headersWith(CLOSED)
/** The page has its own files, and asks its own gateway; nothing in line, nothing from elsewhere. */
const pageHeaders = headersWith({ ...CLOSED, scriptSrc: SELF, styleSrc: SELF, connectSrc: SELF, imgSrc: SELF })

function headersWith(contentSecurityPolicy: Record<string, string[]>): MiddlewareHandler {
  return secureHeaders({
    contentSecurityPolicy,
    xFrameOptions: 'DENY',
    // Nothing here is served over TLS: what that header promises is not ours to promise.
    strictTransportSecurity: false,
  })
}

function base(guard: MiddlewareHandler | undefined): OpenAPIHono<AdminEnv> {
  const app = new OpenAPIHono<AdminEnv>({
    defaultHook: (result, context) => {
      if (result.success) return undefined
      return context.json({ error: result.error.issues.map(({ message }) => message).join('; ') }, 400)
    },
  })
  app.use((context, next) => (isPagePath(context.req.path) ? pageHeaders : answerHeaders)(context, next))
  app.use(async (context, next) => {
    await next()
    if (!context.res.headers.has('Cache-Control')) context.header('Cache-Control', 'no-store')
  })
  if (guard !== undefined) app.use(guard)
  app.notFound(context => context.json({ error: 'there is no such thing' }, 404))
  // What a bug says is for the log of a developer, not for whoever asked.
  app.onError((_error, context) => context.json({ error: 'this failed inside the gateway' }, 500))
  return app
}

function withDescription(app: OpenAPIHono<AdminEnv>): OpenAPIHono<AdminEnv> {
  app.doc31('/v1/openapi.json', {
    openapi: '3.1.0',
    info: {
      title: 'nbdgate admin API',
      version: '1',
      description: 'On the admin socket, and read-only on `admin.http`. Paths and fields are stable within /v1.',
    },
  })
  return app
}
