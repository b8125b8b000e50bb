/**
 * A long line between two programs: what is sent arrives after the delay, and no more than a window is on its way at once
 * on each connection and direction until its acknowledgement has come back, as TCP has it. The kernel's netem would do it,
 * where it is built in.
 */
import { once } from 'node:events'
import { connect, createServer } from 'node:net'

const HOST = '127.0.0.1'

/** @param {{ to: (nth: number) => import('node:net').NetConnectOpts, delayMs: number, windowBytes: number }} options */
export async function openSlowLine({ to, delayMs, windowBytes }) {
  /** @type {Set<readonly [import('node:net').Socket, import('node:net').Socket]>} */
  const open = new Set()
  let opened = 0
  const server = createServer({ allowHalfOpen: true, noDelay: true }, near => {
    opened++
    const far = connect({ ...to(opened), allowHalfOpen: true, noDelay: true })
    const pair = /** @type {const} */ ([near, far])
    open.add(pair)
    for (const [one, other] of [pair, /** @type {const} */ ([far, near])]) {
      one.on('error', () => {})
      one.on('close', () => {
        open.delete(pair)
        other.destroy()
      })
      carry(one, other, { delayMs, windowBytes })
    }
  })
  server.listen(0, HOST)
  await once(server, 'listening')
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  return {
    port,
    /** Connections that there have been. */
    get opened() {
      return opened
    },
    /** Connections that there are. */
    get open() {
      return open.size
    },
    /** Resets the oldest connection, whatever is on its way. */
    cutOne() {
      const [pair] = open
      // A Unix socket knows no reset.
      pair?.[0].resetAndDestroy()
      pair?.[1].destroy()
    },
    async close() {
      for (const pair of open) for (const socket of pair) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

/**
 * @param {import('node:net').Socket} from
 * @param {import('node:net').Socket} to
 * @param {{ delayMs: number, windowBytes: number }} line
 */
function carry(from, to, { delayMs, windowBytes }) {
  let onTheWay = 0
  from.on('data', chunk => {
    onTheWay += chunk.length
    if (onTheWay >= windowBytes) from.pause()
    const acknowledged = () => {
      onTheWay -= chunk.length
      if (onTheWay < windowBytes) from.resume()
    }
    const arrive = () => to.write(chunk, () => setTimeout(acknowledged, delayMs))
    setTimeout(arrive, delayMs)
  })
  from.on('end', () => setTimeout(() => to.end(), delayMs))
}
