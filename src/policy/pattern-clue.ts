import type { Clue } from './clue.ts'

/** How a value falls into parts. */
interface Parts {
  readonly separator: string
  readonly partsOf: (value: string) => readonly string[]
}

/**
 * The clue of a pattern: its literal parts. What stands behind `**` is counted from the end, and what stands between two
 * of them is no clue, nor is a pattern without a literal part.
 */
export function patternClue(pattern: readonly string[], rules: Parts): Clue<string> | undefined {
  const first = pattern.indexOf('**')
  const isOpen = first >= 0
  const head = isOpen ? first : pattern.length
  const tail = isOpen ? pattern.length - 1 - pattern.lastIndexOf('**') : 0
  const fixed = [...pattern.keys()].filter(at => at < head || at >= pattern.length - tail)
  const literal = fixed.filter(at => pattern[at] !== '*')
  if (literal.length === 0) return undefined
  const least = head + tail
  const places = literal.map(at => (at < head ? at : at - pattern.length))
  const { separator, partsOf } = rules
  const keyOf = (parts: readonly string[]): string => {
    let key = ''
    for (const at of places) key += `${parts[at < 0 ? at + parts.length : at]}${separator}`
    return key
  }
  return {
    id: `${isOpen ? 'from' : 'of'} ${least} ${places.join()}`,
    key: keyOf(pattern),
    keysOf: value => {
      const parts = partsOf(value)
      return (isOpen ? parts.length >= least : parts.length === least) ? [keyOf(parts)] : []
    },
  }
}
