/** Gateways that are taken over by another process, which is nobody's child when the first one has ended. */
import { afterEach, expect } from 'vitest'
import { Cmd, Opt, Rep } from '../../src/protocol/constants.ts'
import type { RunningGateway } from '../support/gateway.ts'
import { isAlive, signalIfAlive, signalTo } from '../support/procfs.ts'
import { type SocketAddress, waitFor } from '../support/wait.ts'
import { greeted, infoData, type RawClient } from './raw-client.ts'

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

/** A client in the transmission phase. */
export async function inside(address: SocketAddress, name = 'disk'): Promise<RawClient> {
  const client = await greeted(address)
  expect((await client.option(Opt.GO, infoData(name))).at(-1)).toMatchObject({ type: Rep.ACK })
  return client
}

/** Whether a READ is answered. */
export async function isServed(client: RawClient): Promise<boolean> {
  client.request(Cmd.READ, 9n, 0n, 512)
  return (await client.simpleReply(512)).error === 0
}
