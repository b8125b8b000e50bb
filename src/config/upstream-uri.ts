/**
 * NBD URIs (the NBD project's doc/uri.md) as text: what they name, and what is wrong with them. Split by hand, not by
 * `URL`, which would tidy up paths that are export names. Dials nothing, looks up no name.
 */

import { MAX_STRING_BYTES } from '../protocol/constants.ts'
import { decodeString, printable } from '../protocol/strings.ts'
import { type Endpoint, parseHost, parsePort } from './endpoint.ts'
import { type Parsed, parsed, unparsed } from './parsed.ts'

interface UriFacts {
  /** The export's name, percent-decoded; empty means the default export. */
  readonly export: string
  /** `nbds`, `nbds+unix`: TLS or nothing. */
  readonly tls: boolean
  /** The name that the upstream's certificate must have, where that is not the host's. */
  readonly tlsHostname?: string
}

/** What an NBD URI names: an export behind a TCP port, or behind a Unix socket (its path as written, maybe relative). */
export type UpstreamUri =
  | ({ readonly kind: 'tcp'; readonly host: string; readonly port: number } & UriFacts)
  | ({ readonly kind: 'unix'; readonly path: string } & UriFacts)
  | SshUri

/** An NBD server as the far end of SSH sees it: a port of its loopback, or a Unix socket there. */
export interface SshUri {
  readonly kind: 'ssh'
  readonly host: string
  readonly port: number
  /** Absent: the user that we run as. */
  readonly user?: string
  readonly target: { readonly kind: 'tcp'; readonly port: number } | { readonly kind: 'unix'; readonly path: string }
  readonly export: string
  /** Inside SSH there is no TLS. */
  readonly tls: false
}

/** IANA's port for NBD; the default of a URI (doc/uri.md, "NBD URI authority"). */
export const NBD_PORT = 10809

/** Connections that a session may have to its upstream. */
export const MAX_CONNECTIONS = 16

/** IANA's port for SSH. */
const SSH_PORT = 22

/** Longest path of a Unix socket in bytes: sun_path has 108 with its NUL (unix(7)); Node would cut it without a word. */
export const MAX_SOCKET_PATH_BYTES = 107

const SCHEMES = new Map([
  ['nbd', { isUnix: false, tls: false }],
  ['nbds', { isUnix: false, tls: true }],
  ['nbd+unix', { isUnix: true, tls: false }],
  ['nbds+unix', { isUnix: true, tls: true }],
])

/** Parameters of doc/uri.md and of libnbd that mean something here too, and what to do instead. */
const REFUSED_PARAMETERS = new Map([
  ['tls-verify-peer', 'nbdgate always verifies'],
  ['tls-type', 'nbdgate uses X.509 certificates'],
  ['tls-certificates', 'write { uri: …, ca: …, cert: …, key: … }'],
  ['tls-psk-file', 'keys instead of certificates are not in this version'],
  ['tls-username', 'keys instead of certificates are not in this version'],
])

/**
 * Reads `nbd://host:port/export`, `nbds://…`, `nbd+unix:///export?socket=PATH`, `nbds+unix://…`
 * and `nbd+ssh://user@host/export?port=N` or `?socket=PATH`. What it does not
 * understand is a problem, and so are secrets: a URI gets into logs. The problem never repeats a password.
 */
