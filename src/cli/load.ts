import { accessSync, constants } from 'node:fs'
import type { Config, TlsDoorConfig, UpstreamConfig, UpstreamMaterial } from '../config/config.ts'
import { type FoundProblem, loadConfig } from '../config/load.ts'
import { MaterialError } from '../pki/errors.ts'
import { loadClientMaterial, loadServerMaterial } from '../pki/material.ts'
import { whoProblem } from '../policy/who.ts'
import { loadIdentity } from '../upstreams/ssh-identity.ts'

/** A configuration that can be served, and what an operator should know although it works. */
export interface Loaded {
  readonly config: Config
  readonly warnings: readonly string[]
}

/** Loads a configuration, and the certificates and keys that it names. @throws ConfigError with every problem at once */
export function loadAll(file: string): Loaded {
  const warnings = new Set<string>()
  const verify = (config: Config): readonly FoundProblem[] => [
    ...config.doors.flatMap((door, index) => (door.kind === 'tls' ? checkDoor(door, ['doors', index], warnings) : [])),
    ...config.exports.flatMap(({ upstream }, index) =>
      checkUpstream(upstream, ['exports', index, 'upstream'], warnings),
    ),
  ]
  const config = loadConfig(file, { validateWho: whoProblem, verify })
  return { config, warnings: [...warnings] }
}

type Path = FoundProblem['path']
type Load = () => { readonly warnings: readonly string[] }

/** Each file on its own, so that a missing key does not hide a missing authority. */
function checkDoor(door: TlsDoorConfig, path: Path, warnings: Set<string>): readonly FoundProblem[] {
  const { cert, key, clientCa, crl } = door
  const keys = { cert, key, 'client-ca': clientCa, crl }
  const pair = attempt(() => loadServerMaterial({ cert, key }), path, keys, warnings)
  const authority = attempt(() => loadClientMaterial({ ca: clientCa }), path, keys, warnings)
  const rest = pair.length > 0 ? [] : attempt(() => loadServerMaterial({ cert, key, crl }), path, keys, warnings)
  return [...pair, ...authority, ...rest]
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
