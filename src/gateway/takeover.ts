import type { Session } from './session.ts'

/** How long the writes of a holder's other sessions may take before those sessions are ended. */
const SETTLE_MS = 10_000

/**
 * Waits until no write that these sessions have been sent up to now can still land: they are done, or the session's way
 * to the upstream is closed. One that takes longer than `boundMs` is ended.
 */
export async function settleAll(sessions: readonly Session[], boundMs = SETTLE_MS): Promise<void> {
  await Promise.all(sessions.map(session => settle(session, boundMs)))
}

async function settle(session: Session, boundMs: number): Promise<void> {
  const timer = setTimeout(() => session.retire('its writes were in the way of another session'), boundMs)
  await session.settled()
  clearTimeout(timer)
}

/** Ends these sessions; resolves when they have. */
export async function retireAll(sessions: readonly Session[], reason: string): Promise<void> {
  for (const session of sessions) session.retire(reason)
  await Promise.all(sessions.map(session => session.done))
}
