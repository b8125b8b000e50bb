import { accessSync, constants } from 'node:fs'
import { loadToken, TokenError } from '../admin/token.ts'
import type {
  Config,
  EtcdConfig,
  SshDoorConfig,
  TlsDoorConfig,
  UpstreamConfig,
  UpstreamMaterial,
} from '../config/config.ts'
import { ConfigError, type ConfigProblem } from '../config/errors.ts'
import { type FoundProblem, loadConfig } from '../config/load.ts'
import { standing } from '../config/named-files.ts'
import { loadHostKeys } from '../doors/ssh-host-keys.ts'
import { MaterialError } from '../pki/errors.ts'
import { loadClientMaterial, loadServerMaterial } from '../pki/material.ts'
import { loadPsks } from '../pki/psk.ts'
import { whoProblem } from '../policy/who.ts'
import { loadEtcdMaterial } from '../sharing/etcd-material.ts'
import { KeyRing } from '../ssh/key-ring.ts'
import { loadIdentity } from '../upstreams/ssh-identity.ts'

/** A configuration that can be served, and what an operator should know although it works. */
export interface Loaded {
  readonly config: Config
  readonly warnings: readonly string[]
}

/** What `check` finds and `serve` lives with: lines of key files that admit nobody. */
export interface LoadAllOptions {
  readonly strict: boolean
}

/** Loads a configuration, and the certificates and keys that it names. @throws ConfigError with every problem at once */
export function loadAll(file: string, { strict }: LoadAllOptions = { strict: false }): Loaded {
  const warnings = new Set<string>()
  const verify = (config: Config): readonly FoundProblem[] => [
    ...tokenProblems(config),
    ...config.doors.flatMap((door, index) => {
      const path = ['doors', index]
      if (door.kind === 'tls') return checkDoor(door, path, warnings)
      return door.kind === 'ssh' ? checkSshDoor(door, path, warnings) : []
    }),
    ...upstreamsAt(config).flatMap(({ upstream, path }) => checkUpstream(upstream, path, warnings)),
    ...checkEtcd(config.leases.etcd, ['leases'], warnings),
  ]
  const config = loadConfig(file, { validateWho: whoProblem, verify })
  const problems = config.doors.flatMap(door => (door.kind === 'ssh' ? lineProblems(door) : []))
  if (strict && problems.length > 0) throw new ConfigError(problems)
  for (const warning of sharedNames(config)) warnings.add(warning)
  return { config, warnings: [...warnings] }
}

/** Every upstream, and where it is written. */
function upstreamsAt({ exports, discoveries = [] }: Config): readonly { upstream: UpstreamConfig; path: Path }[] {
  const listed = discoveries.map(({ from, index }) => ({ upstream: from, path: ['exports', index, 'from'] }))
  const taken = new Set(discoveries.map(({ index }) => index))
  const indexes = [...Array(exports.length + taken.size).keys()].filter(index => !taken.has(index))
  const written = exports.flatMap(({ upstream }, nth) =>
    standing(upstream).map((each, way) => ({
      upstream: each,
      path: ['exports', indexes[nth] ?? 0, 'upstream', ...(upstream.kind === 'ways' ? [way] : [])],
    })),
  )
  return [...written, ...listed]
}

function tokenProblems({ admin }: Config): readonly FoundProblem[] {
  const file = admin?.http?.tokenFile
  if (file === undefined) return []
  try {
    loadToken(file)
    return []
  } catch (error) {
    if (!(error instanceof TokenError)) throw error
    return [{ path: ['admin', 'token-file'], message: error.message }]
  }
}

type Path = FoundProblem['path']
type Load = () => { readonly warnings: readonly string[] }

/** Each file on its own, so that a missing key does not hide a missing authority. */
function checkDoor(door: TlsDoorConfig, path: Path, warnings: Set<string>): readonly FoundProblem[] {
  const { cert, key, clientCa, crl, psk } = door
  const keys = { cert, key, 'client-ca': clientCa, crl, psk }
  const pair = attempt(() => loadServerMaterial({ cert, key }), path, keys, warnings)
  const authority = attempt(() => loadClientMaterial({ ca: clientCa }), path, keys, warnings)
  // With authorities that can be read, the lists are held against them.
  const ca = authority.length > 0 ? undefined : clientCa
  const rest =
    pair.length > 0 ? [] : attempt(() => loadServerMaterial({ cert, key, clientCa: ca, crl }), path, keys, warnings)
  const shared = psk === undefined ? [] : attempt(() => loadPsks(psk), path, keys, warnings)
  return [...pair, ...authority, ...rest, ...shared]
}

