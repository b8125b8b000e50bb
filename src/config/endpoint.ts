import { isIP } from 'node:net'
import { printable } from '../protocol/strings.ts'
import { type Parsed, parsed, unparsed } from './parsed.ts'

/** Where to listen or dial. The host is an address without brackets, or a name. */
export interface Endpoint {
  readonly host: string
  readonly port: number
}

/** Reads `10.0.0.1:10809`, `[::1]:10809` or `name:10809`. Port 0 means: any free one. */
export function parseEndpoint(text: string): Parsed<Endpoint> {
  const shown = JSON.stringify(printable(text))
  const colon = text.lastIndexOf(':')
  if (colon < 0) return unparsed(`${shown} has no port: write HOST:PORT`)
  const host = parseHost(text.slice(0, colon))
  if (!host.ok) return host
  const port = parsePort(text.slice(colon + 1))
  return port === undefined
    ? unparsed(`${shown} has no port from 0 to 65535 behind its last colon`)
    : parsed({ host: host.value, port })
}

/**
 * Reads a v4 address, a v6 address in brackets, or a host name (RFC 1123, and underscores). One that begins with `-` is
 * refused: some program would take it for an option (CVE-2025-14946).
 */
export function parseHost(text: string): Parsed<string> {
  const shown = JSON.stringify(printable(text))
  if (text === '') return unparsed('the host is missing: 0.0.0.0 or [::] stands for every address of this machine')
  if (text === '*') return unparsed('"*" is not a host: write 0.0.0.0 or [::] for every address of this machine')
  if (text.startsWith('[') && text.endsWith(']') && isIP(text.slice(1, -1)) === 6) return parsed(text.slice(1, -1))
  if (isIP(text) === 4) return parsed(text)
  if (isIP(text) === 6) return unparsed(`${shown} needs brackets: write [${text}]`)
  if (text.startsWith('-')) return unparsed(`${shown} is not a host: it begins with -`)
  // Nothing but digits at the end is an address gone wrong, never a name (RFC 3696, 2).
  const isName =
    text.length <= 253 && /^[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?$/i.test(text) && !/(^|\.)\d+\.?$/.test(text)
  return isName ? parsed(text) : unparsed(`${shown} is not an address or a host name`)
}

/** Reads a port number, 0 to 65535; undefined for anything else. */
export function parsePort(text: string): number | undefined {
  return /^\d{1,5}$/.test(text) && Number(text) <= 65535 ? Number(text) : undefined
}
