// What tests of resuming stand on: servers that crash and come back, and fio that must not notice.
import { rmSync } from 'node:fs'
import { truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type RunningGateway, startGateway } from '../support/gateway.ts'
import { runOk, type Started } from '../support/process.ts'
import { crashDaemon } from '../support/procfs.ts'
import { type NbdServer, startNbdkit, startNbdServer } from '../support/servers.ts'
import { freePort } from '../support/wait.ts'
import { test as base } from './ssh-support.ts'

/** Crashes of a test; a whole show has 100. */
export const CYCLES = Number(process.env.CYCLES ?? '3')

const SIZE_MIB = 32

/** How long a server works before it crashes, and is away before it comes back. */
const UP_MS = 300
const AWAY_MS = 200

/** A server that crashes when it is told to, and comes back at the same place. */
export interface Crashing {
  readonly uri: string
  /** Ends it as a crash does, with all that serves for it. */
  crash(): Promise<void>
  /** Starts it again; resolves when it takes connections. */
  comeBack(): Promise<void>
}

export const test = base
  /** An nbd-server on a port of its own. */
  .extend('crashing', async ({ dir }, { onCleanup }): Promise<Crashing> => {
    const file = join(dir, 'disk.img')
    await writeFile(file, '')
    await truncate(file, SIZE_MIB * 1024 * 1024)
    const port = await freePort()
    const options = { exports: { disk: { file, flush: true, fua: true } }, port }
    let server: NbdServer | undefined = await startNbdServer(dir, 'crashing', options)
    const { uri } = server
    onCleanup(async () => server?.stop())
    return {
      uri: uri('disk'),
      crash: async () => {
        if (server !== undefined) await crashDaemon(server.pid)
        server = undefined
      },
      comeBack: async () => {
        rmSync(join(dir, 'crashing-1.pid'), { force: true })
        server = await startNbdServer(dir, 'crashing', options)
      },
    }
  })
  /** A gateway whose doors have ports of their own. */
  .extend('restarting', async ({ dir }, { onCleanup }) => {
    let running: RunningGateway | undefined
    onCleanup(async () => void (await running?.stop()))
    return async (yaml: string): Promise<Crashing> => {
      const begin = async (): Promise<void> => {
        running = await startGateway(dir, 'restarting', yaml)
      }
      await begin()
      return {
        uri: '',
        crash: async () => {
          if (running !== undefined) await crashDaemon(running.pid)
        },
        comeBack: begin,
      }
    }
  })
  /** nbdkit with a disk in its memory: a crash loses all of it. */
  .extend('forgetful', async ({ dir }, { onCleanup }) => {
    let process: Started | undefined
    onCleanup(async () => void (await process?.stop()))
    const begin = async (args: readonly string[]): Promise<string> => {
      for (const file of ['forgetful.pid', 'forgetful.sock']) rmSync(join(dir, file), { force: true })
      const started = await startNbdkit(dir, 'forgetful', args)
      process = started.process
      return started.socket
    }
    return async (...args: readonly string[]): Promise<Crashing> => {
      const words = args.length === 0 ? ['memory', '1M'] : args
      const socket = await begin(words)
      return {
        uri: `nbd+unix:///?socket=${socket}`,
        crash: async () => {
          process?.kill('SIGKILL')
          await process?.waitForExit()
        },
        comeBack: async () => void (await begin(words)),
      }
    }
  })

/** Writes and reads at random places with 32 in flight, and finds every block as it was written. Rejects on any error. */
export async function fioVerifies(
  dir: string,
  uri: string,
  options: { readonly prefix?: readonly string[]; readonly env?: NodeJS.ProcessEnv } = {},
): Promise<void> {
  const job = ['--name=resume', '--rw=randrw', '--bs=4k', '--iodepth=32', `--size=${SIZE_MIB}M`, '--fsync=200']
  const pace = ['--rate_iops=4000,4000']
  const verify = ['--verify=crc32c', '--do_verify=1', '--verify_fatal=1', '--verify_state_save=0']
  const argv = [...(options.prefix ?? []), 'fio', '--ioengine=nbd', `--uri=${uri}`, ...job, ...pace, ...verify]
  await runOk(argv, { cwd: dir, timeoutMs: 180_000, ...(options.env === undefined ? {} : { env: options.env }) })
}

/**
 * Has a server crash and come back so many times under a client that works, which is begun anew as often as that takes.
 * How long each time nothing moved after the server took connections again, in milliseconds: until the session went on.
 */
export async function crashes(
  count: number,
  server: Crashing,
  work: () => Promise<void>,
  gateway: Pick<RunningGateway, 'log'>,
): Promise<readonly number[]> {
  const waits: number[] = []
  const lines = (what: string): number => gateway.log().filter(({ msg }) => msg === what).length
  let isAway = false
  let failure: unknown
  /** Sessions that were there before the client began; fio looks at the disk on one, and works on the next. */
  let before = 0
  const isWorking = (): boolean =>
    lines('session opened') >= before + 2 && lines('session opened') > lines('session ended')
  const crash = async (): Promise<void> => {
    while (waits.length < count && failure === undefined) {
      await delay(UP_MS)
      if (!isWorking()) continue
      const [back = Number.NaN] = [backs(gateway).length]
      isAway = true
      await server.crash()
      await delay(AWAY_MS)
      await server.comeBack()
      const began = Date.now()
      isAway = false
      while (backs(gateway).length === back && isWorking() && failure === undefined) await delay(5)
      const at = backs(gateway)[back]
      if (at !== undefined) waits.push(Math.max(0, at - began))
    }
  }
  const client = async (): Promise<void> => {
    do {
      while (isAway) await delay(5)
      before = lines('session opened')
      await work()
    } while (waits.length < count)
  }
  await Promise.all([
    crash(),
    client().catch(error => {
      failure = error
      throw error
    }),
  ])
  return waits
}

function backs({ log }: Pick<RunningGateway, 'log'>): readonly number[] {
  return log()
    .filter(({ msg }) => msg === 'upstream back')
    .map(({ time }) => Date.parse(String(time)))
}

/** The middle one. */
export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}
