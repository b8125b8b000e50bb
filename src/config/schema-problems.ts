/**
 * Turns zod's issues into problems at a place of the file, in words that fit YAML. Which form of a union was meant is
 * told by the value, not by the number of issues.
 */

import type { z } from 'zod'
import { printable } from '../protocol/strings.ts'
import { asMap, valueAt } from './raw.ts'
import type { Path } from './yaml-source.ts'

/** A problem at the value of `path`, or at its key. */
export interface PathProblem {
  readonly path: Path
  readonly at?: 'key' | 'value'
  readonly message: string
}

type Issue = z.core.$ZodIssue

/** Keys that say which form of a door or of an upstream is meant. */
const NAMING_KEYS = ['tls', 'ssh', 'tcp', 'unix', 'uri', 'file', 'spawn']

const KINDS: Readonly<Record<string, string>> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  array: 'a list',
  object: 'a map',
}

/** Problems of one document, in zod's order. `root` is what zod was given. */
export function schemaProblems(issues: readonly Issue[], root: unknown): readonly PathProblem[] {
  return issues.flatMap(issue => describe(issue, root, []))
}

function describe(issue: Issue, root: unknown, base: Path): readonly PathProblem[] {
  const path = [...base, ...issue.path.map(step => (typeof step === 'number' ? step : String(step)))]
  const value = valueAt(root, path)
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map(key => unknownKey(path, key, value))
    case 'invalid_union':
      return value === undefined ? [missing(path)] : describeUnion(issue, root, path)
    default:
      if (value === undefined && issue.code !== 'custom') return [missing(path)]
      return [{ path, message: messageOf(issue, path, value) }]
  }
}

function describeUnion(
  issue: Extract<Issue, { code: 'invalid_union' }>,
  root: unknown,
  path: Path,
): readonly PathProblem[] {
  const fitting = issue.errors.filter(branch => branch.every(fits))
  const [only] = fitting
  if (only !== undefined && fitting.length === 1) return only.flatMap(inner => describe(inner, root, path))
  // None, or several: it has no key that says what it is.
  return [{ path, message: issue.message }]
}

/** Not so for a branch of another type, and one that has no use for the key that says what the map is. */
function fits(issue: Issue): boolean {
  if (issue.code === 'unrecognized_keys') return !issue.keys.some(key => NAMING_KEYS.includes(key))
  return !(issue.code === 'invalid_type' && issue.path.length === 0)
}

function unknownKey(path: Path, key: string, map: unknown): PathProblem {
  return { path: [...path, key], at: 'key', message: unknownKeyMessage(key, map) }
}

function unknownKeyMessage(key: string, map: unknown): string {
  const shown = `\`${printable(key, 64)}\``
  // Of a union zod takes a branch that has nothing but keys too many, as if the other form had not been meant as well.
  const other = NAMING_KEYS.find(naming => naming !== key && Object.hasOwn(asMap(map) ?? {}, naming))
  const isSecondForm = NAMING_KEYS.includes(key) && other !== undefined
  return isSecondForm ? `${shown} can not stand beside \`${other}\`` : `unknown key ${shown}`
}

function missing(path: Path): PathProblem {
  return { path: path.slice(0, -1), message: `${nameOf(path)} is missing` }
}

function messageOf(issue: Issue, path: Path, value: unknown): string {
  const name = nameOf(path)
  // Messages of our own in the schema are clauses; only zod's begin with a capital letter.
  if (/^[^A-Z]/.test(issue.message))
    return /^(must|needs) /.test(issue.message) ? `${name} ${issue.message}` : issue.message
  switch (issue.code) {
    case 'invalid_type': {
      const hint = issue.expected === 'string' && isPlain(value) ? '; put it in quotes' : ''
      return `${name} must be ${KINDS[issue.expected] ?? issue.expected}, not ${issue.expected === 'int' && isPlain(value) ? value : kindOf(value)}${hint}`
    }
    case 'invalid_value':
      return `${name} must be ${issue.values.map(String).join(' or ')}`
    default:
      return `${name}: ${printable(issue.message)}`
  }
}

function nameOf(path: Path): string {
  const key = path.findLast(step => typeof step === 'string')
  if (key === undefined) return 'the configuration'
  return typeof path.at(-1) === 'number' ? `an entry of \`${key}\`` : `\`${key}\``
}

function kindOf(value: unknown): string {
  if (value === null) return 'empty'
  if (Array.isArray(value)) return 'a list'
  return KINDS[typeof value] ?? String(value)
}

function isPlain(value: unknown): boolean {
  return typeof value === 'number' || typeof value === 'boolean'
}
