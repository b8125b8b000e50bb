import type { Relay } from '../relay/relay.ts'

/** How long what the upstream has been asked for may take. */
const ANSWER_MS = 5000

/** How long clients are told of the end before they meet it: most of them leave by themselves then. */
const GRACE_MS = 500

const LOOK_MS = 20

/** What a relay looks at to see whether it may pass anything on any more. */
export interface Shutdown {
  isOn: boolean
}

/**
 * Ends the transmission phase of a session in good order: what is in flight is answered, all that comes from now on with
 * ESHUTDOWN, and then the session is over. Resolves when its end has begun.
 */
export async function shutDown(relay: Relay, shutdown: Shutdown, reason: string): Promise<void> {
  shutdown.isOn = true
  const begin = performance.now()
  let quietSince: number | undefined
  await new Promise<void>(resolve => {
    const timer = setInterval(() => {
      const now = performance.now()
      quietSince = relay.inFlight === 0 ? (quietSince ?? now) : undefined
      const isDone = quietSince !== undefined && now - quietSince >= GRACE_MS
      if (!isDone && now - begin < ANSWER_MS && !relay.hasEnded) return
      clearInterval(timer)
      if (isDone) relay.leave(reason)
      else relay.stop(reason)
      resolve()
    }, LOOK_MS)
  })
}
