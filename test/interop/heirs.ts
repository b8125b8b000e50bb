/** Gateways that are taken over by another process, which is nobody's child when the first one has ended. */
import { afterEach } from 'vitest'
import type { RunningGateway } from '../support/gateway.ts'
import { isAlive, signalIfAlive, signalTo } from '../support/procfs.ts'
import { waitFor } from '../support/wait.ts'

const UPGRADE_BOUND_MS = 60_000

const heirs: number[] = []
afterEach(async () => {
  for (const pid of heirs.splice(0)) {
    signalIfAlive(pid, 'SIGKILL')
    await waitFor('its end', () => !isAlive(pid))
  }
})

/** Has a gateway (`pid`) taken over; the other process's number. Until the first one has ended, all have their log in one place. */
export async function upgrade(running: RunningGateway, pid = running.pid): Promise<number> {
  const taken = () => running.log().filter(({ msg }) => msg === 'handed over')
  const before = taken().length
  signalTo(pid, 'SIGUSR2')
  await waitFor('the upgrade', () => taken().length > before, {
    boundMs: UPGRADE_BOUND_MS,
    describe: running.stderr,
  })
  const heir = Number(taken().at(-1)?.pid)
  heirs.push(heir)
  return heir
}
