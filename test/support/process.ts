/**
 * Other programs, for tests: `run` waits for a program's end, `start` for the facts that say it is ready. Every wait has a
 * bound, what a program printed is kept for the failure message, and no program outlives the test process.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { findProgram } from './programs.mjs'
import { WAIT_BOUND_MS, waitFor } from './wait.ts'

/** How a process ended: its exit code, or the signal that ended it. */
export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** What `run` may be told. */
export interface RunOptions {
  /** Default 30 s; then the program is killed and `run` rejects. */
  readonly timeoutMs?: number
  /** Given to the program's standard input, which is closed after it. */
  readonly input?: string | Uint8Array
  /** Added to this process's environment; undefined takes a variable away. */
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
}

/** What became of a program; `code` is null if a signal ended it. */
export interface RunResult extends Exit {
  readonly stdout: string
  readonly stderr: string
}

/** What `start` may be told. */
export interface StartOptions {
  /** Asked again and again until it says yes. */
  readonly ready: () => boolean | Promise<boolean>
  readonly readyBoundMs?: number
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  /** Called with each piece of standard error as it comes. */
  readonly onStderr?: (text: string) => void
}

/** A program that runs. */
export interface Started {
  readonly pid: number
  /** The last that it wrote to standard error and standard output. */
  stderr(): string
  stdout(): string
  /** Undefined while it runs. */
  exit(): Exit | undefined
  /** Resolves when it ends; rejects after the bound. */
  waitForExit(boundMs?: number): Promise<Exit>
  kill(signal: NodeJS.Signals): void
  /** SIGTERM, then SIGKILL after the bound. Fine when it has ended already. */
  stop(boundMs?: number): Promise<Exit>
}

const RUN_TIMEOUT_MS = 30_000
const STOP_BOUND_MS = 10_000
/** How long outputs may stay open after the end of a program: something that it left behind may hold them. */
const OUTPUT_GRACE_MS = 1_000
/** Of each output; more than any test reads. */
const MAX_OUTPUT_CHARACTERS = 1024 * 1024

const running = new Set<ChildProcess>()
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/** Collects the end of a stream's text. */
function collect(stream: Readable): () => string {
  let text = ''
  stream.setEncoding('utf8').on('data', (chunk: string) => {
    text = (text + chunk).slice(-MAX_OUTPUT_CHARACTERS)
  })
  return () => text
}

interface Spawned {
  readonly child: ChildProcess
  readonly stdout: () => string
  readonly stderr: () => string
  /** The end of the process and of its outputs. Rejects if it could not be started. */
  readonly closed: Promise<Exit>
}

function spawnProgram(argv: readonly string[], options: Pick<RunOptions, 'env' | 'cwd'>): Spawned {
  const [name, ...args] = argv
  if (name === undefined) throw new Error('no program given')
  // Messages are compared with: they must not depend on the desk's language.
  const env = { ...process.env, LC_ALL: 'C', ...options.env }
  const child = spawn(findProgram(name) ?? name, args, {
    env,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  running.add(child)
  child.once('exit', () => {
    running.delete(child)
    const grace = setTimeout(() => {
      child.stdout.destroy()
      child.stderr.destroy()
    }, OUTPUT_GRACE_MS)
    child.once('close', () => clearTimeout(grace))
  })
  // A program that does not read its input to the end is none of the test's business.
  child.stdin.on('error', () => {})
  const closed = once(child, 'close').then(
    ([code, signal]): Exit => ({ code, signal }),
    (error: unknown) => Promise.reject(new Error(`${argv.join(' ')} could not be started`, { cause: error })),
  )
  void closed.catch(() => running.delete(child))
  return { child, stdout: collect(child.stdout), stderr: collect(child.stderr), closed }
}

/** The promise's value, or undefined after the bound. */
export async function within<T>(promise: Promise<T>, boundMs: number): Promise<T | undefined> {
  const timer = new AbortController()
  try {
    return await Promise.race([promise, delay(boundMs, undefined, { signal: timer.signal })])
  } finally {
    timer.abort()
  }
}

/** Runs a program to its end. Rejects if it can not be started or takes too long; any exit code is an answer. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const timeoutMs = options.timeoutMs ?? RUN_TIMEOUT_MS
  const { child, stdout, stderr, closed } = spawnProgram(argv, options)
  child.stdin?.end(options.input)
  const exit = await within(closed, timeoutMs)
  if (exit === undefined) {
    child.kill('SIGKILL')
    throw new Error(`${argv.join(' ')}: no end within ${timeoutMs} ms\n${stderr()}`)
  }
  return { ...exit, stdout: stdout(), stderr: stderr() }
}

/** `run` for a program that must succeed; its standard output. Rejects with its standard error otherwise. */
export async function runOk(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, signal, stdout, stderr } = await run(argv, options)
  if (code !== 0) throw new Error(`${argv.join(' ')} ended with ${signal ?? code}\n${stderr}${stdout}`)
  return stdout
}

/** Starts a program and waits until it is ready. Rejects, with the program stopped, if it ends before that or is late. */
export async function start(argv: readonly string[], options: StartOptions): Promise<Started> {
  const { child, stdout, stderr, closed } = spawnProgram(argv, options)
  if (options.onStderr !== undefined) child.stderr?.on('data', options.onStderr)
  child.stdin?.end()
  let exit: Exit | undefined
  let failure: unknown
  void closed.then(
    value => {
      exit = value
    },
    error => {
      failure = error
    },
  )
  const waitForExit = async (boundMs = WAIT_BOUND_MS): Promise<Exit> => {
    const value = await within(closed, boundMs)
    if (value === undefined) throw new Error(`${argv.join(' ')}: no end within ${boundMs} ms\n${stderr()}`)
    return value
  }
  const stop = async (boundMs = STOP_BOUND_MS): Promise<Exit> => {
    child.kill('SIGTERM')
    const value = await within(closed, boundMs)
    if (value !== undefined) return value
    child.kill('SIGKILL')
    return await waitForExit()
  }
  const isReady = async () => {
    if (failure !== undefined) throw failure
    if (exit !== undefined) throw new Error(`${argv.join(' ')} ended with ${exit.signal ?? exit.code}\n${stderr()}`)
    return await options.ready()
  }
  try {
    await waitFor(`${argv.join(' ')} ready`, isReady, {
      describe: stderr,
      ...(options.readyBoundMs === undefined ? {} : { boundMs: options.readyBoundMs }),
    })
  } catch (error) {
    await stop().catch(() => {})
    throw error
  }
  const kill = (signal: NodeJS.Signals) => void child.kill(signal)
  return { pid: child.pid ?? -1, stdout, stderr, exit: () => exit, waitForExit, kill, stop }
}
