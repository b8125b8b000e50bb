/** The real HAProxy as a balancer on the loopback. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Started, start } from './process.ts'
import { isListening } from './procfs.ts'
import { findProgram } from './programs.mjs'
import { freePort } from './wait.ts'

/** A balancer that runs. */
export interface Balancer {
  readonly port: number
  /** Its log, one line for each connection that has ended: `IP PORT`, the client's. */
  readonly process: Started
}

/** How it accepts and how it passes on. */
export interface BalancerOptions {
  /** Where it passes connections on to. */
  readonly port: number
  /** Further words of its `bind` line: `accept-proxy`. */
  readonly bind?: string
  /** Further words of its `server` line: `send-proxy-v2`. */
  readonly server?: string
}

const PORT_ATTEMPTS = 5

function configOf(port: number, options: BalancerOptions): string {
  return `global
  log stdout format raw local0
defaults
  mode tcp
  log global
  log-format "%ci %cp"
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen balancer
  bind 127.0.0.1:${port} ${options.bind ?? ''}
  server behind 127.0.0.1:${options.port} source 127.0.0.2 ${options.server ?? ''}
`
}

/** Starts HAProxy; it dials from 127.0.0.2. Rejects with what it printed. */
export async function startBalancer(dir: string, name: string, options: BalancerOptions): Promise<Balancer> {
  const file = join(dir, `${name}.cfg`)
  for (let attempt = 1; ; attempt++) {
    const port = await freePort()
    await writeFile(file, configOf(port, options))
    let pid = 0
    try {
      // The shell says the process that HAProxy is going to be: only that one's listening counts.
      const words = ['sh', '-c', 'echo $$ >&2; exec "$0" -db -f "$1"', findProgram('haproxy') ?? 'haproxy', file]
      const process = await start(words, {
        onStderr: text => {
          pid ||= Number.parseInt(text, 10)
        },
        ready: () => pid > 0 && isListening(pid, port),
      })
      return { port, process }
    } catch (error) {
      // Somebody else may have taken the port in between.
      if (attempt === PORT_ATTEMPTS || !String(error).includes('cannot bind')) throw error
    }
  }
}
