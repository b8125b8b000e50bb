import * as z from 'zod'
import { configSchema } from './schema.ts'

/** The configuration's form as JSON Schema, for editors. Draft 7, for yaml-language-server knows no later one fully. */
export function jsonSchema(): object {
  const schema = z.toJSONSchema(configSchema, { io: 'input', target: 'draft-7' })
  return { title: 'nbdgate', ...schema }
}
