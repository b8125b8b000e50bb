/** One thing that is wrong with a configuration. Line and column count from 1; a file that can not be read has 1:1. */
export interface ConfigProblem {
  readonly file: string
  readonly line: number
  readonly column: number
  readonly message: string
}

/** A configuration that can not be used. Carries all its problems; the message has one `file:line:col: message` a line. */
export class ConfigError extends Error {
  readonly code = 'CONFIG'
  readonly problems: readonly ConfigProblem[]

  constructor(problems: readonly ConfigProblem[], options?: ErrorOptions) {
    super(problems.map(p => `${p.file}:${p.line}:${p.column}: ${p.message}`).join('\n'), options)
    this.name = 'ConfigError'
    this.problems = problems
  }
}
