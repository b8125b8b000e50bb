/**
 * One connection, on standard input, as inetd, xinetd and systemd (Accept=yes) hand it over: a gateway whose only door it has
 * come through. inetd makes it standard output and standard error as well, where no word may be written but NBD.
 */
import { closeSync, fstatSync, mkdirSync, openSync } from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'
import type { Config, DoorConfig } from '../config/config.ts'
import { startGateway } from '../gateway/gateway.ts'
import { placesOf } from '../gateway/handed.ts'
import { type Log, logLines, openLog } from '../observe/log.ts'
import { sendDatagram } from '../platform/descriptors.ts'
import { Ending } from './ending.ts'
import { UsageError } from './errors.ts'
import { Exit, failureOf } from './failures.ts'
import type { InetdFlags } from './inetd-flags.ts'
import { loadAll } from './load.ts'
import { Reloading } from './reloading.ts'

const STDIN = 0
const OUTPUTS = [1, 2] as const
/** syslog(3): daemon, error and informational. */
const Priority = { ERROR: 27, INFO: 30 } as const

/** Serves it; the exit code. Never throws. */
export async function inetd(flags: InetdFlags): Promise<number> {
  const isApart = keepOutputsApart()
  try {
    await serve(flags, isApart)
    return Exit.FINE
  } catch (error) {
    const { text, code } = failureOf(error)
    if (isApart) process.stderr.write(text)
    else for (const line of text.trimEnd().split('\n')) tellSyslog(Priority.ERROR, line)
    return code
  }
}

/** The same for the command line, which has its own words for what is thrown. */
export async function serveStandardInput(flags: InetdFlags): Promise<void> {
  await serve(flags, keepOutputsApart())
}

async function serve({ config: file, door: kind }: InetdFlags, isApart: boolean): Promise<void> {
  const load = (): Config => withOneDoor(loadAll(file).config, kind)
  const config = load()
  const [door] = config.doors
  const [place] = placesOf(config.doors)
  if (door === undefined || place === undefined) throw new UsageError(`${file}: there is no door`)
  const log = openInetdLog(config, isApart)
  const connection = openConnection(door)
  const closed = new Promise(resolve => connection.once('close', resolve))
  const reloading = new Reloading(config, log, { load })
  process.on('SIGHUP', () => reloading.ask('SIGHUP'))
  try {
    const handed = new Map([[place, { connection }]])
    const gateway = await startGateway(config, log, { handed, auditDir: trailFolder(config) })
    reloading.begin(gateway)
    const ending = new Ending(gateway, log)
    await Promise.race([closed, ending.done])
    // What the session has to give back and to write down.
    await Promise.race([gateway.drain(), ending.done])
  } finally {
    reloading.close()
  }
}

/** The file, with the door that is meant and no other, in one process that nobody else asks. */
function withOneDoor(config: Config, kind: string | undefined): Config {
  const { file, admin: _admin, ...rest } = config
  const doors = config.doors.filter(door => kind === undefined || door.kind === kind)
  const [door, other] = doors
  if (door === undefined) throw new UsageError(`${file}: there is no ${kind} door`)
  if (other !== undefined) {
    const which = kind === undefined ? 'several doors; --door says which' : `several ${kind} doors`
    throw new UsageError(`${file}: there are ${which}`)
  }
  return { ...rest, file, doors, workers: 1 }
}

/** A trail has one writer: each process has its own. */
function trailFolder({ state, audit }: Config): string | undefined {
  if (state === undefined || audit === undefined) return undefined
  const all = join(state, 'inetd')
  mkdirSync(all, { recursive: true, mode: 0o700 })
  return join(all, `${new Date().toISOString().replaceAll(':', '')}-${process.pid}`)
}

function openConnection(door: DoorConfig): Socket {
  if (!fstatSync(STDIN).isSocket()) throw new UsageError('standard input is no connection: inetd starts this')
  // pauseOnCreate is what listeners use; nothing may be read before somebody asks for it.
  const options = { fd: STDIN, allowHalfOpen: true, readable: true, writable: true, pauseOnCreate: true }
  const connection = new Socket(options)
  connection.setNoDelay(true)
  connection.setKeepAlive(true, KEEPALIVE_MS)
  const isTcp = connection.remoteAddress !== undefined
  if (isTcp === (door.kind !== 'unix')) return connection
  connection.destroy()
  throw new UsageError(`standard input is no connection of a ${door.kind} door`)
}

/** As at doors that listen. */
const KEEPALIVE_MS = 15_000

/** Takes the connection away from the outputs; whether it was not there anyway. */
function keepOutputsApart(): boolean {
  const { dev, ino } = fstatSync(STDIN)
  const taken = OUTPUTS.filter(fd => {
    const output = fstatSync(fd)
    return output.dev === dev && output.ino === ino
  })
  for (const fd of taken) {
    closeSync(fd)
    // The lowest number that is free, which is this one.
    openSync('/dev/null', 'w')
  }
  return !taken.includes(2)
}

function openInetdLog({ log }: Config, isApart: boolean): Log {
  if (log.file !== undefined || isApart) return openLog(log)
  return logLines(log.level, { write: line => tellSyslog(Priority.INFO, line.trimEnd()) })
}

/** RFC 3164, as syslog(3) writes it. Nobody hears it where there is no syslog, or no koffi. */
function tellSyslog(priority: number, line: string): void {
  sendDatagram('/dev/log', Buffer.from(`<${priority}>nbdgate[${process.pid}]: ${line}`))
}
