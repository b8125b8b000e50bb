import { spawn } from 'node:child_process'
import { endGroup, signalGroup } from './group.ts'
import type { GroupGuard } from './group-guard.ts'
import { Said } from './said.ts'

/** A program of the operator's, with all that it is run with. */
export interface Program {
  readonly argv: readonly string[]
  readonly env: NodeJS.ProcessEnv
  readonly folder: string
}

export interface RunOptions {
  readonly timeoutMs: number
  readonly guard: GroupGuard
  /** Ends it. */
  readonly signal: AbortSignal
  /** Its standard error, as Said tells it. */
  say(line: string, left: number): void
  /** Given on its standard input; it has none without this. */
  readonly input?: string
}

/** How a program ended. */
export type ProgramEnd =
  | { readonly kind: 'done'; readonly output: string }
  /** `why`: `exit 3`, `SIGSEGV`, `no end within 30000 ms`, `ENOENT`; `last`: what it said last. */
  | { readonly kind: 'failed'; readonly why: string; readonly last: string }

/** How much of what a program prints is taken. */
const MAX_OUTPUT = 4096

/** How long standard error may stay open behind the end of a program: something that it has started may hold it. */
const FLUSH_MS = 200

/** Runs a program to its end, in a process group of its own of which nothing is left then. Never rejects. */
export async function runProgram({ argv, env, folder }: Program, options: RunOptions): Promise<ProgramEnd> {
  const { timeoutMs, guard, signal, input } = options
  const [name = '', ...args] = argv
  const said = new Said(options.say)
  const child = spawn(name, args, { cwd: folder, env, detached: true, stdio: ['pipe', 'pipe', 'pipe'] })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    if (output.length < MAX_OUTPUT) output = (output + text).slice(0, MAX_OUTPUT)
  })
  said.follow(child.stderr)
  // It need not read what it is given.
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  const ended = new Promise<string | undefined>(resolve => {
    child.once('error', error => resolve('code' in error ? String(error.code) : error.message))
    child.once('exit', (code, by) => resolve(code === 0 ? undefined : (by ?? `exit ${code}`)))
  })
  const { pid } = child
  if (pid === undefined) return { kind: 'failed', why: (await ended) ?? 'it can not be started', last: '' }
  guard.add(pid)
  let cut: string | undefined
  const cutShort = (why: string): void => {
    cut ??= why
    void endGroup(pid, ended)
  }
  const timer = setTimeout(() => cutShort(`no end within ${timeoutMs} ms`), timeoutMs)
  const stopped = (): void => cutShort('the gateway has stopped')
  if (signal.aborted) stopped()
  else signal.addEventListener('abort', stopped)
  const closed = new Promise<void>(resolve => child.once('close', () => resolve()))
  const why = await ended
  clearTimeout(timer)
  signal.removeEventListener('abort', stopped)
  signalGroup(pid, 'SIGKILL')
  guard.remove(pid)
  const flush = setTimeout(() => {
    child.stdout.destroy()
    child.stderr.destroy()
  }, FLUSH_MS)
  await closed
  clearTimeout(flush)
  said.end()
  const failure = cut ?? why
  return failure === undefined ? { kind: 'done', output } : { kind: 'failed', why: failure, last: said.last }
}
