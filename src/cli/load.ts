import type { Config, TlsDoorConfig, UpstreamConfig } from '../config/config.ts'
import { type FoundProblem, loadConfig } from '../config/load.ts'
import { MaterialError } from '../pki/errors.ts'
import { loadClientMaterial, loadServerMaterial } from '../pki/material.ts'
import { loadPsks } from '../pki/psk.ts'
import { whoProblem } from '../policy/who.ts'

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

function checkUpstream(upstream: UpstreamConfig, path: Path, warnings: Set<string>): readonly FoundProblem[] {
  if (upstream.kind === 'file' || !upstream.tls) return []
  const { ca, cert, key } = upstream
  const keys = { ca, cert, key }
  return [
    ...attempt(() => loadClientMaterial({ cert, key }), path, keys, warnings),
    ...attempt(() => loadClientMaterial({ ca }), path, keys, warnings),
  ]
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
