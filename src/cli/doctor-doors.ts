/** What `nbdgate doctor` says of what a start would find: doors that can be opened, descriptors that will do. */
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { connect, createServer, type ListenOptions } from 'node:net'
import type { Config, DoorConfig } from '../config/config.ts'
import { type Finding, fine, problem, warning } from './doctor-finding.ts'

const CONNECT_MS = 2000
/** The visitor's socket and the upstream's. */
const DESCRIPTORS_A_SESSION = 2
/** Doors, files, the log, Node's own. */
const DESCRIPTORS_BESIDE = 64

/** Each door, and the admin socket: whether it could be opened now. */
export async function doorFindings(config: Config): Promise<readonly Finding[]> {
  const running = config.admin?.socket !== undefined && (await isAnswered(config.admin.socket))
  const found = await Promise.all(config.doors.map(door => doorFinding(door, running)))
  const note = 'a gateway is running with this admin socket: doors in use are taken for its own'
  return [...(running ? [fine('doors', note)] : []), ...found]
}

async function doorFinding(door: DoorConfig, running: boolean): Promise<Finding> {
  const place = door.kind === 'unix' ? door.path : `${door.host}:${door.port}`
  const name = `${door.kind} ${place}`
  if (door.kind === 'unix') {
    if (!existsSync(door.path) || !(await isAnswered(door.path))) return fine('doors', `${name}: free`)
    return taken(name, running, 'stop what listens there: ss -xlp')
  }
  const code = await tryToListen({ host: door.host, port: door.port })
  switch (code) {
    case undefined:
      return fine('doors', `${name}: free`)
    case 'EADDRINUSE':
      return taken(name, running, `stop what listens there, or take another port: ss -ltnp 'sport = :${door.port}'`)
    case 'EACCES':
      return problem('doors', `${name}: this user may not listen there`, 'a port above 1023, or CAP_NET_BIND_SERVICE')
    case 'EADDRNOTAVAIL':
      return problem('doors', `${name}: this host has no such address`, 'ip address; is the VPN up?')
    default:
      return problem('doors', `${name}: ${code}`, 'name an address of this host')
  }
}

function taken(name: string, running: boolean, todo: string): Finding {
  if (running) return fine('doors', `${name}: in use`)
  return problem('doors', `${name}: the address is in use`, `${todo} (if it is this gateway: an admin.socket says so)`)
}

/** The error code of listening, undefined if that works. */
async function tryToListen(options: ListenOptions): Promise<string | undefined> {
  const server = createServer()
  try {
    server.listen(options)
    await once(server, 'listening')
    return undefined
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : 'unknown error'
  } finally {
    server.close()
  }
}

async function isAnswered(path: string): Promise<boolean> {
  const socket = connect(path)
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(CONNECT_MS) })
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

/** Whether the descriptors of this process would do for `limits.sessions`. `limits` is the text of /proc/self/limits. */
export function limitFindings(config: Config, limits = readLimits()): readonly Finding[] {
  const { sessions } = config.limits
  const needed = sessions * DESCRIPTORS_A_SESSION + DESCRIPTORS_BESIDE
  // Node raises its soft limit to the hard one.
  const [, soft, hard] = /^Max open files +(\w+) +(\w+)/m.exec(limits) ?? []
  const most = hard ?? soft
  if (most === undefined) return []
  if (most === 'unlimited' || Number(most) >= needed) {
    return [fine('limits', `${most} descriptors for ${sessions} sessions, which need ${needed}`)]
  }
  const todo = `LimitNOFILE=${needed} in the unit, or limits: { sessions: ${Math.max(1, Math.floor((Number(most) - DESCRIPTORS_BESIDE) / 2))} }`
  return [warning('limits', `${most} descriptors, and ${sessions} sessions need ${needed}`, todo)]
}

function readLimits(): string {
  return existsSync('/proc/self/limits') ? readFileSync('/proc/self/limits', 'utf8') : ''
}
