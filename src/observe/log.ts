import { destination, type LevelWithSilent, pino } from 'pino'

/** Facts of a log line; names as STYLE.md 24 fixes them. */
export type Facts = Readonly<Record<string, unknown>>

/** Where the gateway writes what it does: JSON lines, the message a constant phrase, the facts as fields. */
export interface Log {
  debug(facts: Facts, message: string): void
  info(facts: Facts, message: string): void
  warn(facts: Facts, message: string): void
  error(facts: Facts, message: string): void
}

/** A log to a file (appended to), or to standard error. Written synchronously: no line is lost at the end. */
export function openLog(options: { readonly level: LevelWithSilent; readonly file?: string | undefined }): Log {
  return pino(
    {
      level: options.level,
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: label => ({ level: label }) },
      // An error in a log line is its name, code, message and causes; never an object that it happens to carry.
      serializers: { err: describeError },
    },
    destination({ dest: options.file ?? 2, sync: true, mkdir: false }),
  )
}

function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return String(error)
  const known = error.name !== 'Error' && error.name !== 'TypeError' && error.name !== 'RangeError'
  // Our own errors say what is wrong, and so do their causes; only a bug needs its stack.
  return { ...factsOf(error), ...(known ? {} : { stack: error.stack }) }
}

function factsOf(error: Error): Record<string, unknown> {
  const code = 'code' in error ? error.code : undefined
  return {
    name: error.name,
    ...(code === undefined ? {} : { code }),
    message: error.message,
    ...(error.cause instanceof Error ? { cause: factsOf(error.cause) } : {}),
  }
}
