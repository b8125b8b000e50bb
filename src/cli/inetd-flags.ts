/** Kinds of doors that a connection may be one of. */
export const DOOR_KINDS: readonly string[] = ['tls', 'ssh', 'tcp', 'unix']

/** The options of `nbdgate inetd`. */
export interface InetdFlags {
  readonly config: string
  readonly door?: string | undefined
}

const NAMES = new Map([
  ['-c', 'config'],
  ['--config', 'config'],
  ['--door', 'door'],
])

/** Reads them; undefined for whatever is not that plain: commander explains it. */
export function parseInetdFlags(words: readonly string[]): InetdFlags | undefined {
  const found: Record<string, string> = {}
  for (let at = 0; at < words.length; at++) {
    const [option = '', joined] = split(words[at] ?? '')
    const name = NAMES.get(option)
    const value = joined ?? words[++at]
    if (name === undefined || value === undefined || value.startsWith('-')) return undefined
    found[name] = value
  }
  const { config, door } = found
  if (config === undefined || (door !== undefined && !DOOR_KINDS.includes(door))) return undefined
  return { config, door }
}

/** `--config=FILE` has its value with it. */
function split(word: string): readonly [string, string | undefined] {
  const equals = word.startsWith('--') ? word.indexOf('=') : -1
  return equals < 0 ? [word, undefined] : [word.slice(0, equals), word.slice(equals + 1)]
}
