import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

/** A running nbd-server of the demo. */
export interface SampleServer {
  readonly uri: string
  stop(): Promise<void>
}

const START_MS = 5000

/** Starts nbd-server on a Unix socket in `dir` with `disk` as its export; undefined where it is not installed. */
export async function startSampleServer(dir: string, disk: string): Promise<SampleServer | undefined> {
  const [config, pidFile, socket] = [
    join(dir, 'nbd-server.conf'),
    join(dir, 'nbd-server.pid'),
    join(dir, 'upstream.sock'),
  ]
  writeFileSync(config, `[generic]\nunixsock = ${socket}\n[disk]\nexportname = ${disk}\nflush = true\nfua = true\n`)
  const child = spawn('nbd-server', ['-C', config, '-p', pidFile], {
    stdio: 'ignore',
    env: { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` },
  })
  try {
    // It forks into the background: the one that was started exits at once.
    const [code] = await once(child, 'exit', { signal: AbortSignal.timeout(START_MS) })
    if (code !== 0 || !(await listens(socket))) return undefined
  } catch {
    return undefined
  }
  return {
    uri: `nbd+unix:///disk?socket=${socket}`,
    stop: async () => {
      const pid = existsSync(pidFile) ? Number.parseInt(readFileSync(pidFile, 'latin1'), 10) : Number.NaN
      if (pid > 1) process.kill(pid, 'SIGTERM')
    },
  }
}

async function listens(path: string): Promise<boolean> {
  const deadline = performance.now() + START_MS
  while (performance.now() < deadline) {
    const socket = connect(path)
    try {
      await once(socket, 'connect', { signal: AbortSignal.timeout(START_MS) })
      return true
    } catch {
      await delay(20)
    } finally {
      socket.destroy()
    }
  }
  return false
}
