/** A line on TCP on which things happen: what they are is said by whoever tests, how long and where by a seed. */
import { connect, createServer, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/** `delay`: all that comes waits. `loss`: nothing comes, and then all of it. `trickle`: it comes a few bytes at a time. */
export const FAULTS = ['reset', 'half-close', 'cut off', 'delay', 'loss', 'trickle'] as const
export type Fault = (typeof FAULTS)[number]

const TRICKLE_BYTES = 7
const DELAY_MS = 20

export interface BadLine {
  readonly port: number
  /** Connections that are there. */
  readonly count: number
  /** Has something happen to all connections that are there; resolves when it is over. */
  strike(fault: Fault, ms: number): Promise<void>
  stop(): Promise<void>
}

/** Numbers from 0 to 1 that a seed gives again (Mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b_79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Passes connections on to a port of the loopback. */
export async function startBadLine(to: number): Promise<BadLine> {
  const pairs = new Set<readonly [Socket, Socket]>()
  let slowness: 'none' | 'delay' | 'trickle' = 'none'
  const passOn = async (from: Socket, onward: Socket): Promise<void> => {
    for await (const bytes of from) {
      if (slowness === 'delay') await delay(DELAY_MS)
      let at = 0
      for (; slowness === 'trickle' && at < bytes.length; at += TRICKLE_BYTES) {
        onward.write(bytes.subarray(at, at + TRICKLE_BYTES))
        await delay(1)
      }
      if (at < bytes.length) onward.write(bytes.subarray(at))
    }
    onward.end()
  }
  const server = createServer({ allowHalfOpen: true, noDelay: true }, near => {
    const far = connect({ host: '127.0.0.1', port: to, allowHalfOpen: true, noDelay: true })
    const pair = [near, far] as const
    pairs.add(pair)
    for (const [from, onward] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on('error', () => {})
      from.on('close', () => {
        pairs.delete(pair)
        onward.destroy()
      })
      passOn(from, onward).catch(() => onward.destroy())
    }
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port')
  const strike = async (fault: Fault, ms: number): Promise<void> => {
    const struck = [...pairs]
    switch (fault) {
      case 'reset':
        for (const socket of struck.flat()) socket.resetAndDestroy()
        return
      case 'cut off':
        for (const socket of struck.flat()) socket.destroy()
        return
      case 'half-close':
        for (const [near] of struck) near.end()
        return
      case 'loss':
        for (const socket of struck.flat()) socket.cork()
        await delay(ms)
        for (const socket of struck.flat()) socket.uncork()
        return
      case 'delay':
      case 'trickle':
        slowness = fault
        await delay(ms)
        slowness = 'none'
        return
      default:
        return fault satisfies never
    }
  }
  return {
    port: address.port,
    get count() {
      return pairs.size
    },
    strike,
    stop: async () => {
      for (const socket of [...pairs].flat()) socket.destroy()
      await new Promise(resolve => server.close(resolve))
    },
  }
}
