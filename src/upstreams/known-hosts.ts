/**
 * OpenSSH's known_hosts (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"): which keys a host may show. Pure text in, verdict out.
 * Certificates of hosts are judged in host-certificate.ts.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'

/** A key that a line names. */
interface KnownKey {
  /** As it goes over the wire. */
  readonly key: Buffer
  readonly algorithm: string
  /** Where it is written, from 1. */
  readonly line: number
}

/** A line that says something about keys. */
interface KnownHost extends KnownKey {
  readonly marker: 'none' | 'revoked' | 'cert-authority'
  /** The first field: patterns, or one hashed name. */
  readonly hosts: string
}

/** What the file says of a host. */
export interface HostKeys {
  /** Keys that the host may show. */
  readonly trusted: readonly KnownKey[]
  /** Keys that nobody may show as this host, nor vouch for it, whatever else is written. */
  readonly revoked: readonly KnownKey[]
  /** Keys that may vouch for the host with a certificate. */
  readonly authorities: readonly KnownKey[]
}

/** What to think of a key that a host has shown, and the lines that say so. */
export interface HostVerdict {
  readonly verdict: 'known' | 'revoked' | 'changed' | 'certificates only' | 'unknown'
  readonly lines: readonly number[]
}

const LINE = /^(?:@(\S+)\s+)?(\S+)\s+([a-z0-9@.-]+)\s+([A-Za-z0-9+/]+={0,2})(?:\s.*)?$/

/** All that a known_hosts text says of a host. Lines that are not understood trust nobody. */
export function hostKeys(text: string, host: string, port: number): HostKeys {
  const name = knownName(host, port)
  const known = text.split('\n').flatMap((line, index) => {
    const parsed = parseLine(line.trim(), index + 1)
    return parsed !== undefined && matchesHosts(parsed.hosts, name) ? [parsed] : []
  })
  const marked = (wanted: KnownHost['marker']) => known.filter(({ marker }) => marker === wanted)
  return { trusted: marked('none'), revoked: marked('revoked'), authorities: marked('cert-authority') }
}

/** Judges a key that is shown without a certificate; only `known` may go on. */
export function judgeHostKey({ trusted, revoked, authorities }: HostKeys, shown: Buffer): HostVerdict {
  const same = ({ key }: KnownKey): boolean => key.equals(shown)
  const found = (verdict: HostVerdict['verdict'], keys: readonly KnownKey[]): HostVerdict => {
    return { verdict, lines: keys.map(({ line }) => line) }
  }
  if (revoked.some(same)) return found('revoked', revoked.filter(same))
  if (trusted.some(same)) return found('known', trusted.filter(same))
  if (trusted.length > 0) return found('changed', trusted)
  return authorities.length > 0 ? found('certificates only', authorities) : found('unknown', [])
}

/** Whether a pattern of OpenSSH's holds for a name: `*` stands for any characters, `?` for one. */
export function matchesHostPattern(pattern: string, host: string): boolean {
  return matchesPattern(pattern.toLowerCase(), host.toLowerCase())
}

/** How known_hosts names a host: bare on port 22, `[host]:port` elsewhere. */
function knownName(host: string, port: number): string {
  const lower = host.toLowerCase()
  return port === 22 ? lower : `[${lower}]:${port}`
}

function parseLine(line: string, number: number): KnownHost | undefined {
  if (line === '' || line.startsWith('#')) return undefined
  const [, mark, hosts = '', algorithm = '', base64 = ''] = LINE.exec(line) ?? []
  const marker = mark ?? 'none'
  // An unknown marker means something that we do not know: the line is not for us.
  if (marker !== 'none' && marker !== 'revoked' && marker !== 'cert-authority') return undefined
  const key = Buffer.from(base64, 'base64')
  if (mark === 'none' || keyAlgorithm(key) !== algorithm || algorithm === '') return undefined
  return { marker, hosts, algorithm, key, line: number }
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
