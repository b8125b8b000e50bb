import { hostname } from 'node:os'
import { basename, dirname, resolve } from 'node:path'
import { buildHooks, buildSpawn, sharingOf } from './build-hooks.ts'
import type { Cidr } from './cidr.ts'
import type {
  AdminConfig,
  AuditConfig,
  BackendConfig,
  Config,
  DiscoveryConfig,
  DoorConfig,
  ExportConfig,
  LeasesConfig,
  LimitsConfig,
  ListedUpstream,
  PenaltyRules,
} from './config.ts'
import { OVERLAY } from './hooks-checks.ts'
import type { CheckedFile } from './schema.ts'
import type { UpstreamUri } from './upstream-uri.ts'
import type { Path, Position } from './yaml-source.ts'

/** How often an upstream is asked which exports it has. */
const DEFAULT_REFRESH_MS = 30_000

/** What the parts of a configuration are made with: absolute paths, and `nbdgate.yaml:34` for a place in the file. */
interface Builder {
  readonly absolute: (path: string) => string
  /** Of the file. */
  readonly folder: string
  readonly source: (path: Path) => string
}

/** With fewer places than these all of them may be half open. */
const STARTUPS_FROM = 1000

type CheckedExport = CheckedFile['exports'][number]

/** Makes the configuration out of a checked file. `at` tells where the value of a path is written. */
export function buildConfig(checked: CheckedFile, file: string, at: (path: Path) => Position): Config {
  const builder: Builder = {
    absolute: path => resolve(dirname(file), path),
    folder: resolve(dirname(file)),
    source: path => `${basename(file)}:${at(path).line}`,
  }
  const { state, admin, log, limits, leases, workers } = checked
  return {
    file: resolve(file),
    ...(state !== undefined && { state: builder.absolute(state), audit: buildAudit(checked.audit) }),
    ...(admin !== undefined && { admin: buildAdmin(admin, builder) }),
    log: { level: log.level, ...(log.file !== undefined && { file: builder.absolute(log.file) }) },
    workers,
    doors: checked.doors.map((door, index) => buildDoor(door, builder, ['doors', index])),
    ...buildExports(checked.exports, builder),
    groups: Object.entries(checked.groups).map(([name, members]) => ({
      name,
      members: members.map((who, index) => ({ who: list(who), source: builder.source(['groups', name, index]) })),
    })),
    limits: {
      sessions: limits.sessions,
      sessionsPerAddress: limits['sessions-per-address'],
      ...buildStartups(limits),
      penalties: buildPenalties(limits['per-source-penalties']),
      negotiationMs: limits.negotiation,
      idleMs: limits.idle,
      drainMs: limits.drain,
      inFlightBytes: limits['in-flight-bytes'],
      totalInFlightBytes: limits['in-flight-bytes-total'],
    },
    leases: buildLeases(leases, builder),
    ...(checked.overlays?.keep !== undefined && { overlays: { keepMs: checked.overlays.keep } }),
  }
}

/** Where nothing is said, a tenth of the places is kept free of who is half open; not where there are few. */
function buildStartups({ sessions, 'max-startups': maxStartups }: CheckedFile['limits']): Partial<LimitsConfig> {
  if (maxStartups !== undefined) return { maxStartups }
  if (sessions < STARTUPS_FROM) return {}
  return { maxStartups: { start: Math.ceil(sessions / 2), rate: 0.3, full: Math.ceil(sessions * 0.9) } }
}

function buildPenalties(checked: CheckedFile['limits']['per-source-penalties']): PenaltyRules {
  const { authfail, 'grace-exceeded': graceExceeded, invalid, min: minMs, max: maxMs, exempt } = checked
  return { costMs: { authfail, 'grace-exceeded': graceExceeded, invalid }, minMs, maxMs, exempt }
}

function buildLeases(checked: CheckedFile['leases'], { absolute }: Builder): LeasesConfig {
  const { etcd, ca, cert, key, user, ttl = 10_000, prefix = '/nbdgate/', name = hostname() } = checked
  const vanishedMs = checked['vanished-after']
  if (etcd === undefined) return { vanishedMs }
  const passwordFile = checked['password-file']
  return {
    vanishedMs,
    etcd: {
      endpoints: list(etcd),
      ...(ca !== undefined && { ca: absolute(ca) }),
      ...(cert !== undefined && { cert: absolute(cert) }),
      ...(key !== undefined && { key: absolute(key) }),
      ...(user !== undefined &&
        passwordFile !== undefined && { login: { user, passwordFile: absolute(passwordFile) } }),
      ttlMs: ttl,
      prefix,
      name,
    },
  }
}

function buildAdmin(admin: NonNullable<CheckedFile['admin']>, { absolute }: Builder): AdminConfig {
  const { socket, http, 'token-file': tokenFile } = admin
  return {
    ...(socket !== undefined && { socket: absolute(socket) }),
    ...(http !== undefined && {
      http: { ...http, ...(tokenFile !== undefined && { tokenFile: absolute(tokenFile) }) },
    }),
  }
}

/** A state folder is enough: what was left out has its default. */
function buildAudit(audit: CheckedFile['audit']): AuditConfig {
  return { onFailure: audit?.['on-failure'] ?? 'refuse', rotateBytes: audit?.['rotate-size'] ?? 64 * 1024 * 1024 }
}

function buildDoor(door: CheckedFile['doors'][number], builder: Builder, path: Path): DoorConfig {
  const { sessions } = door
  return { ...buildDoorOf(door, builder, path), ...(sessions !== undefined && { sessions }) }
}

