/** Where `nbdgate connect` listens: a Unix socket for its user alone, or a port that only this machine reaches. */
import { resolve } from 'node:path'
import { parseAddress, parseCidr } from '../config/cidr.ts'
import type { DoorConfig } from '../config/config.ts'
import { parseEndpoint } from '../config/endpoint.ts'
import { socketPathProblem } from '../config/upstream-uri.ts'
import { UsageError } from './errors.ts'

const SOURCE = '--listen'
const UNIX = 'unix:'
const LOOPBACK = ['127.0.0.0/8', '::1/128']
const ANYWHERE = ['0.0.0.0/0', '::/0']

/**
 * The near end. What comes in there is plaintext without any question: a port is loopback's, unless `anywhere`.
 * @throws UsageError
 */
export function nearEnd(text: string, { anywhere }: { readonly anywhere: boolean }): DoorConfig {
  if (text.startsWith(UNIX)) {
    const written = text.slice(UNIX.length)
    const path = resolve(written)
    const problem = socketPathProblem(written === '' ? '' : path)
    if (problem !== undefined) throw new UsageError(`--listen: ${problem}`)
    return { kind: 'unix', path, mode: 0o600, source: SOURCE }
  }
  const endpoint = parseEndpoint(text)
  if (!endpoint.ok) throw new UsageError(`--listen: ${endpoint.problem}, or unix:PATH`)
  if (!anywhere && !isLoopback(endpoint.value.host)) {
    throw new UsageError(
      '--listen: whoever reaches this address could use the export without being asked who they are; ' +
        'listen on 127.0.0.1, or say --insecure-listen-anywhere',
    )
  }
  return { kind: 'tcp', ...endpoint.value, from: networks(anywhere ? ANYWHERE : LOOPBACK), source: SOURCE }
}

function networks(texts: readonly string[]) {
  return texts.flatMap(text => {
    const cidr = parseCidr(text)
    return cidr.ok ? [cidr.value] : []
  })
}

/** A name other than localhost may resolve to anything. */
function isLoopback(host: string): boolean {
  const address = parseAddress(host)
  if (address === undefined) return host.toLowerCase() === 'localhost'
  return address.family === 4 ? address.value >> 24n === 127n : address.value === 1n
}
