/** The `ssh:` forms of `who`, compiled to a test of what is known of the login. */
import { type Parsed, parsed, unparsed } from '../config/parsed.ts'
import { printable } from '../protocol/strings.ts'
import type { SshFacts } from '../ssh/facts.ts'
import { clueWithin, type Test } from './clue.ts'
import { literal, parsePattern, patternRules } from './pattern.ts'

const LABELS = patternRules({ separator: '.', ignoreCase: false })

/** Reads what stands behind `ssh:`, `user=bob` for example. */
export function parseSshTest(text: string): Parsed<Test<SshFacts>> {
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
  const { holds, clue } = pattern.value
  if (field === 'principal') {
    return parsed({
      holds: ({ principals }) => principals.some(holds),
      clue: clueWithin('principal', clue, ({ principals }) => principals),
    })
  }
  return parsed({
    holds: ({ user }) => user !== undefined && holds(user),
    clue: clueWithin('user', clue, ({ user }) => (user === undefined ? [] : [user])),
  })
}

function keyTest(text: string): Parsed<Test<SshFacts>> {
  if (!/^SHA256:[A-Za-z0-9+/]{43}=?$/.test(text))
    return unparsed('a key is named by SHA256: and 43 characters, as `ssh-keygen -lf FILE` prints them')
  const { holds, clue } = literal(text.replace(/=$/, ''))
  return parsed({ holds: ({ key }) => holds(key), clue: clueWithin('key', clue, ({ key }) => [key]) })
}
