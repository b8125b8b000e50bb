import { printable } from '../protocol/strings.ts'
import { asList, asMap } from './raw.ts'
import type { PathProblem } from './schema-problems.ts'
import type { Path } from './yaml-source.ts'

/** Stands for the file that `prepare` makes. */
export const OVERLAY = '{overlay}'
/** Stands for the name of what is prepared. */
export const ID = '{id}'
/** Stands for the socket that a server of `spawn` is to listen on. */
export const SOCKET = '{socket}'

const ALL = ['{export}', '{identity}', ID, OVERLAY, SOCKET]
/** Nothing has been prepared when it is asked. */
const OF_AUTHORIZE = ['{export}', '{identity}']

type Map = Readonly<Record<string, unknown>>

/** What the programs of an entry of `exports` name that there is not, and what they lack. */
export function hooksProblems(map: Map, path: Path, hasState: boolean): readonly PathProblem[] {
  const upstream = asMap(map.upstream)
  const isSpawned = upstream?.spawn !== undefined
  const lists: readonly (readonly [Path, unknown, readonly string[]])[] = [
    [[...path, 'upstream', 'spawn'], upstream?.spawn, ALL],
    [[...path, 'prepare'], map.prepare, ALL],
    [[...path, 'cleanup'], map.cleanup, ALL],
    [[...path, 'authorize'], map.authorize, OF_AUTHORIZE],
  ]
  return [
    ...lists.flatMap(([at, list, known]) => argvProblems(list, at, { known, isSpawned, per: map.per })),
    ...spawnProblems(upstream, [...path, 'upstream']),
    ...needs(map, path, hasState),
  ]
}

function argvProblems(
  list: unknown,
  path: Path,
  { known, isSpawned, per }: { readonly known: readonly string[]; readonly isSpawned: boolean; readonly per: unknown },
): readonly PathProblem[] {
  return asList(list).flatMap((argument, index) => {
    if (typeof argument !== 'string') return []
    const at = [...path, index]
    if (index === 0 && (argument === '' || /\{[a-z]+\}/.test(argument))) {
      return [{ path: at, message: 'the program has to be named as it is' }]
    }
    return (argument.match(/\{[a-z]+\}/g) ?? []).flatMap((placeholder): readonly PathProblem[] => {
      const shown = printable(placeholder, 32)
      if (!known.includes(placeholder)) {
        return [{ path: at, message: `${shown} is not known here; there is ${known.join(' ')}` }]
      }
      if (placeholder === SOCKET && !isSpawned) {
        return [{ path: at, message: '{socket} is that of a server that `spawn` starts, and there is none' }]
      }
      if (placeholder === '{identity}' && per === 'export' && known.length > OF_AUTHORIZE.length) {
        return [{ path: at, message: '{identity} means nothing with `per: export`: all of them share it' }]
      }
      return []
    })
  })
}

function spawnProblems(upstream: Map | undefined, path: Path): readonly PathProblem[] {
  if (upstream?.spawn === undefined || upstream.activation === true) return []
  const names = asList(upstream.spawn).some(argument => typeof argument === 'string' && argument.includes(SOCKET))
  if (names) return []
  const message = '`spawn` has to say {socket}, where the server is to listen; or `activation: true` hands it over'
  return [{ path: [...path, 'spawn'], message }]
}

function needs(map: Map, path: Path, hasState: boolean): readonly PathProblem[] {
  const problems: PathProblem[] = []
  if (map.cleanup !== undefined && map.prepare === undefined && asMap(map.upstream)?.spawn === undefined) {
    problems.push({ path: [...path, 'cleanup'], at: 'key', message: '`cleanup` needs `prepare`' })
  }
  if (usesOverlay(map) && map.prepare === undefined) {
    problems.push({ path, message: `${OVERLAY} is what \`prepare\` makes, and there is no \`prepare\`` })
  }
  const hasHooks = map.prepare !== undefined || map.cleanup !== undefined
  if (!hasState && (hasHooks || map.per === 'identity')) {
    const key = ['prepare', 'cleanup', 'per'].find(each => map[each] !== undefined) ?? 'per'
    const message = `\`${key}\` needs \`state\`, the folder that knows after a crash what there is to clean up`
    problems.push({ path: [...path, key], at: 'key', message })
  }
  if (map.per !== undefined && map.prepare === undefined && asMap(map.upstream)?.spawn === undefined) {
    problems.push({ path: [...path, 'per'], at: 'key', message: '`per` needs `prepare` or `spawn`' })
  }
  return problems
}

function usesOverlay({ upstream }: Map): boolean {
  const map = asMap(upstream)
  return map?.file === OVERLAY || asList(map?.spawn).some(each => typeof each === 'string' && each.includes(OVERLAY))
}
