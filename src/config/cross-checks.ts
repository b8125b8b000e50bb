/**
 * What no single value of a file shows: two doors on one address, two exports of one name, rules that no door can fulfil,
 * keys that need each other. Looks at the values as written, not at checked ones, so that a mistake elsewhere in the file
 * hides nothing; what has the wrong form is skipped here, the schema reports it.
 */

import { resolve } from 'node:path'
import { printable } from '../protocol/strings.ts'
import { adminProblems } from './admin-checks.ts'
import { formatAddress, parseAddress } from './cidr.ts'
import { discoveryProblems } from './discovery-checks.ts'
import { type Endpoint, parseEndpoint } from './endpoint.ts'
import { hooksProblems } from './hooks-checks.ts'
import { leasesProblems } from './leases-checks.ts'
import { asList, asMap } from './raw.ts'
import type { PathProblem } from './schema-problems.ts'
import { parseUpstreamUri, socketPathProblem } from './upstream-uri.ts'
import type { Path } from './yaml-source.ts'

/** What the checks need beside the values. */
export interface CrossCheckOptions {
  /** Folder that relative paths start from. */
  readonly folder: string
  /** The problem of one `who`, undefined if it is fine: policy/'s knowledge, which lies above this layer. */
  readonly validateWho: ((text: string) => string | undefined) | undefined
}

const DOOR_KINDS = ['tls', 'ssh', 'tcp', 'unix'] as const

type DoorKind = (typeof DOOR_KINDS)[number]

interface Door {
  readonly path: Path
  readonly kind: DoorKind
  readonly map: Readonly<Record<string, unknown>>
}

/** Problems in the order of the checks, not of the file. */
export function crossCheck(root: unknown, options: CrossCheckOptions): readonly PathProblem[] {
  const doors = doorsOf(root)
  const exports = asList(asMap(root)?.exports)
  const groups = asMap(asMap(root)?.groups) ?? {}
  const inGroups = Object.entries(groups).flatMap(([name, members]) =>
    asList(members).flatMap((who, index) => flatten(who, ['groups', name, index])),
  )
  return [
    ...doors.flatMap(door => doorProblems(door, options.folder)),
    ...sameAddress(doors, options.folder),
    ...sameName(exports),
    ...auditProblems(root),
    ...leasesProblems(asMap(asMap(root)?.leases)),
    ...adminProblems(asMap(root)?.admin),
    ...exports.flatMap((each, index) => {
      const map = asMap(each)
      if (map === undefined) return []
      const path = ['exports', index]
      return [
        ...discoveryProblems(map, path),
        ...upstreamProblems(map.upstream, [...path, 'upstream'], options.folder),
        ...upstreamProblems(map.from, [...path, 'from'], options.folder),
        ...luksProblems(map, path),
        ...hooksProblems(map, path, asMap(root)?.state !== undefined),
        ...outageProblems(map, path),
        ...alignProblems(map, path),
        ...absentDoors(map.doors, [...path, 'doors'], doors),
        ...whoTexts(map, path).flatMap(who => groupProblems(who, groups) ?? whoProblems(who, doors, options)),
      ]
    }),
    ...inGroups.flatMap(who => groupProblems(who, undefined) ?? whoProblems(who, doors, options)),
  ]
}

function auditProblems(root: unknown): readonly PathProblem[] {
  const map = asMap(root)
  if (map?.audit === undefined || map.state !== undefined) return []
  return [{ path: ['audit'], at: 'key', message: '`audit` needs `state`, the folder that the trail is kept in' }]
}

function luksProblems(map: Readonly<Record<string, unknown>>, path: Path): readonly PathProblem[] {
  if (map['require-luks'] === true) return []
  const keys = ['luks-at', 'luks-format'].filter(key => map[key] !== undefined && map[key] !== false)
  return keys.map(key => ({ path: [...path, key], at: 'key', message: `\`${key}\` needs \`require-luks: true\`` }))
}

function outageProblems(map: Readonly<Record<string, unknown>>, path: Path): readonly PathProblem[] {
  const size = map['replay-buffer']
  if (typeof size !== 'string' || !/[1-9]/.test(size)) return []
  const no = (message: string): readonly PathProblem[] => [{ path: [...path, 'replay-buffer'], at: 'key', message }]
  const { reconnect, sharing } = map
  if (typeof reconnect === 'string' && !/[1-9]/.test(reconnect)) return no('`replay-buffer` needs `reconnect`')
  // What another node has written since would be overwritten.
  return sharing === 'cluster' ? no('`replay-buffer` can not stand beside `sharing: cluster`') : []
}

