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

/** A log that takes lines of other processes too, so that lines never tear. */
export interface LineLog extends Log {
  /** Whole lines, each with its end, as `logLines` makes them. */
  pass(lines: string): void
}

/** A log to a file (appended to), or to standard error. Written synchronously: no line is lost at the end. */
export function openLog(options: { readonly level: LevelWithSilent; readonly file?: string | undefined }): LineLog {
  const out = destination({ dest: options.file ?? 2, sync: true, mkdir: false })
  return Object.assign(logLines(options.level, out), { pass: (lines: string): void => void out.write(lines) })
}

/** A log to whoever takes its lines. */
export function logLines(level: LevelWithSilent, out: { write(line: string): void }): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: label => ({ level: label }) },
      // An error in a log line is its name, code, message and causes; never an object that it happens to carry.
      serializers: { err: describeError },
    },
    out,
  )
}

function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return String(error)
  const isOurs = error.name !== 'Error' && error.name !== 'TypeError' && error.name !== 'RangeError'
  // Our own errors say what is wrong, and so do their causes and the system's (ECONNRESET); only a bug needs its stack.
  const known = isOurs || 'syscall' in error
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
