/**
 * YAML text as plain values that still know where they were written. What is wrong with the YAML itself ends up in
 * `problems`; what the values mean is not looked at here.
 */

import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseDocument,
  visit,
  type YAMLError,
} from 'yaml'
import { printable } from '../protocol/strings.ts'

/** Keys and indexes from the top of the document down to a value. */
export type Path = readonly (string | number)[]

/** Counted from 1. */
export interface Position {
  readonly line: number
  readonly column: number
}

/** A document that was read. Without `value` there is nothing to go on with, and at least one problem. */
export interface YamlSource {
  readonly value?: { readonly root: unknown }
  readonly problems: readonly (Position & { readonly message: string })[]
  /** Where a value begins, or the key that it has; for what is not there, the map or list that lacks it. */
  at(path: Path, what?: 'key' | 'value'): Position
}

/** Aliases that a document may expand to in all; more is taken for an alias bomb. */
const MAX_ALIASES = 100

/** Reads one YAML 1.2 document. Never throws, whatever the text. */
export function readYaml(text: string): YamlSource {
  const lines = new LineCounter()
  const position = (offset: number): Position => {
    const { line, col } = lines.linePos(offset)
    return { line: Math.max(line, 1), column: Math.max(col, 1) }
  }
  try {
    const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
    // Where the parser gives up at a depth, it reports each level that it leaves as an error of its own.
    const surrender = document.errors.find(error => error.code === 'RESOURCE_EXHAUSTION')
    const faults = surrender === undefined ? [...document.errors, ...document.warnings] : [surrender]
    const problems = [
      ...faults.map(fault => ({ ...position(fault.pos[0]), message: faultMessage(fault, text) })),
      ...structureFaults(document).map(({ offset, message }) => ({ ...position(offset), message })),
    ]
    const at = (path: Path, what: 'key' | 'value' = 'value'): Position => position(offsetOf(document, path, what))
    // A duplicate key or an unknown tag leaves a document that can be checked further; a syntax error does not.
    const isReadable =
      document.errors.every(error => error.code === 'DUPLICATE_KEY') && problems.length === faults.length
    return isReadable ? { value: { root: toPlain(document) }, problems, at } : { problems, at }
  } catch (error) {
    return unreadable(error)
  }
}

function unreadable(error: unknown): YamlSource {
  const start = { line: 1, column: 1 }
  // Nested too deeply for the parser's recursion, or an alias bomb that hides its aliases.
  const reason =
    error instanceof RangeError ? 'nested too deeply' : printable(error instanceof Error ? error.message : '')
  return { problems: [{ ...start, message: `this is not usable as YAML: ${reason}` }], at: () => start }
}

function faultMessage(fault: YAMLError, text: string): string {
  if (fault.code === 'RESOURCE_EXHAUSTION') return 'YAML: nested too deeply'
  if (fault.code !== 'DUPLICATE_KEY') return `YAML: ${printable(fault.message)}`
  const key = /^[^\s:,{}]+/.exec(text.slice(fault.pos[0]))?.[0] ?? 'this key'
  return `\`${printable(key, 64)}\` is given twice`
}

/** What is good YAML and no good configuration: keys that are not text, aliases to nothing or to themselves. */
function structureFaults(document: Document.Parsed): { readonly offset: number; readonly message: string }[] {
  const faults: { readonly offset: number; readonly message: string }[] = []
  const fault = (node: unknown, message: string): number => faults.push({ offset: startOf(node) ?? 0, message })
  let firstAlias: Node | undefined
  visit(document, {
    Pair: (_, pair) => {
      if (!isScalar(pair.key) || typeof pair.key.value !== 'string')
        fault(pair.key, 'a key must be text; put it in quotes')
    },
    Alias: (_, alias, ancestors) => {
      firstAlias ??= alias
      const target = alias.resolve(document)
      if (target === undefined) fault(alias, `nothing is anchored as &${printable(alias.source, 64)} before this alias`)
      else if (ancestors.includes(target)) fault(alias, `*${printable(alias.source, 64)} contains itself`)
    },
  })
  if (faults.length === 0 && firstAlias !== undefined && !canExpand(document)) {
    fault(firstAlias, `the aliases of this document expand to more than ${MAX_ALIASES} values`)
  }
  return faults
}

function canExpand(document: Document.Parsed): boolean {
  try {
    toPlain(document)
    return true
  } catch {
    return false
  }
}

function toPlain(document: Document.Parsed): unknown {
  return document.toJS({ maxAliasCount: MAX_ALIASES })
}

function offsetOf(document: Document.Parsed, path: Path, what: 'key' | 'value'): number {
  let node: unknown = document.contents
  let offset = startOf(node) ?? 0
  for (const [depth, step] of path.entries()) {
    const inside = isAlias(node) ? node.resolve(document) : node
    const pair = isMap(inside) ? lastPair(inside.items, step) : undefined
    node = isSeq(inside) && typeof step === 'number' ? inside.items[step] : pair?.value
    const isKey = what === 'key' && depth === path.length - 1
    const next = startOf(isKey ? pair?.key : node)
    if (next === undefined) return offset
    offset = next
  }
  return offset
}

/** The last of several: that is the one whose value counts. */
function lastPair(items: readonly Pair<unknown, unknown>[], key: string | number): Pair<unknown, unknown> | undefined {
  return items.findLast(pair => isScalar(pair.key) && pair.key.value === key)
}

function startOf(node: unknown): number | undefined {
  return isScalar(node) || isMap(node) || isSeq(node) || isAlias(node) ? node.range?.[0] : undefined
}
