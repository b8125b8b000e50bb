import type { z } from '@hono/zod-openapi'
import { errorSchema } from './schemas.ts'

/** An answer in JSON, for a route's description. */
export function json<Schema extends z.ZodType>(schema: Schema, description: string) {
  return { description, content: { 'application/json': { schema } } }
}

/** An answer that says what was wrong with the question. */
export function problem(description: string) {
  return json(errorSchema, description)
}
