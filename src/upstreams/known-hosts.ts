/**
 * OpenSSH's known_hosts (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"): which keys a host may show. Pure text in, verdict out.
 * Host certificates are not understood: a host that is known by @cert-authority alone has no key here.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'

/** A line that says something about keys. */
interface KnownHost {
  readonly marker: 'none' | 'revoked' | 'cert-authority'
  /** The first field: patterns, or one hashed name. */
  readonly hosts: string
  readonly algorithm: string
  readonly key: Buffer
}

/** What the file says of a host. */
export interface HostKeys {
  /** Keys that the host may show, as they go over the wire. */
  readonly trusted: readonly Buffer[]
  /** Their algorithms, to ask the host for one that is known. */
  readonly algorithms: readonly string[]
  /** Keys that nobody may show as this host, whatever else is written. */
  readonly revoked: readonly Buffer[]
  /** A certificate authority is named for the host. */
  readonly hasAuthority: boolean
}

/** What to think of a key that a host has shown. */
export type HostVerdict = 'known' | 'revoked' | 'changed' | 'certificates only' | 'unknown'

const LINE = /^(?:@(\S+)\s+)?(\S+)\s+([a-z0-9@.-]+)\s+([A-Za-z0-9+/]+={0,2})(?:\s.*)?$/

/** All that a known_hosts text says of a host. Lines that are not understood trust nobody. */
export function hostKeys(text: string, host: string, port: number): HostKeys {
  const name = knownName(host, port)
  const lines = text.split('\n').flatMap(line => {
    const known = parseLine(line.trim())
    return known !== undefined && matchesHosts(known.hosts, name) ? [known] : []
  })
  const trusted = lines.filter(({ marker }) => marker === 'none')
  return {
    trusted: trusted.map(({ key }) => key),
    algorithms: [...new Set(trusted.map(({ algorithm }) => algorithm))],
    revoked: lines.filter(({ marker }) => marker === 'revoked').map(({ key }) => key),
    hasAuthority: lines.some(({ marker }) => marker === 'cert-authority'),
  }
}

/** Judges a key; only `known` may go on. */
export function judgeHostKey({ trusted, revoked, hasAuthority }: HostKeys, key: Buffer): HostVerdict {
  if (revoked.some(each => each.equals(key))) return 'revoked'
  if (trusted.some(each => each.equals(key))) return 'known'
  if (trusted.length > 0) return 'changed'
  return hasAuthority ? 'certificates only' : 'unknown'
}

/** How known_hosts names a host: bare on port 22, `[host]:port` elsewhere. */
function knownName(host: string, port: number): string {
  const lower = host.toLowerCase()
  return port === 22 ? lower : `[${lower}]:${port}`
}

function parseLine(line: string): KnownHost | undefined {
  if (line === '' || line.startsWith('#')) return undefined
  const [, mark, hosts = '', algorithm = '', base64 = ''] = LINE.exec(line) ?? []
  const marker = mark ?? 'none'
  // An unknown marker means something that we do not know: the line is not for us.
  if (marker !== 'none' && marker !== 'revoked' && marker !== 'cert-authority') return undefined
  const key = Buffer.from(base64, 'base64')
  if (mark === 'none' || keyAlgorithm(key) !== algorithm || algorithm === '') return undefined
  return { marker, hosts, algorithm, key }
}

/** The algorithm that a key blob names itself: its first string (RFC 4253, 6.6). */
function keyAlgorithm(key: Buffer): string | undefined {
  if (key.length < 4) return undefined
  const length = key.readUInt32BE(0)
  return length > key.length - 4 ? undefined : key.toString('latin1', 4, 4 + length)
}

function matchesHosts(hosts: string, name: string): boolean {
  if (hosts.startsWith('|')) return matchesHash(hosts, name)
  const patterns = hosts.split(',')
  const holds = (pattern: string): boolean => matchesPattern(pattern.toLowerCase(), name)
  // A negated pattern that matches rules the line out, whatever stands beside it.
  if (patterns.some(pattern => pattern.startsWith('!') && holds(pattern.slice(1)))) return false
  return patterns.some(pattern => !pattern.startsWith('!') && holds(pattern))
}

/** `|1|salt|hash`: HMAC-SHA1 of the name under the salt. */
function matchesHash(hosts: string, name: string): boolean {
  const [, salt = '', hash = ''] = /^\|1\|([A-Za-z0-9+/=]+)\|([A-Za-z0-9+/=]+)$/.exec(hosts) ?? []
  const [key, expected] = [Buffer.from(salt, 'base64'), Buffer.from(hash, 'base64')]
  if (key.length !== 20 || expected.length !== 20) return false
  return timingSafeEqual(createHmac('sha1', key).update(name).digest(), expected)
}

/** `*` stands for any characters, `?` for one; there is nothing else. Linear in pattern times name, unlike a RegExp. */
function matchesPattern(pattern: string, name: string): boolean {
  let [at, inPattern, star, resume] = [0, 0, -1, 0]
  while (at < name.length) {
    const char = pattern[inPattern]
    if (char === '*') [star, resume, inPattern] = [inPattern, at, inPattern + 1]
    else if (char === '?' || (char !== undefined && char === name[at])) [at, inPattern] = [at + 1, inPattern + 1]
    else if (star >= 0) [inPattern, at, resume] = [star + 1, resume + 1, resume + 1]
    else return false
  }
  return /^\**$/.test(pattern.slice(inPattern))
}
