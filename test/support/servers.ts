/** The real NBD servers that tests put behind the gateway. */

import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { run, type Started, start } from './process.ts'
import { isAlive, isListening, stopDaemon } from './procfs.ts'
import { freePort, isConnectable, type SocketAddress, waitFor } from './wait.ts'

/** One export of an nbd-server; nbd-server(5). What is absent is the server's default. */
export interface NbdServerExport {
  readonly file: string
  readonly readonly?: boolean
  readonly flush?: boolean
  readonly fua?: boolean
  /** Further lines of its section. */
  readonly extra?: string
}

/** What an nbd-server serves. */
export interface NbdServerOptions {
  readonly exports: Readonly<Record<string, NbdServerExport>>
  /** Further lines of `[generic]`. */
  readonly generic?: string
  /** Listen on a Unix socket instead of a port; nbd-server 3.24 does one or the other. */
  readonly unix?: boolean
  /** Listen on this port and no other. */
  readonly port?: number
}

/** An nbd-server that runs, a daemon. */
export interface NbdServer {
  readonly pid: number
  readonly address: SocketAddress
  readonly host: string
  /** 0 if it listens on a Unix socket. */
  readonly port: number
  /** Empty if it listens on a port. */
  readonly socket: string
  uri(exportName: string): string
  stop(): Promise<void>
}

const HOST = '127.0.0.1'
const PORT_ATTEMPTS = 5

function configOf(options: NbdServerOptions, listen: readonly string[]): string {
  const lines = ['[generic]', ...listen, 'allowlist = true', options.generic ?? '']
  for (const [name, { file, readonly, flush, fua, extra }] of Object.entries(options.exports)) {
    lines.push(`[${name}]`, `exportname = ${file}`)
    for (const [key, value] of Object.entries({ readonly, flush, fua })) {
      if (value !== undefined) lines.push(`${key} = ${value}`)
    }
    lines.push(extra ?? '')
  }
  return `${lines.join('\n')}\n`
}

async function readPid(file: string): Promise<number | undefined> {
  const pid = Number.parseInt(await readFile(file, 'utf8').catch(() => ''), 10)
  return Number.isNaN(pid) ? undefined : pid
}

interface Attempt {
  readonly base: string
  readonly listen: readonly string[]
  readonly isReady: (pid: number) => boolean | Promise<boolean>
}

/** The daemon's pid, or undefined if it ended before it was ready, which is how it answers to a port in use. */
async function launch(options: NbdServerOptions, attempt: Attempt): Promise<number | undefined> {
  const config = `${attempt.base}.conf`
  const pidFile = `${attempt.base}.pid`
  await writeFile(config, configOf(options, attempt.listen))
  // Not -d: it would stay in the foreground, but serve only one connection.
  const { code, stderr } = await run(['nbd-server', '-C', config, '-p', pidFile])
  if (code !== 0) throw new Error(`nbd-server ended with ${code}\n${stderr}`)
  let pid: number | undefined
  let ready = false
  await waitFor('nbd-server ready', async () => {
    pid ??= await readPid(pidFile)
    if (pid === undefined) return false
    ready = await attempt.isReady(pid)
    return ready || !isAlive(pid)
  })
  return ready ? pid : undefined
}

/** Starts an nbd-server with its files in `dir`, named after `name`. Rejects if it does not come up. */
export async function startNbdServer(dir: string, name: string, options: NbdServerOptions): Promise<NbdServer> {
  const base = join(dir, name)
  for (let attempt = 1; attempt <= PORT_ATTEMPTS; attempt++) {
    const socket = options.unix === true ? `${base}.sock` : ''
    const port = options.unix === true ? 0 : (options.port ?? (await freePort()))
    const address: SocketAddress = options.unix === true ? { path: socket } : { host: HOST, port }
    const pid = await launch(options, {
      base: `${base}-${attempt}`,
      listen: options.unix === true ? [`unixsock = ${socket}`] : [`listenaddr = ${HOST}`, `port = ${port}`],
      isReady: candidate => (options.unix === true ? isConnectable(address) : isListening(candidate, port)),
    })
    if (pid === undefined) continue
    const uri = (exportName: string) =>
      options.unix === true
        ? `nbd+unix:///${encodeURIComponent(exportName)}?socket=${socket}`
        : `nbd://${HOST}:${port}/${encodeURIComponent(exportName)}`
    return { pid, address, host: HOST, port, socket, uri, stop: () => stopDaemon(pid) }
  }
  throw new Error(`nbd-server did not come up in ${PORT_ATTEMPTS} attempts`)
}

/** A server in the foreground that listens on a Unix socket. */
export interface SocketServer {
  readonly socket: string
  readonly process: Started
}

/** Starts nbdkit with these arguments (filters, plugin, parameters) on a Unix socket in `dir`. */
export async function startNbdkit(dir: string, name: string, args: readonly string[]): Promise<SocketServer> {
  const socket = join(dir, `${name}.sock`)
  const pidFile = join(dir, `${name}.pid`)
  const own = ['-f', '--exit-with-parent', '-U', socket, '-P', pidFile]
  // Its pid file says that it accepts connections; a connection to find out would be seen by the filters.
  const process = await start(['nbdkit', ...own, ...args], {
    ready: async () => (await readPid(pidFile)) !== undefined,
  })
  return { socket, process }
}

/** Starts qemu-nbd for an image, raw unless `-f` or `--image-opts` is among the arguments, on a Unix socket in `dir`. */
export async function startQemuNbd(
  dir: string,
  name: string,
  image: string,
  args: readonly string[],
): Promise<SocketServer> {
  const socket = join(dir, `${name}.sock`)
  const pidFile = join(dir, `${name}.pid`)
  const format = args.includes('-f') || args.includes('--image-opts') ? [] : ['-f', 'raw']
  const own = ['-t', '-e', '16', '-k', socket, `--pid-file=${pidFile}`, ...format]
  const process = await start(['qemu-nbd', ...own, ...args, image], {
    ready: async () => (await readPid(pidFile)) !== undefined,
  })
  return { socket, process }
}
