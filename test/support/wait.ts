import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/** How long a fact may take to come true before a test gives up on it. Generous: machines that test are busy. */
export const WAIT_BOUND_MS = 20_000

const POLL_MS = 10

/** What is waited for, how long, and what to add to the message if it does not come true. */
export interface WaitOptions {
  readonly boundMs?: number
  readonly describe?: () => string
}

/**
 * Polls until `fact` holds; the one place where tests wait for another process. Rejects with `what` after the bound, and
 * with what `fact` throws.
 */
export async function waitFor(
  what: string,
  fact: () => boolean | Promise<boolean>,
  options: WaitOptions = {},
): Promise<void> {
  const boundMs = options.boundMs ?? WAIT_BOUND_MS
  const deadline = performance.now() + boundMs
  while (!(await fact())) {
    if (performance.now() > deadline) {
      throw new Error(`${what}: not within ${boundMs} ms\n${options.describe?.() ?? ''}`.trimEnd())
    }
    await delay(POLL_MS)
  }
}

/** Where a server listens, in the shape that node:net wants it. */
export type SocketAddress = { readonly path: string } | { readonly host: string; readonly port: number }

/** Whether somebody accepts connections there now. */
export async function isConnectable(address: SocketAddress): Promise<boolean> {
  const socket = connect(address)
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

const PORT_ATTEMPTS = 100
const given = new Set<number>()

/**
 * A port of 127.0.0.1 that nobody listens on at the moment, and another one each time. Somebody may take it: whoever binds
 * it must try again.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < PORT_ATTEMPTS; attempt++) {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    server.close()
    await once(server, 'close')
    if (address === null || typeof address === 'string') throw new Error('a TCP server has an address and a port')
    if (!given.has(address.port)) {
      given.add(address.port)
      return address.port
    }
  }
  throw new Error(`no port that was not given before in ${PORT_ATTEMPTS} attempts`)
}
