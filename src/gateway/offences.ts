import type { Offence } from '../doors/door.ts'
import { TlsError } from '../doors/errors.ts'
import { ProtocolError } from '../protocol/errors.ts'
import { StreamError } from '../stream/errors.ts'

/** Reasons to refuse an export that only who guesses, or has lost his rights, meets again and again. */
const TRIED_IN_VAIN: readonly string[] = [
  'no such export',
  'another export',
  'wrong door',
  'denied',
  'no rule',
  'expired',
]

/** What is held against the address of whoever has failed so; who merely went away has not. */
export function offenceOf(error: unknown): Offence | undefined {
  if (error instanceof ProtocolError) return 'invalid'
  if (error instanceof StreamError) return error.code === 'TIMEOUT' ? 'grace-exceeded' : undefined
  if (!(error instanceof TlsError) || error.reason === 'gone') return undefined
  if (error.reason === 'handshake timeout') return 'grace-exceeded'
  return error.reason === 'handshake failed' ? 'invalid' : 'authfail'
}

/** What is held against the address of whoever was refused an export for this reason. */
export function offenceOfRefusal(reason: string): Offence | undefined {
  return TRIED_IN_VAIN.includes(reason) ? 'authfail' : undefined
}
