import type { BackendConfig, HooksConfig, SharingMode, SpawnConfig } from './config.ts'
import { ID, OVERLAY } from './hooks-checks.ts'
import type { CheckedFile } from './schema.ts'

type CheckedExport = CheckedFile['exports'][number]
type CheckedSpawn = Extract<NonNullable<CheckedExport['upstream']>, { spawn: unknown }>

/** Where things are: a path of the file made absolute, and its folder. */
interface Place {
  readonly absolute: (path: string) => string
  readonly folder: string
}

/** What an entry runs; undefined for one that runs nothing. */
export function buildHooks(checked: CheckedExport, place: Place): HooksConfig | undefined {
  const { prepare, cleanup, authorize, upstream } = checked
  const isMade = upstream !== undefined && ('spawn' in upstream || ('file' in upstream && upstream.file === OVERLAY))
  if (prepare === undefined && cleanup === undefined && authorize === undefined && !isMade) return undefined
  const hasHooks = prepare !== undefined || cleanup !== undefined
  return {
    ...(prepare !== undefined && { prepare: program(prepare, place) }),
    ...(cleanup !== undefined && { cleanup: program(cleanup, place) }),
    ...(authorize !== undefined && { authorize: program(authorize, place) }),
    // As nbd-server's prerun and postrun; a server alone is one for all.
    per: checked.per ?? (hasHooks ? 'connection' : 'export'),
    timeoutMs: checked['hook-timeout'],
    folder: place.folder,
  }
}

/** What is started. */
export function buildSpawn(checked: CheckedSpawn, place: Place): SpawnConfig {
  const { spawn, activation, export: name, linger, start } = checked
  return { kind: 'spawn', argv: program(spawn, place), activation, export: name, lingerMs: linger, startMs: start }
}

/** Who has a disk of his own is in nobody's way. */
export function sharingOf(mode: SharingMode, upstream: BackendConfig, hooks: HooksConfig | undefined): SharingMode {
  const names = (argument: string): boolean => argument.includes(OVERLAY) || argument.includes(ID)
  const isOwn = upstream.kind === 'overlay' || (upstream.kind === 'spawn' && upstream.argv.some(names))
  const isPrivate = isOwn && hooks !== undefined && hooks.per !== 'export'
  return isPrivate && mode !== 'read-only' ? 'cluster' : mode
}

/** A program with a slash is where the file says, any other one is looked for in PATH. */
function program([name = '', ...args]: readonly string[], { absolute }: Place): readonly string[] {
  return [name.includes('/') ? absolute(name) : name, ...args]
}
