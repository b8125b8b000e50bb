/** What `--json` is on every command that does something: what came of it, for programs. */
export interface AnswerFlags {
  readonly json?: boolean
}

/** The option, as it reads in each of them. */
export const JSON_OPTION = ['--json', 'what came of it, as JSON'] as const

/** Prints facts for programs, or lines for people; without lines, nothing. */
export function answer({ json }: AnswerFlags, facts: object, ...lines: readonly string[]): void {
  if (json === true) process.stdout.write(`${JSON.stringify(facts, null, 2)}\n`)
  else if (lines.length > 0) process.stdout.write(`${lines.join('\n')}\n`)
}
