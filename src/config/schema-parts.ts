import * as z from 'zod'
import type { Parsed } from './parsed.ts'

/** Text with a form of its own. */
export const text = <T>(parse: (text: string) => Parsed<T>) =>
  z.string().transform((value, context) => {
    const result = parse(value)
    if (result.ok) return result.value
    context.addIssue({ code: 'custom', message: result.problem })
    return z.NEVER
  })

/** A number of things, of which there has to be one. */
export const count = z.int().min(1, 'must be at least 1')
