import { ConfigError } from '../config/errors.ts'
import { AuditError } from '../observe/errors.ts'
import { UsageError } from './errors.ts'

/** Exit codes of every command. */
export const Exit = { FINE: 0, FAILED: 1, USAGE: 2 } as const

/** What a command that failed says of it, and its exit code. */
export function failureOf(error: unknown): { readonly text: string; readonly code: number } {
  if (error instanceof ConfigError) return { text: `${error.message}\n`, code: Exit.USAGE }
  const text = `nbdgate: ${error instanceof Error ? error.message : String(error)}\n`
  const isUsage =
    error instanceof UsageError ||
    (error instanceof AuditError && error.code === 'SEAL') ||
    (error instanceof Error && error.name === 'MaterialError')
  return { text, code: isUsage ? Exit.USAGE : Exit.FAILED }
}