function checkSshDoor(door: SshDoorConfig, path: Path, warnings: Set<string>): readonly FoundProblem[] {
  const keys = door.hostKeys.flatMap(file => attempt(() => loadHostKeys([file]), path, { 'host-keys': file }, warnings))
  const names = { 'authorized-keys': door.authorizedKeys, 'user-ca': door.userCa, 'revoked-keys': door.revokedKeys }
  const unreadable = ringOf(door).problems.filter(({ problem }) => problem === undefined)
  return [
    ...keys,
    ...unreadable.map(({ file }) => {
      const key = Object.entries(names).find(([, each]) => each === file)?.[0] ?? 'ssh'
      return { path: [...path, key], message: `${file}: this can not be read` }
    }),
  ]
}

function lineProblems(door: SshDoorConfig): readonly ConfigProblem[] {
  return ringOf(door).problems.flatMap(({ file, problem }) => (problem === undefined ? [] : [{ file, ...problem }]))
}

function ringOf(door: SshDoorConfig): KeyRing {
  const ring = new KeyRing(door, () => {})
  ring.keys()
  return ring
}

/** A key that no line binds to a name logs in with any: rules that go by names have to know. */
export function sharedNames(config: Config): readonly string[] {
  const members = config.groups.flatMap(group => group.members)
  const entries = [...config.exports, ...(config.discoveries ?? [])]
  const rules = [...entries.flatMap(({ allow, deny }) => [...allow, ...deny]), ...members]
  if (!rules.some(({ who }) => who.some(text => text.startsWith('ssh:user=')))) return []
  return config.doors.flatMap(door => {
    if (door.kind !== 'ssh' || door.authorizedKeys === undefined) return []
    const { authorized } = new KeyRing(door, () => {}).keys()
    const loose = authorized.filter(({ options }) => !options.certAuthority && options.principals === undefined)
    if (authorized.length < 2 || loose.length === 0) return []
    const lines = loose.map(({ line }) => line).join(', ')
    return [`${door.authorizedKeys}: lines ${lines} have no principals=: these keys pass for any ssh:user=`]
  })
}

function checkUpstream(upstream: UpstreamConfig, path: Path, warnings: Set<string>): readonly FoundProblem[] {
  if (upstream.kind === 'ssh') {
    return sshFileProblems(upstream).map(({ key, problem }) => ({ path: [...path, key], message: problem }))
  }
  if (upstream.kind === 'file' || !upstream.tls) return []
  const { ca, cert, key } = upstream
  const keys = { ca, cert, key }
  return [
    ...attempt(() => loadClientMaterial({ cert, key }), path, keys, warnings),
    ...attempt(() => loadClientMaterial({ ca }), path, keys, warnings),
  ]
}

function checkEtcd(etcd: EtcdConfig | undefined, path: Path, warnings: Set<string>): readonly FoundProblem[] {
  if (etcd === undefined) return []
  const { ca, cert, key, login } = etcd
  const keys = { ca, cert, key, 'password-file': login?.passwordFile }
  return attempt(() => loadEtcdMaterial(etcd), path, keys, warnings)
}

/** What is wrong with the files that an SSH upstream names. */
export function sshFileProblems({ identity, knownHosts }: UpstreamMaterial): readonly SshFileProblem[] {
  const problems: SshFileProblem[] = []
  const loaded = identity === undefined ? undefined : loadIdentity(identity)
  if (loaded !== undefined && 'problem' in loaded) problems.push({ key: 'identity', problem: loaded.problem })
  if (knownHosts !== undefined && !isReadable(knownHosts)) {
    problems.push({ key: 'known-hosts', problem: `${knownHosts}: can not be read` })
  }
  return problems
}

interface SshFileProblem {
  readonly key: 'identity' | 'known-hosts'
  readonly problem: string
}

function isReadable(file: string): boolean {
  try {
    accessSync(file, constants.R_OK)
    return true
  } catch {
    return false
  }
}

/** Loads, and turns a MaterialError into a problem at the key that names its file. */
function attempt(
  load: Load,
  path: Path,
  keys: Readonly<Record<string, string | undefined>>,
  warnings: Set<string>,
): readonly FoundProblem[] {
  try {
    for (const warning of load().warnings) warnings.add(warning)
    return []
  } catch (error) {
    if (!(error instanceof MaterialError)) throw error
    const name = Object.keys(keys).find(each => keys[each] === error.file)
    return [{ path: name === undefined ? path : [...path, name], message: error.message }]
  }
}
