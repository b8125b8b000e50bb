import { type Parsed, parsed, unparsed } from './parsed.ts'
import { parseDuration } from './units.ts'

/** What comes of a visitor who is one too many on an export. */
export type WhenBusy =
  | { readonly kind: 'refuse' }
  | { readonly kind: 'read-only' }
  | { readonly kind: 'wait'; readonly ms: number }

const WAIT = 'wait='

/** Reads `refuse`, `read-only` or `wait=30s`. */
export function parseWhenBusy(text: string): Parsed<WhenBusy> {
  if (text === 'refuse' || text === 'read-only') return parsed({ kind: text })
  if (!text.startsWith(WAIT)) return unparsed('must be refuse, read-only, or wait= and a time, like wait=30s')
  const ms = parseDuration(text.slice(WAIT.length))
  return ms.ok ? parsed({ kind: 'wait', ms: ms.value }) : ms
}
