/** Facts about processes from Linux's /proc (proc(5)). */

import { constants, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { waitFor } from './wait.ts'

function readStatus(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8')
  } catch {
    return undefined
  }
}

function statusField(pid: number, field: string): string | undefined {
  return new RegExp(`^${field}:\\s*(\\S+)`, 'm').exec(readStatus(pid) ?? '')?.[1]
}

/** Whether the process runs; one that only waits to be reaped does not. */
export function isAlive(pid: number): boolean {
  const state = statusField(pid, 'State')
  return state !== undefined && state !== 'Z' && state !== 'X'
}

/** Whether the process was stopped (SIGSTOP), and goes on with SIGCONT. */
export function isStopped(pid: number): boolean {
  return statusField(pid, 'State') === 'T'
}

/** The processes whose parent it is. */
export function childrenOf(pid: number): number[] {
  const pids = readdirSync('/proc').filter(name => /^\d+$/.test(name))
  return pids.map(Number).filter(child => statusField(child, 'PPid') === String(pid))
}

/** What the process has open, as /proc names it: a path, `socket:[inode]`, `pipe:[inode]`. Empty for one that is gone. */
function descriptorsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).flatMap(fd => {
      try {
        return [readlinkSync(`/proc/${pid}/fd/${fd}`)]
      } catch {
        return [] // closed in the meantime
      }
    })
  } catch {
    return []
  }
}

/** How many descriptors the process has open. Throws if it is gone. */
export function openFds(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length
}

/** Resident memory of the process in KiB. Throws if it is gone. */
export function rssKiB(pid: number): number {
  const size = statusField(pid, 'VmRSS')
  if (size === undefined) throw new Error(`process ${pid} is gone`)
  return Number(size)
}

/** Whether this very process listens on the TCP port (IPv4): a successful connect() does not say who answered. */
export function isListening(pid: number, port: number): boolean {
  const LISTEN = '0A'
  const listening = readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .map(line => line.trim().split(/\s+/))
    .filter(([, local, , state]) => state === LISTEN && Number.parseInt(local?.split(':')[1] ?? '', 16) === port)
    .map(columns => `socket:[${columns[9]}]`)
  return descriptorsOf(pid).some(descriptor => listening.includes(descriptor))
}

/**
 * Whether somebody listens on a Unix socket and its owner may connect: its file is there before that. Asks nobody, for a
 * connection would be a visit.
 */
export function isListeningAt(path: string): boolean {
  const ACCEPTING = '00010000' // __SO_ACCEPTCON, include/linux/net.h
  const lines = readFileSync('/proc/net/unix', 'utf8').split('\n')
  const isAccepting = lines.some(line => line.endsWith(` ${path}`) && line.split(' ').includes(ACCEPTING))
  const mode = statSync(path, { throwIfNoEntry: false })?.mode ?? 0
  return isAccepting && (mode & constants.S_IWUSR) !== 0
}

/**
 * Sends a signal to one process. kill(2) takes 0 for the caller's whole group, so that a pid that was not found would end
 * the run of the tests without a word. Throws for what is no pid, and if the process is gone.
 */
export function signalTo(pid: number | undefined, name: NodeJS.Signals): void {
  if (pid === undefined || !Number.isInteger(pid) || pid <= 1) throw new Error(`${name} to ${pid}, which is no pid`)
  process.kill(pid, name)
}

/** The same, for one that may have ended by itself. */
export function signalIfAlive(pid: number, name: NodeJS.Signals): void {
  try {
    signalTo(pid, name)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
  }
}

/** Ends a daemon and its children as a crash would; resolves when they are gone. */
export async function crashDaemon(pid: number): Promise<void> {
  // The parent first: nobody is to take the place of a child.
  const family = [pid, ...childrenOf(pid)]
  for (const member of family) signalIfAlive(member, 'SIGKILL')
  await waitFor(`end of daemon ${pid} after SIGKILL`, () => !family.some(isAlive))
}

/** Ends a daemon, which is not our child, and its children: SIGTERM, then SIGKILL after the bound. */
export async function stopDaemon(pid: number, boundMs = 5_000): Promise<void> {
  const family = [...childrenOf(pid), pid]
  for (const member of family) signalIfAlive(member, 'SIGTERM')
  const allGone = () => !family.some(isAlive)
  try {
    await waitFor(`end of daemon ${pid}`, allGone, { boundMs })
  } catch {
    for (const member of family) signalIfAlive(member, 'SIGKILL')
    await waitFor(`end of daemon ${pid} after SIGKILL`, allGone, { boundMs })
  }
}
