import { rmSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { isRunning } from '../platform/owner.ts'
import { signalGroup } from './group.ts'
import type { PreparationRecord } from './records.ts'

/** How long a server that a crash has left has to end. */
const LEFTOVER_MS = 3000
const POLL_MS = 20

/** Whether a gateway that runs has it. */
export function isTaken({ gateway }: PreparationRecord): boolean {
  return isRunning(gateway)
}

/** Whether the server that a dead gateway has started still runs. */
export function hasServer({ server }: PreparationRecord): boolean {
  return server !== undefined && isRunning(server)
}

/** Ends it, with its children, and removes its socket. Resolves when nothing of it is left. @throws the error of node:fs */
export async function endServerOf({ server, socket }: PreparationRecord): Promise<void> {
  if (server !== undefined && isRunning(server)) {
    signalGroup(server.pid, 'SIGTERM')
    const deadline = performance.now() + LEFTOVER_MS
    while (isRunning(server) && performance.now() < deadline) await delay(POLL_MS)
    signalGroup(server.pid, 'SIGKILL')
  }
  rmSync(socket, { force: true })
}