/** A write that is made of a read and a write undoes what somebody else has written in between. */
function alignProblems(map: Readonly<Record<string, unknown>>, path: Path): readonly PathProblem[] {
  if (map.align !== true || map.sharing !== 'cluster') return []
  const message = '`align` can not stand beside `sharing: cluster`: two could write one block'
  return [{ path: [...path, 'align'], at: 'key', message }]
}

function doorsOf(root: unknown): readonly Door[] {
  return asList(asMap(root)?.doors).flatMap((entry, index) => {
    const map = asMap(entry)
    const kind = DOOR_KINDS.find(key => map?.[key] !== undefined)
    return map === undefined || kind === undefined ? [] : [{ path: ['doors', index], kind, map }]
  })
}

function doorProblems(door: Door, folder: string): readonly PathProblem[] {
  if (door.kind === 'tls') return tlsDoorProblems(door)
  if (door.kind === 'ssh') return sshDoorProblems(door)
  const socket = door.kind === 'unix' ? door.map.unix : undefined
  const problem = typeof socket === 'string' && socket !== '' ? socketPathProblem(resolve(folder, socket)) : undefined
  return problem === undefined ? [] : [{ path: [...door.path, 'unix'], message: problem }]
}

function tlsDoorProblems({ path, map }: Door): readonly PathProblem[] {
  if (map['client-ca'] !== undefined) return []
  const problems: PathProblem[] = []
  if (map['client-cert'] !== 'optional' && map.psk === undefined) {
    const message = '`client-ca` is missing: without it only `client-cert: optional` makes sense'
    problems.push({ path, message })
  }
  if (map.crl !== undefined) problems.push({ path: [...path, 'crl'], at: 'key', message: '`crl` needs `client-ca`' })
  return problems
}

function sshDoorProblems({ path, map }: Door): readonly PathProblem[] {
  if (map['authorized-keys'] !== undefined || map['user-ca'] !== undefined) return []
  return [{ path, message: 'nobody could log in: `authorized-keys` or `user-ca` is missing' }]
}

function sameAddress(doors: readonly Door[], folder: string): readonly PathProblem[] {
  return doors.flatMap((door, index) => {
    const earlier = doors.slice(0, index).find(other => collide(door, other, folder))
    if (earlier === undefined) return []
    const taken = `${earlier.kind}: ${printable(String(earlier.map[earlier.kind]))}`
    return [{ path: [...door.path, door.kind], message: `the door \`${taken}\` is on this address already` }]
  })
}

function collide(a: Door, b: Door, folder: string): boolean {
  const [left, right] = [a.map[a.kind], b.map[b.kind]]
  if (typeof left !== 'string' || typeof right !== 'string') return false
  if (a.kind === 'unix' || b.kind === 'unix')
    return a.kind === b.kind && resolve(folder, left) === resolve(folder, right)
  const [first, second] = [parseEndpoint(left), parseEndpoint(right)]
  return first.ok && second.ok && overlap(first.value, second.value)
}

/** Port 0 is a new one each time. The wildcards take their port on every address; Node's [::] takes IPv4's too. */
function overlap(a: Endpoint, b: Endpoint): boolean {
  if (a.port !== b.port || a.port === 0) return false
  const hosts = [plainHost(a.host), plainHost(b.host)]
  if (hosts[0] === hosts[1] || hosts.includes('::')) return true
  return hosts.includes('0.0.0.0') && !hosts.some(host => host.includes(':'))
}

function plainHost(host: string): string {
  const address = parseAddress(host)
  return address === undefined ? host.toLowerCase() : formatAddress(address)
}

function sameName(exports: readonly unknown[]): readonly PathProblem[] {
  const seen = new Set<unknown>()
  return exports.flatMap((each, index) => {
    const { name, from } = asMap(each) ?? {}
    if (from !== undefined || typeof name !== 'string' || !seen.has(name)) {
      seen.add(name)
      return []
    }
    return [
      { path: ['exports', index, 'name'], message: `another export has the name "${printable(name, 64)}" already` },
    ]
  })
}

function absentDoors(value: unknown, path: Path, doors: readonly Door[]): readonly PathProblem[] {
  return asList(value).flatMap((kind, index) => {
    if (!DOOR_KINDS.some(known => known === kind) || doors.some(door => door.kind === kind)) return []
    // A visitor in plaintext at a selective TLS door counts as tcp.
    if (kind === 'tcp' && doors.some(door => door.kind === 'tls' && door.map.mode === 'selective')) return []
    return [{ path: [...path, index], message: `there is no ${kind} door that could lead here` }]
  })
}

