import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { buildConfig } from './build.ts'
import type { Config } from './config.ts'
import { crossCheck } from './cross-checks.ts'
import { ConfigError, type ConfigProblem } from './errors.ts'
import { configSchema } from './schema.ts'
import { type PathProblem, schemaProblems } from './schema-problems.ts'
import { type Path, readYaml } from './yaml-source.ts'

/** What the layers above know better. */
export interface LoadOptions {
  /** The problem of one `who` text, undefined if it is fine: policy/'s `whoProblem`. */
  readonly validateWho?: (text: string) => string | undefined
  /** Problems of what the configuration names; asked when all else is fine. Those of another file name it. */
  readonly verify?: (config: Config) => readonly (FoundProblem | ConfigProblem)[]
}

/** A problem, and what of the configuration it is about. */
export interface FoundProblem {
  readonly path: Path
  readonly message: string
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EACCES: 'permission denied',
  EISDIR: 'it is a folder',
}

/**
 * Reads and checks a configuration. Looks at nothing that the file names: keys and upstreams are
 * others' business, see `verify`.
 * @throws ConfigError with every problem at once, in the order of the file
 */
export function loadConfig(file: string, options: LoadOptions = {}): Config {
  return parseConfig(readText(file), file, options)
}

/** loadConfig without the reading: `file` names the text in problems, and its folder is where relative paths start. */
export function parseConfig(text: string, file: string, options: LoadOptions = {}): Config {
  const yaml = readYaml(text)
  const problems = yaml.problems.map(problem => ({ file, ...problem }))
  if (yaml.value === undefined) throw new ConfigError(inOrder(problems))
  const { root } = yaml.value

  const checked = configSchema.safeParse(root)
  const folder = dirname(resolve(file))
  const found: readonly PathProblem[] = [
    ...(checked.success ? [] : schemaProblems(checked.error.issues, root)),
    ...crossCheck(root, { folder, validateWho: options.validateWho }),
  ]
  for (const { path, at, message } of found) problems.push({ file, ...yaml.at(path, at), message })
  if (!checked.success || problems.length > 0) throw new ConfigError(inOrder(problems))
  const config = buildConfig(checked.data, file, path => yaml.at(path))
  for (const each of options.verify?.(config) ?? []) {
    problems.push('file' in each ? each : { file, ...yaml.at(each.path), message: each.message })
  }
  if (problems.length > 0) throw new ConfigError(inOrder(problems))
  return config
}

function readText(file: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(file))
  } catch (error) {
    throw new ConfigError([{ file, line: 1, column: 1, message: `this can not be read: ${reason(error)}` }], {
      cause: error,
    })
  }
}

function reason(error: unknown): string {
  if (error instanceof TypeError) return 'it is not UTF-8'
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  return REASONS[code] ?? code
}

function inOrder(problems: readonly ConfigProblem[]): readonly ConfigProblem[] {
  const rank = new Map([...new Set(problems.map(({ file }) => file))].map((file, index) => [file, index]))
  const of = ({ file }: ConfigProblem): number => rank.get(file) ?? 0
  return problems.toSorted((a, b) => of(a) - of(b) || a.line - b.line || a.column - b.column)
}
