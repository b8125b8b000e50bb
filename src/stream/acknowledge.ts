import type { Socket } from 'node:net'
import { acknowledge, descriptorOf } from '../platform/libc.ts'

/**
 * Acknowledges at once what has come on a socket. nbd-server sends an option's reply in pieces without TCP_NODELAY, so that each
 * second piece waits for the acknowledgement of the first, which Linux delays by 40 ms (RFC 9293, 3.8.6.3; Nagle, RFC 896).
 * Whether that worked; it does not on what is no TCP socket, and without koffi.
 */
export function acknowledgeOn(socket: Socket): boolean {
  const fd = descriptorOf(socket)
  return fd !== undefined && socket.remoteFamily !== undefined && acknowledge(fd)
}