function upstreamProblems(value: unknown, path: Path, folder: string): readonly PathProblem[] {
  if (Array.isArray(value)) return value.flatMap((each, index) => upstreamProblems(each, [...path, index], folder))
  const map = asMap(value)
  const uriPath = map === undefined ? path : [...path, 'uri']
  const text = map === undefined ? value : map.uri
  const uri = typeof text === 'string' ? parseUpstreamUri(text) : undefined
  const problems: PathProblem[] = []
  if (uri?.ok === true && uri.value.kind === 'unix') {
    const problem = socketPathProblem(resolve(folder, uri.value.path))
    if (problem !== undefined) problems.push({ path: uriPath, message: problem })
  }
  if (uri?.ok === true && !uri.value.tls) {
    for (const key of ['ca', 'cert', 'key']) {
      if (map?.[key] === undefined) continue
      problems.push({
        path: [...path, key],
        at: 'key',
        message: `\`${key}\` means nothing without TLS: use nbds:// or nbds+unix://`,
      })
    }
  } else if (map !== undefined && (map.cert === undefined) !== (map.key === undefined)) {
    problems.push({ path, message: '`cert` and `key` come together' })
  }
  for (const key of uri?.ok === true && uri.value.kind !== 'ssh' ? ['identity', 'known-hosts'] : []) {
    if (map?.[key] === undefined) continue
    problems.push({ path: [...path, key], at: 'key', message: `\`${key}\` is for nbd+ssh://` })
  }
  return problems
}

interface WhoText {
  readonly path: Path
  readonly text: string
}

function whoTexts(map: Readonly<Record<string, unknown>>, path: Path): readonly WhoText[] {
  const allow = asList(map.allow).flatMap((rule, index) => flatten(asMap(rule)?.who, [...path, 'allow', index, 'who']))
  const deny = asList(map.deny).flatMap((rule, index) => flatten(rule, [...path, 'deny', index]))
  return [...allow, ...deny]
}

function flatten(value: unknown, path: Path): readonly WhoText[] {
  if (typeof value === 'string') return [{ path, text: value }]
  return asList(value).flatMap((text, index) => (typeof text === 'string' ? [{ path: [...path, index], text }] : []))
}

/** Problems of a `who` that names a group, undefined for any other; `groups` undefined: where none may be named. */
function groupProblems(
  { path, text }: WhoText,
  groups: Readonly<Record<string, unknown>> | undefined,
): readonly PathProblem[] | undefined {
  if (!text.startsWith('group:')) return undefined
  if (groups === undefined) return [{ path, message: 'a group can not name a group' }]
  const name = text.slice('group:'.length)
  return Object.hasOwn(groups, name) ? [] : [{ path, message: `there is no group "${printable(name, 64)}"` }]
}

function whoProblems(
  { path, text }: WhoText,
  doors: readonly Door[],
  options: CrossCheckOptions,
): readonly PathProblem[] {
  const problem = options.validateWho?.(text) ?? unmetBy(text, doors)
  return problem === undefined ? [] : [{ path, message: problem }]
}

/** A rule that can hold for nobody is a mistake; what it was meant to grant or to forbid would not happen. */
function unmetBy(text: string, doors: readonly Door[]): string | undefined {
  const tlsDoors = doors.filter(door => door.kind === 'tls')
  if (text.startsWith('cert:')) {
    if (tlsDoors.length === 0) return 'cert: needs a tls door, and there is none'
    const asks = tlsDoors.some(({ map }) => {
      return map['client-ca'] !== undefined || (map['client-cert'] !== 'optional' && map.psk === undefined)
    })
    return asks ? undefined : 'cert: needs a tls door with `client-ca`, and there is none'
  }
  if (text.startsWith('psk:') && !tlsDoors.some(door => door.map.psk !== undefined))
    return 'psk: needs a tls door with `psk`, and there is none'
  if (text.startsWith('ssh:') && !doors.some(door => door.kind === 'ssh'))
    return 'ssh: needs an ssh door, and there is none'
  const isUnix = text.startsWith('uid:') || text.startsWith('gid:')
  if (isUnix && !doors.some(door => door.kind === 'unix'))
    return `${text.slice(0, 4)} needs a unix door, and there is none`
  return undefined
}
