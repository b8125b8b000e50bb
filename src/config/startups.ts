import { printable } from '../protocol/strings.ts'
import { type Parsed, parsed, unparsed } from './parsed.ts'

/**
 * Connections that are half open: from `start` of them on each new one is turned away with a probability of `rate` (0 to 1),
 * which grows to certainty at `full` (sshd_config(5), MaxStartups).
 */
export interface MaxStartups {
  readonly start: number
  readonly rate: number
  readonly full: number
}

/** Reads sshd_config(5)'s `START:RATE:FULL`, such as `100:30:400`: numbers of connections, and a percentage between. */
export function parseStartups(text: string): Parsed<MaxStartups> {
  const shown = JSON.stringify(printable(text))
  const [start, rate, full] = (/^(\d{1,6}):(\d{1,3}):(\d{1,6})$/.exec(text) ?? []).slice(1).map(Number)
  if (start === undefined || rate === undefined || full === undefined) {
    return unparsed(`${shown} is not START:RATE:FULL, like 100:30:400`)
  }
  if (start < 1 || start > full || rate < 1 || rate > 100) {
    return unparsed(`${shown}: START is at least 1 and at most FULL, RATE from 1 to 100`)
  }
  return parsed({ start, rate: rate / 100, full })
}
