import type { Refusal } from '../negotiation/host.ts'
import { Rep } from '../protocol/constants.ts'

/** A no with a sentence for the person at the client. */
export function refusal(reply: Rep, message: string): Refusal {
  return { kind: 'refused', reply, message }
}

/** To those who still haggle when nobody is let in any more. */
export function shuttingDown(): Refusal {
  return refusal(Rep.ERR_SHUTDOWN, 'the gateway is shutting down')
}
