import type { PathProblem } from './schema-problems.ts'
import type { Path } from './yaml-source.ts'

/** Keys of an entry of `exports` that publishes what an upstream lists. */
const DISCOVERY_KEYS = ['prefix', 'refresh']

/** What an entry of `exports` lacks, or has too much: it is one export with its upstream, or publishes those of `from`. */
export function discoveryProblems(map: Readonly<Record<string, unknown>>, path: Path): readonly PathProblem[] {
  if (map.from === undefined) {
    const missing = ['name', 'upstream'].filter(key => map[key] === undefined)
    const idle = DISCOVERY_KEYS.filter(key => map[key] !== undefined)
    return [
      ...missing.map(key => ({ path, message: `\`${key}\` is missing` })),
      ...idle.map(key => ({ path: [...path, key], at: 'key' as const, message: `\`${key}\` needs \`from\`` })),
    ]
  }
  if (map.upstream === undefined) return []
  return [{ path: [...path, 'upstream'], at: 'key', message: '`upstream` can not stand beside `from`' }]
}
