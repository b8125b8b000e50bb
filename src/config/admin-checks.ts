import { parseAddress } from './cidr.ts'
import { parseEndpoint } from './endpoint.ts'
import { asMap } from './raw.ts'
import type { PathProblem } from './schema-problems.ts'

/** What is wrong with `admin` beyond its form: nothing to reach it by, or an open ear on the network. */
export function adminProblems(admin: unknown): readonly PathProblem[] {
  const map = asMap(admin)
  if (map === undefined) return []
  if (map.socket === undefined && map.http === undefined) {
    return [{ path: ['admin'], message: '`admin` needs `socket`, `http` or both' }]
  }
  const hasToken = map['token-file'] !== undefined
  if (map.http === undefined) {
    return hasToken ? [{ path: ['admin', 'token-file'], at: 'key', message: '`token-file` needs `http`' }] : []
  }
  const endpoint = typeof map.http === 'string' ? parseEndpoint(map.http) : undefined
  if (endpoint?.ok !== true || hasToken || isLoopback(endpoint.value.host)) return []
  const message = 'anybody who can reach this address could look on: it needs `token-file`, or an address of loopback'
  return [{ path: ['admin', 'http'], message }]
}

/** Whether only this host can reach it. */
function isLoopback(host: string): boolean {
  if (host.toLowerCase() === 'localhost') return true
  const address = parseAddress(host)
  return address !== undefined && (address.family === 4 ? address.value >> 24n === 127n : address.value === 1n)
}
