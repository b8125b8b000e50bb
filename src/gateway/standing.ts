import type { Granted } from './control.ts'
import type { OpenExport } from './open-export.ts'

/** Whether a session may go on: until a moment (milliseconds of the epoch) if there is one, or why not. */
export type Standing =
  | { readonly kind: 'holds'; readonly untilMs: number | undefined }
  | { readonly kind: 'gone'; readonly why: string }

/** What a session was granted and is not granted any more; undefined: nothing. */
export function lossOf(opened: OpenExport, { rights, rule, align }: Granted): string | undefined {
  if (opened.rights === 'write' && rights === 'read') return `read only${by(rule)}`
  // Another connection may write beside it now.
  return opened.rights === 'write' && opened.alignBytes > 1 && !align ? `no align${by(rule)}` : undefined
}

/** The rule that something is by, for logs. */
export function by(rule: string | undefined): string {
  return rule === undefined ? '' : `, ${rule}`
}
