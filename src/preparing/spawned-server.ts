/** An NBD server that was started here: on a socket in a folder of ours, in a process group of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { rmSync } from 'node:fs'
import { PreparingError } from './errors.ts'
import { endGroup, signalGroup } from './group.ts'
import type { GroupGuard } from './group-guard.ts'
import { listenFor, untilListening } from './listening.ts'
import type { Program } from './run-program.ts'
import { Said } from './said.ts'

export interface ServerOptions {
  readonly program: Program
  readonly socket: string
  /** It gets the listening socket as descriptor 3. */
  readonly activation: boolean
  readonly startMs: number
  readonly guard: GroupGuard
  /** Gives up. */
  readonly signal: AbortSignal
  /** Its standard error, as Said tells it. */
  say(line: string, left: number): void
}

/** How a server ended: `exit 1`, `SIGSEGV`. */
export interface ServerEnd {
  readonly why: string
  /** It said that all was well. */
  readonly isFine: boolean
  /** What it said last. */
  readonly last: string
  /** For how long it ran. */
  readonly ms: number
}

/** A server that listens. */
export interface SpawnedServer {
  readonly pid: number
  /** Resolves, never rejects, when it has gone with all that it has started. */
  readonly ended: Promise<ServerEnd>
  /** Its process has ended. */
  readonly hasExited: boolean
  stop(): Promise<void>
}

/** sd_listen_fds(3) wants its own number in LISTEN_PID, which nobody knows before it runs. */
const ACTIVATE = ['/bin/sh', '-c', 'export LISTEN_PID=$$; exec "$@"', 'sh']

/** Starts a server, and waits until it listens. @throws PreparingError SPAWN; nothing of it is left then */
export async function startServer(options: ServerOptions): Promise<SpawnedServer> {
  const { socket, startMs, activation, signal } = options
  rmSync(socket, { force: true })
  const server = activation ? await launchActivated(options) : launch(options, 'ignore')
  if (activation) return server
  // Not AbortSignal.any: on Node 20 what it makes can be collected before it is aborted.
  const giveUp = new AbortController()
  const abort = (): void => giveUp.abort()
  const timer = setTimeout(abort, startMs)
  signal.addEventListener('abort', abort)
  if (signal.aborted) abort()
  const { ended } = server
  const first = await Promise.race([ended, untilListening(socket, giveUp.signal).catch((error: unknown) => error)])
  clearTimeout(timer)
  signal.removeEventListener('abort', abort)
  abort()
  if (first === undefined) return server
  await server.stop()
  if (first instanceof Error) throw new PreparingError('SPAWN', `the server does not listen within ${startMs} ms`)
  throw new PreparingError('SPAWN', sentence(await ended))
}

async function launchActivated(options: ServerOptions): Promise<SpawnedServer> {
  const listening = await listenFor(options.socket).catch((cause: unknown) => {
    throw new PreparingError('SPAWN', 'no socket can be made for the server', { cause })
  })
  try {
    return launch(options, listening.fd)
  } finally {
    listening.close()
  }
}

function launch(
  { program, activation, guard, socket, say }: ServerOptions,
  listening: number | 'ignore',
): SpawnedServer {
  const [name = '', ...args] = activation ? [...ACTIVATE, ...program.argv] : program.argv
  const env = activation ? { ...program.env, LISTEN_FDS: '1', LISTEN_FDNAMES: 'nbd' } : program.env
  const begin = performance.now()
  const stdio = ['ignore' as const, 'ignore' as const, 'pipe' as const, ...(listening === 'ignore' ? [] : [listening])]
  const child: ChildProcess = spawn(name, args, { cwd: program.folder, env, detached: true, stdio })
  const said = new Said(say)
  if (child.stderr !== null) said.follow(child.stderr)
  const { pid } = child
  if (pid !== undefined) guard.add(pid)
  const exited = new Promise<{ why: string; isFine: boolean }>(resolve => {
    child.once('error', error => resolve({ why: 'code' in error ? String(error.code) : error.message, isFine: false }))
    child.once('exit', (code, by) => resolve({ why: by ?? `exit ${code}`, isFine: code === 0 }))
  })
  let hasExited = false
  const ended = exited.then(async ({ why, isFine }): Promise<ServerEnd> => {
    hasExited = true
    if (pid !== undefined) signalGroup(pid, 'SIGKILL')
    if (pid !== undefined) guard.remove(pid)
    await drained(child)
    said.end()
    try {
      rmSync(socket, { force: true })
    } catch {
      // The next one says so.
    }
    return { why, isFine, last: said.last, ms: Math.round(performance.now() - begin) }
  })
  const stop = async (): Promise<void> => {
    if (pid !== undefined) await endGroup(pid, exited)
    await ended
  }
  const isGone = (): boolean => hasExited
  return {
    pid: pid ?? 0,
    ended,
    get hasExited() {
      return isGone()
    },
    stop,
  }
}

/** How long standard error may stay open behind the end of a server. */
const FLUSH_MS = 200

/** Resolves when all that it has said is here. */
async function drained({ stderr }: ChildProcess): Promise<void> {
  if (stderr === null || stderr.closed) return
  await new Promise<void>(resolve => {
    const timer = setTimeout(() => stderr.destroy(), FLUSH_MS)
    stderr.once('close', () => {
      clearTimeout(timer)
      resolve()
    })
  })
}

function sentence({ why, isFine, last }: ServerEnd): string {
  const hint = isFine ? ': it has to stay in the foreground' : ''
  return `the server has ended (${why}) before it listened${hint}${last === '' ? '' : `; it said: ${last}`}`
}
