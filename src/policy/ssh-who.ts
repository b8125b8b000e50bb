/** The `ssh:` forms of `who`, compiled to a test of what is known of the login. */
import { type Parsed, parsed, unparsed } from '../config/parsed.ts'
import { printable } from '../protocol/strings.ts'
import type { SshFacts } from '../ssh/facts.ts'
import { parsePattern, patternRules } from './pattern.ts'

const LABELS = patternRules({ separator: '.', ignoreCase: false })

/** Reads what stands behind `ssh:`, `user=bob` for example. */
export function parseSshTest(text: string): Parsed<(facts: SshFacts) => boolean> {
  const equals = text.indexOf('=')
  const field = equals < 0 ? text : text.slice(0, equals)
  const value = equals < 0 ? '' : text.slice(equals + 1)
  if (!['user', 'key', 'principal'].includes(field)) {
    return unparsed(`ssh:${printable(field, 32)} is not a fact of a login: user= key= principal=`)
  }
  if (value === '') return unparsed(`ssh:${field}= needs a value`)
  if (field === 'key') return keyTest(value)
  const pattern = parsePattern(value, LABELS)
  if (!pattern.ok) return pattern
  if (field === 'user') return parsed(({ user }) => user !== undefined && pattern.value(user))
  return parsed(({ principals }) => principals.some(pattern.value))
}

function keyTest(text: string): Parsed<(facts: SshFacts) => boolean> {
  if (!/^SHA256:[A-Za-z0-9+/]{43}=?$/.test(text))
    return unparsed('a key is named by SHA256: and 43 characters, as `ssh-keygen -lf FILE` prints them')
  const wanted = text.replace(/=$/, '')
  return parsed(({ key }) => key === wanted)
}
