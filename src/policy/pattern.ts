import { type Parsed, parsed, unparsed } from '../config/parsed.ts'
import type { Test } from './clue.ts'
import { patternClue } from './pattern-clue.ts'

/** Values whose parts are remembered: one visitor's are held against many patterns. */
const REMEMBERED = 64

/** How the text of a certificate field falls into parts. */
export interface PatternRules {
  readonly separator: '.' | '/'
  /** ASCII letters only: Unicode's folding would make the Kelvin sign a `k`. */
  readonly ignoreCase: boolean
  /** The parts of a value; remembers those of the last few. */
  readonly partsOf: (value: string) => readonly string[]
}

/** Rules for a kind of value. */
export function patternRules(form: Pick<PatternRules, 'separator' | 'ignoreCase'>): PatternRules {
  const known = new Map<string, readonly string[]>()
  let last = ''
  let lastParts = split('', form)
  const partsOf = (value: string): readonly string[] => {
    if (value === last) return lastParts
    const parts = known.get(value) ?? split(value, form)
    if (known.size >= REMEMBERED) known.clear()
    known.set(value, parts)
    last = value
    lastParts = parts
    return parts
  }
  return { ...form, partsOf }
}

/**
 * Compiles a pattern once: `*` stands for one whole part that is not empty, `**` for any number of parts, none included;
 * anything else is literal. The test takes at most parts × parts steps, whatever the pattern.
 */
export function parsePattern(text: string, rules: PatternRules): Parsed<Test<string>> {
  const pattern = split(text, rules)
  if (pattern.some(part => part.includes('*') && part !== '*' && part !== '**')) {
    const kind = rules.separator === '/' ? 'path part' : 'label'
    return unparsed(`* stands for one whole ${kind} and ** for any number of them; neither can be a piece of one`)
  }
  if (!text.includes('*') && !rules.ignoreCase) return parsed(literal(text))
  const { partsOf } = rules
  const clue = patternClue(pattern, rules)
  if (!pattern.includes('**')) return parsed({ holds: value => matchesOneByOne(pattern, partsOf(value)), clue })
  return parsed({ holds: value => matches(pattern, partsOf(value)), clue })
}

/** The condition to be just this text. */
export function literal(text: string): Test<string> {
  return { holds: value => value === text, clue: { id: 'is', key: text, keysOf: value => [value] } }
}

/** From the end, where names of one kind differ least often by chance: `*.lab.example`. */
function matchesOneByOne(pattern: readonly string[], parts: readonly string[]): boolean {
  if (pattern.length !== parts.length) return false
  for (let at = pattern.length - 1; at >= 0; at--) {
    const wanted = pattern[at]
    if (wanted === '*' ? parts[at] === '' : wanted !== parts[at]) return false
  }
  return true
}

/** Walks both lists at once and remembers only the last `**`: it is never needed to go back beyond that one. */
function matches(pattern: readonly string[], parts: readonly string[]): boolean {
  let at = 0
  let retryAt = -1
  let retryPart = 0
  for (let part = 0; part < parts.length; ) {
    const wanted = pattern[at]
    if (wanted === '**') {
      retryAt = ++at
      retryPart = part
    } else if (wanted === '*' ? parts[part] !== '' : wanted === parts[part]) {
      at++
      part++
    } else if (retryAt >= 0) {
      at = retryAt
      part = ++retryPart
    } else {
      return false
    }
  }
  while (pattern[at] === '**') at++
  return at === pattern.length
}

function split(
  text: string,
  { separator, ignoreCase }: Pick<PatternRules, 'separator' | 'ignoreCase'>,
): readonly string[] {
  const folded = ignoreCase ? text.replace(/[A-Z]+/g, letters => letters.toLowerCase()) : text
  return folded.split(separator)
}
