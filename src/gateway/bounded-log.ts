import type { Facts, Log } from '../observe/log.ts'

/** Lines a second for each reason; of what comes beyond them only the number is said. */
const LINES_PER_SECOND = 20
const SECOND_MS = 1000

/** What strangers can have the gateway say as often as they like. */
const BY_STRANGERS: readonly string[] = [
  'turned away',
  'tls failed',
  'ssh login failed',
  'protocol broken',
  'negotiation timed out',
  'door failed',
]

interface Unsaid {
  readonly level: 'warn' | 'error'
  readonly message: string
  readonly facts: Facts
  times: number
}

/** The same log, but for what strangers bring about: a flood must not fill the disk with its lines. */
export function boundFloods(log: Log): Log {
  /** Of this second: lines by message and reason. */
  const said = new Map<string, number>()
  const unsaid = new Map<string, Unsaid>()
  let isTiming = false
  const secondIsOver = (): void => {
    isTiming = false
    for (const { level, message, facts, times } of unsaid.values()) log[level]({ ...facts, times }, message)
    said.clear()
    unsaid.clear()
  }
  const bound = (level: 'warn' | 'error', facts: Facts, message: string): void => {
    if (!BY_STRANGERS.includes(message)) {
      log[level](facts, message)
      return
    }
    const why = whyOf(facts)
    const key = JSON.stringify([message, why])
    const count = said.get(key) ?? 0
    if (!isTiming) setTimeout(secondIsOver, SECOND_MS).unref()
    isTiming = true
    if (count >= LINES_PER_SECOND) {
      const more = unsaid.get(key) ?? { level, message, facts: why, times: 0 }
      more.times++
      unsaid.set(key, more)
      return
    }
    said.set(key, count + 1)
    log[level](facts, message)
  }
  return {
    debug: (facts, message) => log.debug(facts, message),
    info: (facts, message) => log.info(facts, message),
    warn: (facts, message) => bound('warn', facts, message),
    error: (facts, message) => bound('error', facts, message),
  }
}

/** By what the lines of a flood are told apart. */
function whyOf({ reason, code, err }: Facts): Facts {
  if (reason !== undefined) return { reason }
  if (code !== undefined) return { code }
  return err instanceof Error && 'code' in err && typeof err.code === 'string' ? { code: err.code } : {}
}
