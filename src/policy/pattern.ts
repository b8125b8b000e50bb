import { type Parsed, parsed, unparsed } from '../config/parsed.ts'

/** How the text of a certificate field falls into parts. */
export interface PatternRules {
  readonly separator: '.' | '/'
  /** ASCII letters only: Unicode's folding would make the Kelvin sign a `k`. */
  readonly ignoreCase: boolean
}

/**
 * Compiles a pattern once: `*` stands for one whole part that is not empty, `**` for any number of parts, none included;
 * anything else is literal. The test takes at most parts × parts steps, whatever the pattern.
 */
export function parsePattern(text: string, rules: PatternRules): Parsed<(value: string) => boolean> {
  const pattern = split(text, rules)
  if (pattern.some(part => part.includes('*') && part !== '*' && part !== '**')) {
    const kind = rules.separator === '/' ? 'path part' : 'label'
    return unparsed(`* stands for one whole ${kind} and ** for any number of them; neither can be a piece of one`)
  }
  return parsed(value => matches(pattern, split(value, rules)))
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

function split(text: string, { separator, ignoreCase }: PatternRules): readonly string[] {
  const folded = ignoreCase ? text.replace(/[A-Z]+/g, letters => letters.toLowerCase()) : text
  return folded.split(separator)
}
