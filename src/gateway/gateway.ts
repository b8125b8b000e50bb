/**
 * The whole gateway, put together: configuration in, open doors out. Reads the key material, makes the control plane,
 * opens the doors, and starts a session for every visitor that the limits let in.
 */
import type { Config, DoorConfig } from '../config/config.ts'
import type { Door, Reception, Visitor } from '../doors/door.ts'
import { openTcpDoor } from '../doors/tcp.ts'
import { offerTls } from '../doors/tls.ts'
import { openUnixDoor } from '../doors/unix.ts'
import type { Log } from '../observe/log.ts'
import { loadClientMaterial, loadServerMaterial } from '../pki/material.ts'
import { DialQueue } from '../upstreams/dial-queue.ts'
import { createControl } from './control.ts'
import { Limits } from './limits.ts'
import { watchMaterial } from './material-watch.ts'
import { type Session, startSession } from './session.ts'

/** A running gateway. */
export interface Gateway {
  readonly doors: readonly Door[]

  /** Lets nobody in any more, tells who is haggling so, and waits `ms` at most for sessions to end before ending them. */
  drain(ms: number): Promise<void>

  /** Ends every session now. */
  stop(): Promise<void>
}

/**
 * Starts a gateway: all doors open, or none.
 * @throws MaterialError for a certificate or key that can not be used, DoorError for a door that can not be opened
 */
export async function startGateway(config: Config, log: Log): Promise<Gateway> {
  checkUpstreamMaterial(config, log)
  const control = createControl(config)
  const limits = new Limits(config.limits)
  const dials = new DialQueue()
  const sessions = new Set<Session>()
  let draining = false
  let conn = 0

  const enter = (visitor: Visitor): void => {
    const context = { conn: ++conn, control, dials, log, limits: config.limits, isDraining: () => draining }
    const session = startSession(visitor, context)
    sessions.add(session)
    void session.done.finally(() => {
      sessions.delete(session)
      limits.leave(visitor.identity.address)
    })
  }
  const reception: Reception = {
    enter,
    admit: address => limits.admit(address),
    turnedAway: (peer, reason) => log.warn({ peer, reason }, 'turned away'),
    failed: error => log.error({ err: error }, 'door failed'),
  }
  const doors = await openDoors(config.doors, config, reception, log)
  const unwatch = watchMaterial(config, log)
  log.info({ doors: doors.map(({ kind, address }) => ({ kind, address })) }, 'gateway ready')

  const stop = async (): Promise<void> => {
    draining = true
    unwatch()
    await Promise.all(doors.map(door => door.close()))
    const open = [...sessions]
    for (const session of open) session.stop('gateway stopped')
    await Promise.all(open.map(session => session.done))
  }
  const drain = async (ms: number): Promise<void> => {
    draining = true
    await Promise.all(doors.map(door => door.close()))
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>(resolve => {
      timer = setTimeout(resolve, ms)
    })
    await Promise.race([Promise.all([...sessions].map(session => session.done)), late])
    clearTimeout(timer)
    await stop()
  }
  return { doors, drain, stop }
}

/** Loaded again at each dial; here so that what can not work is said before a door opens. */
function checkUpstreamMaterial(config: Config, log: Log): void {
  for (const { upstream } of config.exports) {
    if (upstream.kind === 'file' || !upstream.tls) continue
    for (const warning of loadClientMaterial(upstream).warnings) log.warn({ warning }, 'key material')
  }
}

async function openDoors(
  configs: readonly DoorConfig[],
  config: Config,
  reception: Reception,
  log: Log,
): Promise<readonly Door[]> {
  const doors: Door[] = []
  try {
    for (const each of configs) doors.push(await openDoor(each, config, reception, log))
  } catch (error) {
    await Promise.all(doors.map(door => door.close()))
    throw error
  }
  return doors
}

function openDoor(door: DoorConfig, config: Config, reception: Reception, log: Log): Promise<Door> {
  switch (door.kind) {
    case 'tls': {
      const material = loadServerMaterial(door)
      for (const warning of material.warnings) log.warn({ warning }, 'key material')
      const tls = offerTls({ ...door, material, handshakeMs: config.limits.negotiationMs })
      return openTcpDoor({ host: door.host, port: door.port, tls }, reception)
    }
    case 'tcp':
      return openTcpDoor({ host: door.host, port: door.port, from: door.from }, reception)
    case 'unix':
      return openUnixDoor(door, reception)
    default:
      return door satisfies never
  }
}
