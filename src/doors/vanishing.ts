import type { Socket } from 'node:net'
import { descriptorOf, type KeepAlive, setKeepAlive } from '../platform/libc.ts'

/** TCP_KEEPCNT's largest value; the time limit comes first. */
const MAX_PROBES = 127

/**
 * Has TCP notice within `ms` that the peer has vanished, also while it owes us acknowledgements. Where the socket's
 * options can not be reached, what `listen` has set stays: the kernel's own intervals, which are minutes.
 */
export function watchForVanishing(socket: Socket, ms: number): void {
  const descriptor = descriptorOf(socket)
  if (descriptor !== undefined) setKeepAlive(descriptor, keepAliveFor(ms))
}

/** The first probe after a third of the time, the others at every sixth. */
export function keepAliveFor(ms: number): KeepAlive {
  const idleS = Math.max(1, Math.floor(ms / 3000))
  const intervalS = Math.max(1, Math.floor(ms / 6000))
  const probes = Math.min(MAX_PROBES, Math.max(1, Math.ceil((ms / 1000 - idleS) / intervalS)))
  return { idleS: Math.min(idleS, 32_767), intervalS: Math.min(intervalS, 32_767), probes, timeoutMs: ms }
}
