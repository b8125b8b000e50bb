/** Gateways that run programs for their sessions, and what they leave behind. */
import { readdirSync, readFileSync } from 'node:fs'
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { MAIN, type RunningGateway } from '../support/gateway.ts'
import { type RunResult, run } from '../support/process.ts'
import { childrenOf, isAlive } from '../support/procfs.ts'
import { waitFor } from '../support/wait.ts'

export const ANYONE = [{ who: 'anyone', rights: 'write' }]

/** What a gateway with these folders is configured with. */
export function folders(dir: string): { readonly state: string; readonly admin: { readonly socket: string } } {
  return { state: join(dir, 'state'), admin: { socket: join(dir, 'admin.sock') } }
}

/** `nbdgate` as somebody at the machine runs it. */
export function nbdgate(...args: readonly string[]): Promise<RunResult> {
  return run([process.execPath, MAIN, ...args])
}

/** An executable script for sh; its path. */
export async function script(dir: string, name: string, text: string): Promise<string> {
  const path = join(dir, name)
  await writeFile(path, `#!/bin/sh\n${text}\n`)
  await chmod(path, 0o755)
  return path
}

/** The names in a folder; none where there is no folder. */
export function namesIn(...path: readonly string[]): readonly string[] {
  try {
    return readdirSync(join(...path))
  } catch {
    return []
  }
}

/** The lines of a file; none where there is no file. */
export function linesOf(file: string): readonly string[] {
  try {
    return readFileSync(file, 'utf8')
      .split('\n')
      .filter(line => line !== '')
  } catch {
    return []
  }
}

/** What is left of preparations in the state folder. */
export function leftIn(dir: string): readonly string[] {
  return ['preparations', 'overlays', 'run'].flatMap(each => namesIn(dir, 'state', each))
}

/** All processes that come from this one, by way of /proc; those of a shell that guards are left out. */
export function programsOf(pid: number): readonly number[] {
  const below = childrenOf(pid).flatMap(child => [child, ...programsOf(child)])
  return below.filter(each => isAlive(each) && !isOurs(each))
}

/** Pids of servers that were started, as the log has them. */
export function serversIn(gateway: RunningGateway): readonly number[] {
  return gateway.log().flatMap(({ msg, pid }) => (msg === 'server started' ? [Number(pid)] : []))
}

/** The first of them: its line may come after its client's greeting. */
export async function firstServerIn(gateway: RunningGateway): Promise<number> {
  return Number((await gateway.waitForLog(({ msg }) => msg === 'server started')).pid)
}

/** Waits until an export has left nothing: no program, no record, no file. */
export async function untilNothingIsLeft(gateway: RunningGateway, dir: string): Promise<void> {
  await waitFor('nothing is left', () => leftIn(dir).length === 0 && programsOf(gateway.pid).length === 0, {
    describe: () => `${leftIn(dir).join(' ')} ${programsOf(gateway.pid).map(commandOf).join('; ')}`,
  })
}

/** The command line of a process. */
export function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
  } catch {
    return ''
  }
}

/** Workers of the gateway, and the shell that ends what it leaves. */
function isOurs(pid: number): boolean {
  const command = commandOf(pid)
  return command.includes(MAIN) || command.includes("trap '' TERM INT HUP")
}
