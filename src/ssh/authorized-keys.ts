import { type KeyText, type LineProblem, linesOf, parseKeyLine } from './key-file.ts'
import { type KeyOptions, parseKeyOptions } from './key-options.ts'

/** A line of authorized_keys that is in order. */
export interface AuthorizedKey extends Omit<KeyText, 'options' | 'optionsAt'> {
  readonly line: number
  readonly options: KeyOptions
}

/** Reads OpenSSH's authorized_keys. A line with a problem admits nobody; the others stand. */
export function parseAuthorizedKeys(text: string): {
  readonly keys: readonly AuthorizedKey[]
  readonly problems: readonly LineProblem[]
} {
  const keys: AuthorizedKey[] = []
  const problems: LineProblem[] = []
  for (const { line, text: each } of linesOf(text)) {
    const key = parseKeyLine(each)
    const options = key.ok ? parseKeyOptions(key.value.options, key.value.optionsAt) : key
    if (key.ok && options.ok) {
      const { blob, comment } = key.value
      keys.push({ line, key: key.value.key, blob, comment, options: options.value })
    } else if (!options.ok) {
      problems.push({ line, column: options.at + 1, message: options.problem })
    }
  }
  return { keys, problems }
}
