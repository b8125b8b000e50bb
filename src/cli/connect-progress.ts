/** The last line of a terminal while `nbdgate connect` runs: who is connected, and how much moves. */

import type { SessionFacts } from '../admin/managed.ts'

/** What open sessions have moved so far. */
export interface Traffic {
  readonly sessions: number
  readonly bytesRead: number
  readonly bytesWritten: number
}

/** What sessions have moved, all in all. */
export function trafficOf(sessions: readonly SessionFacts[]): Traffic {
  const sum = (key: 'bytesRead' | 'bytesWritten'): number => sessions.reduce((all, each) => all + each[key], 0)
  return { sessions: sessions.length, bytesRead: sum('bytesRead'), bytesWritten: sum('bytesWritten') }
}

/** A line that is written over again and again. */
export interface Progress {
  /** Writes a line that stays, above this one. */
  above(line: string): void
  /** Takes the line away. */
  stop(): void
}

const EVERY_MS = 1000
const CLEAR = '\r\u001b[K'

/** Shows what `traffic` says once a second, on one line: what is wider than the terminal is cut off. */
export function showProgress(
  traffic: () => Traffic,
  write: (text: string) => void,
  columns: () => number | undefined = () => undefined,
): Progress {
  let before = traffic()
  let shown = ''
  const draw = (line: string): void => {
    if (line === '' && shown === '') return
    // A terminal that was not asked for its size says 0.
    shown = line.slice(0, (columns() || Number.POSITIVE_INFINITY) - 1)
    write(`${CLEAR}${shown}`)
  }
  const timer = setInterval(() => {
    const now = traffic()
    draw(progressLine(before, now, EVERY_MS / 1000))
    before = now
  }, EVERY_MS).unref()
  return {
    above: line => write(shown === '' ? line : `${CLEAR}${line}${shown}`),
    stop: () => {
      clearInterval(timer)
      draw('')
    },
  }
}

/** One line; empty when nobody is connected. */
export function progressLine(before: Traffic, now: Traffic, seconds: number): string {
  if (now.sessions === 0) return ''
  // Of sessions that have ended in between, the counters are gone.
  const rate = (from: number, to: number): string => `${bytesText(Math.max(0, to - from) / seconds)}/s`
  const read = `read ${bytesText(now.bytesRead)} (${rate(before.bytesRead, now.bytesRead)})`
  const written = `written ${bytesText(now.bytesWritten)} (${rate(before.bytesWritten, now.bytesWritten)})`
  return `${now.sessions} ${now.sessions === 1 ? 'session' : 'sessions'}, ${read}, ${written}`
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const

/** A size for people: `1.5 MiB`. */
export function bytesText(bytes: number): string {
  let [value, unit] = [bytes, 0]
  while (value >= 1024 && unit < UNITS.length - 1) [value, unit] = [value / 1024, unit + 1]
  return `${unit === 0 ? Math.round(value) : Number(value.toFixed(1))} ${UNITS[unit]}`
}
