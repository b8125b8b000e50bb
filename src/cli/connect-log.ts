/** The log of `nbdgate connect`: one line for people where the gateway writes JSON, and word of the sessions. */
import type { Facts, Log } from '../observe/log.ts'
import { printable } from '../protocol/strings.ts'
import { bytesText } from './connect-progress.ts'

/** What a log for the terminal is made with. */
export interface ConnectLogOptions {
  /** Whether state is shown; what went wrong always is. */
  readonly verbose: boolean
  readonly write: (line: string) => void
  /** The last of the sessions that were open has ended. */
  readonly lastEnded: () => void
}

/** A log that shows each change of state as a line, and watches sessions come and go. */
export function connectLog({ verbose, write, lastEnded }: ConnectLogOptions): Log {
  let open = 0
  const line = (facts: Facts, message: string): void => write(`nbdgate: ${printable(sentence(facts, message))}\n`)
  const state = (facts: Facts, message: string): void => {
    if (message === 'session opened') open++
    if (verbose) line(facts, message)
    if (message === 'session ended' && --open === 0) lastEnded()
  }
  return {
    debug: () => {},
    info: state,
    // A session that ended by a broken protocol is told as a warning, and has ended all the same.
    warn: (facts, message) => (message === 'session ended' ? state(facts, message) : line(facts, message)),
    error: line,
  }
}

/** The facts that mean something to whoever started the command. */
const SHOWN = [
  'conn',
  'peer',
  'export',
  'upstream',
  'rights',
  'why',
  'reason',
  'code',
  'signal',
  'warning',
  'bytes',
] as const

function sentence(facts: Facts, message: string): string {
  const shown = SHOWN.flatMap(name => {
    const value = facts[name]
    return value === undefined || value === '' ? [] : [`${name} ${String(value)}`]
  })
  const { err, doors, bytesRead, bytesWritten } = facts
  const moved = [`read ${amount(bytesRead)}`, `written ${amount(bytesWritten)}`].filter(text => !text.endsWith(' '))
  const open = Array.isArray(doors) ? doors.map(({ kind, address }) => `${kind}:${address}`) : []
  const all = [...shown, ...moved, ...open, ...(err instanceof Error ? [err.message] : [])].join(', ')
  return all === '' ? message : `${message}: ${all}`
}

function amount(bytes: unknown): string {
  return typeof bytes === 'number' ? bytesText(bytes) : ''
}