export function parseUpstreamUri(text: string): Parsed<UpstreamUri> {
  const match = /^([a-z][a-z0-9+.-]*):\/\/([^/?#]*)(\/[^?#]*)?(?:\?([^#]*))?(#.*)?$/is.exec(text)
  if (match === null)
    return unparsed('this is not an NBD URI: nbd://HOST/EXPORT, nbds://HOST/EXPORT or nbd+unix:///EXPORT?socket=PATH')
  const [, schemeText = '', authority = '', path = '', query, fragment] = match
  if (authority.includes('@') && !/^nbds?\+ssh$/i.test(schemeText)) {
    return unparsed('a URI with a user or a password is refused: it would get into logs; use certificates')
  }
  const isSsh = schemeText.toLowerCase() === 'nbd+ssh'
  const scheme = isSsh ? { isUnix: false, tls: false } : SCHEMES.get(schemeText.toLowerCase())
  if (scheme === undefined) return unparsed(schemeProblem(schemeText))
  if (fragment !== undefined) return unparsed('a # begins a fragment, which means nothing here: write %23')
  const name = decodeExport(path.slice(1))
  if (!name.ok) return name
  const parameters = parseParameters(query)
  if (!parameters.ok) return parameters
  const tlsHostname = parameters.value.get('tls-hostname')
  if (tlsHostname !== undefined && !scheme.tls)
    return unparsed(`tls-hostname means nothing without TLS: use ${schemeText.replace(/^nbd/i, 'nbds')}://`)
  if (tlsHostname !== undefined && !isTlsName(tlsHostname))
    return unparsed('tls-hostname is not an address or a host name')
  if (isSsh) return sshUpstream(authority, name.value, parameters.value)
  if (parameters.value.has('port')) return unparsed('port= is for nbd+ssh://: write HOST:PORT')
  const facts = { export: name.value, tls: scheme.tls, ...(tlsHostname !== undefined && { tlsHostname }) }
  const socket = parameters.value.get('socket')
  return scheme.isUnix ? unixUpstream(authority, socket, facts) : tcpUpstream(authority, socket, facts)
}

/** Why a path can not be that of a Unix socket; undefined when it can. */
export function socketPathProblem(path: string): string | undefined {
  if (path === '') return 'the path of the socket is empty'
  if (path.includes('\0')) return 'the path of the socket contains a NUL'
  const isTooLong = Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES
  return isTooLong ? `the path of a Unix socket can have ${MAX_SOCKET_PATH_BYTES} bytes, this has more` : undefined
}

function tcpUpstream(authority: string, socket: string | undefined, facts: UriFacts): Parsed<UpstreamUri> {
  if (socket !== undefined) return unparsed('socket= is for nbd+unix:// and nbds+unix://')
  const endpoint = parseAuthority(authority, NBD_PORT)
  return endpoint.ok ? parsed({ kind: 'tcp', ...endpoint.value, ...facts }) : endpoint
}

function parseAuthority(authority: string, defaultPort: number): Parsed<Endpoint> {
  const portAt = /:[^\]:]*$/.exec(authority)?.index ?? authority.length
  if (authority.slice(0, portAt) === '') return unparsed('the URI names no host: write nbd://HOST/EXPORT')
  const host = parseHost(authority.slice(0, portAt))
  if (!host.ok) return host
  // RFC 3986, 3.2.3: an empty port is the default one.
  const port = authority.length - portAt <= 1 ? defaultPort : parsePort(authority.slice(portAt + 1))
  if (port === undefined || port === 0) return unparsed('the port of the URI is not a number from 1 to 65535')
  return parsed({ host: host.value, port })
}

function sshUpstream(authority: string, name: string, parameters: ReadonlyMap<string, string>): Parsed<UpstreamUri> {
  const at = authority.lastIndexOf('@')
  const user = at < 0 ? undefined : percentDecode(authority.slice(0, at))
  if (user?.includes(':')) return unparsed('a URI with a password is refused: it would get into logs; use a key')
  // One that begins with - would be an option to some program.
  if (at >= 0 && (user === undefined || !/^[\w.][\w.-]{0,63}$/.test(user)))
    return unparsed('the URI has no usable user')
  const endpoint = parseAuthority(authority.slice(at + 1), SSH_PORT)
  if (!endpoint.ok) return endpoint
  const [path, digits] = [parameters.get('socket'), parameters.get('port')]
  if (path !== undefined && digits !== undefined) return unparsed('port= and socket= are two servers: name one')
  const problem = path === undefined ? undefined : socketPathProblem(path)
  if (problem !== undefined) return unparsed(problem)
  if (path !== undefined && !path.startsWith('/'))
    return unparsed('socket= is a path on the other host: begin it with /')
  const port = digits === undefined ? NBD_PORT : parsePort(digits)
  if (port === undefined || port === 0) return unparsed('port= is not a number from 1 to 65535')
  const target = path === undefined ? { kind: 'tcp' as const, port } : { kind: 'unix' as const, path }
  return parsed({
    kind: 'ssh',
    ...endpoint.value,
    ...(user !== undefined && { user }),
    target,
    export: name,
    tls: false,
  })
}

function unixUpstream(authority: string, socket: string | undefined, facts: UriFacts): Parsed<UpstreamUri> {
  if (authority !== '')
    return unparsed('a URI for a Unix socket has no host: write three slashes, nbd+unix:///EXPORT?socket=PATH')
  if (socket === undefined) return unparsed('the URI names no socket: write nbd+unix:///EXPORT?socket=PATH')
  const problem = socketPathProblem(socket)
  return problem === undefined ? parsed({ kind: 'unix', path: socket, ...facts }) : unparsed(problem)
}

function schemeProblem(scheme: string): string {
  const shown = printable(scheme, 32)
  if (/^nbds\+ssh$|^nbds?\+vsock$/i.test(scheme)) return `${shown}:// is not in this version`
  return `${shown}:// is not one of nbd://, nbds://, nbd+unix://, nbds+unix://, nbd+ssh://`
}

function parseParameters(query: string | undefined): Parsed<ReadonlyMap<string, string>> {
  const parameters = new Map<string, string>()
  for (const pair of query === undefined || query === '' ? [] : query.split('&')) {
    const equals = pair.indexOf('=')
    const key = percentDecode(equals < 0 ? pair : pair.slice(0, equals))
    const value = percentDecode(equals < 0 ? '' : pair.slice(equals + 1))
    if (key === undefined || value === undefined)
      return unparsed('the URI has a % that is not followed by the hex of UTF-8')
    if (parameters.has(key)) return unparsed(`the URI has ${printable(key, 32)}= twice`)
    if (key !== 'socket' && key !== 'port' && key !== 'tls-hostname') {
      const instead = REFUSED_PARAMETERS.get(key)
      return unparsed(
        `${printable(key, 32)}= is ${instead === undefined ? 'an unknown parameter' : `refused: ${instead}`}`,
      )
    }
    parameters.set(key, value)
  }
  return parsed(parameters)
}

function decodeExport(text: string): Parsed<string> {
  const name = percentDecode(text)
  if (name === undefined) return unparsed('the export in the URI has a % that is not followed by the hex of UTF-8')
  if (decodeString(Buffer.from(name)) !== undefined) return parsed(name)
  return unparsed(`the export in the URI contains a NUL or is longer than ${MAX_STRING_BYTES} bytes`)
}

function percentDecode(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

function isTlsName(text: string): boolean {
  return parseHost(text).ok || parseHost(`[${text}]`).ok
}
