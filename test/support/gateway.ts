/** The built program as its users start it: `nbdgate serve --config FILE`. */

import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Exit, start } from './process.ts'
import { waitFor } from './wait.ts'

/** The built program. Run it with `process.execPath`, so that a suite under another Node tests that Node. */
export const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))

/** One line of the log; a line that is no JSON object has its text in `msg` and nothing else. */
export interface LogLine {
  readonly msg?: unknown
  readonly [field: string]: unknown
}

/** A door as the line `gateway ready` names it: `127.0.0.1:40123`, `[::1]:40123` or a path. */
export interface OpenDoor {
  readonly kind: string
  readonly address: string
}

/** A gateway that serves. */
export interface RunningGateway {
  readonly pid: number
  readonly configFile: string
  /** As of the first `gateway ready`. */
  readonly doors: readonly OpenDoor[]
  /** All lines so far. */
  log(): readonly LogLine[]
  stderr(): string
  /** What the first door of a kind listens on. Throws if there is none. */
  address(kind: string): string
  /** The port of the first door of a kind. Throws if there is none or it has no port. */
  port(kind: string): number
  /** The first line that the predicate accepts, past or to come. Rejects after the bound. */
  waitForLog(predicate: (line: LogLine) => boolean, boundMs?: number): Promise<LogLine>
  waitForExit(boundMs?: number): Promise<Exit>
  kill(signal: NodeJS.Signals): void
  /** SIGTERM, and SIGKILL after the bound; the exit code, null after a signal. */
  stop(boundMs?: number): Promise<number | null>
}

/** What `startGateway` may be told beside the configuration. */
export interface GatewayOptions {
  /** Further arguments of `serve`. */
  readonly args?: readonly string[]
  /** Options of Node itself, such as `--expose-gc`. */
  readonly nodeArgs?: readonly string[]
  readonly env?: NodeJS.ProcessEnv
  /** Another build of the program. */
  readonly main?: string
  /** What runs the program, such as `unshare -n`; it has to become it. */
  readonly wrap?: readonly string[]
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function parseLine(text: string): LogLine {
  try {
    const value: unknown = JSON.parse(text)
    return isRecord(value) ? value : { msg: text }
  } catch {
    return { msg: text }
  }
}

function isDoor(value: unknown): value is OpenDoor {
  return isRecord(value) && typeof value.kind === 'string' && typeof value.address === 'string'
}

/** The log as it comes in pieces. */
function lineReader(): { feed(text: string): void; readonly lines: LogLine[] } {
  const lines: LogLine[] = []
  let rest = ''
  const feed = (text: string) => {
    const parts = (rest + text).split('\n')
    rest = parts.pop() ?? ''
    for (const part of parts) if (part !== '') lines.push(parseLine(part))
  }
  return { feed, lines }
}

/** How many processes the sessions of a test run in, where its configuration does not say: 1, or NBDGATE_TEST_WORKERS. */
export const WORKERS = Number(process.env.NBDGATE_TEST_WORKERS ?? '1')

/** Several processes of Node on a busy machine. */
const READY_BOUND_MS = 60_000

/** A configuration that says how many workers there are; no line of it moves. */
export function withWorkers(yaml: string, workers = WORKERS): string {
  if (/^\s*"?workers"?:/m.test(yaml)) return yaml
  if (/^\s*\{/.test(yaml)) return yaml.replace(/\}\s*$/, `, "workers": ${workers} }`)
  return `${yaml.trimEnd()}\nworkers: ${workers}\n`
}

/** Starts the gateway with its configuration in `DIR/NAME.yaml` and waits until its doors are open. Rejects with its log. */
export async function startGateway(
  dir: string,
  name: string,
  yaml: string,
  options: GatewayOptions = {},
): Promise<RunningGateway> {
  if (!existsSync(MAIN)) throw new Error('dist/main.js is missing: npm run build')
  const configFile = join(dir, `${name}.yaml`)
  await writeFile(configFile, withWorkers(yaml))
  const { feed, lines } = lineReader()
  const readyLine = () => lines.find(line => line.msg === 'gateway ready')
  const argv = [
    ...(options.wrap ?? []),
    process.execPath,
    ...(options.nodeArgs ?? []),
    options.main ?? MAIN,
    'serve',
    '--config',
    configFile,
  ]
  const child = await start([...argv, ...(options.args ?? [])], {
    cwd: dir,
    onStderr: feed,
    ready: () => readyLine() !== undefined,
    readyBoundMs: READY_BOUND_MS,
    ...(options.env === undefined ? {} : { env: options.env }),
  })
  const ready = readyLine()?.doors
  const doors = Array.isArray(ready) ? ready.filter(isDoor) : []
  const address = (kind: string): string => {
    const door = doors.find(candidate => candidate.kind === kind)
    if (door === undefined) throw new Error(`no ${kind} door is open: ${JSON.stringify(ready)}`)
    return door.address
  }
  return {
    pid: child.pid,
    configFile,
    doors,
    log: () => lines,
    stderr: child.stderr,
    address,
    port: kind => {
      const digits = /:(\d+)$/.exec(address(kind))?.[1]
      if (digits === undefined) throw new Error(`${address(kind)} has no port`)
      return Number(digits)
    },
    waitForLog: async (predicate, boundMs) => {
      await waitFor('log line', () => lines.some(predicate), {
        describe: child.stderr,
        ...(boundMs === undefined ? {} : { boundMs }),
      })
      return lines.find(predicate) ?? {}
    },
    waitForExit: child.waitForExit,
    kill: child.kill,
    stop: async boundMs => (await child.stop(boundMs)).code,
  }
}
