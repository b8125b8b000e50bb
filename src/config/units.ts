import { printable } from '../protocol/strings.ts'
import { type Parsed, parsed, unparsed } from './parsed.ts'

const DURATION_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const

/** setTimeout fires at once, instead of late, for anything longer (Node's timers: TIMEOUT_MAX). */
const MAX_DURATION_MS = 2 ** 31 - 1

const SIZE_BYTES = {
  B: 1,
  kB: 1000,
  KB: 1000,
  MB: 1000 ** 2,
  GB: 1000 ** 3,
  TB: 1000 ** 4,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4,
} as const

/** Reads `500ms`, `10s`, `5m`, `1h`, `2d` as milliseconds: a whole number with a unit, at most 24 days. */
export function parseDuration(text: string): Parsed<number> {
  const ms = withUnit(text, DURATION_MS)
  if (ms === undefined)
    return unparsed(`${shown(text)} is not a time: write a whole number and ms, s, m, h or d, like 10s`)
  if (ms > MAX_DURATION_MS) return unparsed(`${shown(text)} is too long: at most 24d`)
  return parsed(ms)
}

/** Reads an age, as a time of any length: nothing waits for so long, it is only compared. */
export function parseAge(text: string): Parsed<number> {
  const ms = withUnit(text, DURATION_MS)
  if (ms === undefined || !Number.isSafeInteger(ms))
    return unparsed(`${shown(text)} is not an age: write a whole number and ms, s, m, h or d, like 90d`)
  return parsed(ms)
}

/** Reads `64MiB` (powers of 1024) and `200MB` (powers of 1000) as bytes: a whole number with a unit, below 2^53. */
export function parseSize(text: string): Parsed<number> {
  const bytes = withUnit(text, SIZE_BYTES)
  if (bytes === undefined)
    return unparsed(`${shown(text)} is not a size: write a whole number and a unit, like 64MiB or 200MB`)
  if (!Number.isSafeInteger(bytes)) return unparsed(`${shown(text)} is too large`)
  return parsed(bytes)
}

/** Reads `200MB/s` and `64MiB/s` as bytes a second, at least one. */
export function parseRate(text: string): Parsed<number> {
  const size = text.endsWith('/s') ? parseSize(text.slice(0, -2)) : undefined
  if (size?.ok !== true || size.value === 0) {
    return unparsed(`${shown(text)} is not a rate: write a whole number, a unit and /s, like 200MB/s`)
  }
  return size
}

function withUnit(text: string, units: Readonly<Record<string, number>>): number | undefined {
  const match = /^(\d{1,16})([a-zA-Z]{1,3})$/.exec(text)
  const unit = match?.[2] ?? ''
  const factor = Object.hasOwn(units, unit) ? units[unit] : undefined
  return factor === undefined ? undefined : Number(match?.[1]) * factor
}

function shown(text: string): string {
  return JSON.stringify(printable(text, 64))
}