function buildDoorOf(door: CheckedFile['doors'][number], { absolute, source }: Builder, path: Path): DoorConfig {
  if ('tcp' in door) return { kind: 'tcp', ...door.tcp, from: door.from, ...balancers(door), source: source(path) }
  if ('unix' in door) return { kind: 'unix', path: absolute(door.unix), mode: door.mode, source: source(path) }
  if ('ssh' in door) return buildSshDoor(door, absolute, source(path))
  const { 'client-ca': clientCa, crl, psk } = door
  return {
    kind: 'tls',
    ...door.tls,
    mode: door.mode,
    cert: absolute(door.cert),
    key: absolute(door.key),
    ...(clientCa !== undefined && { clientCa: absolute(clientCa) }),
    ...(crl !== undefined && { crl: absolute(crl) }),
    ...(psk !== undefined && { psk: absolute(psk) }),
    clientCert: door['client-cert'],
    ...balancers(door),
    source: source(path),
  }
}

function balancers(door: { readonly 'proxy-protocol'?: readonly Cidr[] | undefined }): {
  proxyProtocol?: readonly Cidr[]
} {
  const { 'proxy-protocol': proxyProtocol } = door
  return proxyProtocol === undefined ? {} : { proxyProtocol }
}

function buildSshDoor(
  door: Extract<CheckedFile['doors'][number], { ssh: unknown }>,
  absolute: Builder['absolute'],
  source: string,
): DoorConfig {
  const { 'authorized-keys': authorizedKeys, 'user-ca': userCa, 'revoked-keys': revokedKeys } = door
  return {
    kind: 'ssh',
    ...door.ssh,
    hostKeys: list(door['host-keys']).map(absolute),
    ...(authorizedKeys !== undefined && { authorizedKeys: absolute(authorizedKeys) }),
    ...(userCa !== undefined && { userCa: absolute(userCa) }),
    ...(revokedKeys !== undefined && { revokedKeys: absolute(revokedKeys) }),
    ...balancers(door),
    source,
  }
}

function buildExports(checked: readonly CheckedExport[], builder: Builder): Pick<Config, 'exports' | 'discoveries'> {
  const exports: ExportConfig[] = []
  const discoveries: DiscoveryConfig[] = []
  for (const [index, each] of checked.entries()) {
    const rules = buildRules(each, builder, ['exports', index])
    const { name, upstream, from, prefix = '', refresh: refreshMs = DEFAULT_REFRESH_MS } = each
    if (from !== undefined) {
      const server = buildServer(from, builder)
      discoveries.push({ ...rules, from: server, prefix, pattern: name ?? '*', refreshMs, index })
    } else if (name !== undefined && upstream !== undefined) {
      const backend = buildUpstream(upstream, builder)
      const mode = sharingOf(rules.sharing.mode, backend, rules.hooks)
      exports.push({ ...rules, name, upstream: backend, sharing: { ...rules.sharing, mode } })
    }
  }
  return { exports, ...(discoveries.length > 0 && { discoveries }) }
}

/** What an entry says beside names and upstreams. */
function buildRules(checked: CheckedExport, builder: Builder, path: Path): Omit<ExportConfig, 'name' | 'upstream'> {
  const { description, doors, limits, sharing, holder, 'when-busy': whenBusy } = checked
  const luks = { atBytes: checked['luks-at'], mayFormat: checked['luks-format'] }
  const { source } = builder
  const hooks = buildHooks(checked, builder)
  return {
    ...(description !== undefined && { description }),
    allow: checked.allow.map(({ who, rights, until, limits: ofEach }, index) => ({
      who: list(who),
      rights,
      ...(until !== undefined && { untilMs: until }),
      ...(ofEach !== undefined && { limits: ofEach }),
      source: source([...path, 'allow', index]),
    })),
    deny: checked.deny.map((who, index) => ({ who: list(who), source: source([...path, 'deny', index]) })),
    ...(doors !== undefined && { doors }),
    limits,
    sharing: { mode: sharing, whenBusy, holder },
    ...(checked.align && { align: true }),
    ...(checked['require-luks'] && { luks }),
    ...(hooks !== undefined && { hooks }),
    outage: { reconnectMs: checked.reconnect, replayBytes: checked['replay-buffer'] },
    source: source(path),
  }
}

function buildUpstream(checked: NonNullable<CheckedExport['upstream']>, builder: Builder): BackendConfig {
  if (Array.isArray(checked)) return { kind: 'ways', ways: checked.map(each => buildServer(each, builder)) }
  if ('spawn' in checked) return buildSpawn(checked, builder)
  if ('file' in checked && checked.file === OVERLAY) return { kind: 'overlay' }
  if ('file' in checked) return { kind: 'file', path: builder.absolute(checked.file) }
  return buildServer(checked, builder)
}

function buildServer(checked: NonNullable<CheckedExport['from']>, { absolute }: Builder): ListedUpstream {
  const found = (uri: UpstreamUri): UpstreamUri => (uri.kind === 'unix' ? { ...uri, path: absolute(uri.path) } : uri)
  if (!('uri' in checked)) return found(checked)
  const { uri, ca, cert, key, identity, 'known-hosts': knownHosts, 'proxy-protocol': proxyProtocol } = checked
  const { connections } = checked
  return {
    ...found(uri),
    ...(ca !== undefined && { ca: absolute(ca) }),
    ...(cert !== undefined && { cert: absolute(cert) }),
    ...(key !== undefined && { key: absolute(key) }),
    ...(identity !== undefined && { identity: absolute(identity) }),
    ...(knownHosts !== undefined && { knownHosts: absolute(knownHosts) }),
    ...(proxyProtocol !== undefined && { proxyProtocol }),
    ...(connections !== undefined && { connections }),
  }
}

function list(value: string | readonly string[]): readonly string[] {
  return typeof value === 'string' ? [value] : value
}
