/** Programs run as leaders of process groups of their own, so that what they start can be ended with them. */

/** Sends a signal to all of a group; nothing if it is gone. Never to what kill(2) takes 0 and -1 for: our own group, or everybody. */
export function signalGroup(leader: number, signal: NodeJS.Signals): void {
  if (!(leader > 1)) return
  try {
    process.kill(-leader, signal)
  } catch {
    // It has gone.
  }
}

/** How long a program has between SIGTERM and SIGKILL. */
const GRACE_MS = 3000

/** Ends a group: the leader may tidy up first. Resolves when it is gone and nothing of its group is left. Never rejects. */
export async function endGroup(leader: number, ended: Promise<unknown>, graceMs = GRACE_MS): Promise<void> {
  signalGroup(leader, 'SIGTERM')
  // One that is stopped hears of it too.
  signalGroup(leader, 'SIGCONT')
  const timer = setTimeout(() => signalGroup(leader, 'SIGKILL'), graceMs)
  await ended
  clearTimeout(timer)
  signalGroup(leader, 'SIGKILL')
}
