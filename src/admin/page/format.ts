/** Numbers and times as people read them. */

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const

/** `0 B`, `1.5 MiB`, `230 GiB`. */
export function bytesText(bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1024
    unit++
  }
  return `${unit === 0 ? Math.round(value) : short(value)} ${UNITS[unit] ?? ''}`
}

export function rateText(bytesPerSecond: number): string {
  return `${bytesText(bytesPerSecond)}/s`
}

/** `48 µs`, `1.2 ms`, `3 s`; `–` for none. */
export function latencyText(seconds: number | undefined): string {
  if (seconds === undefined) return '–'
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`
  return seconds < 1 ? `${short(seconds * 1000)} ms` : `${short(seconds)} s`
}

/** `12 s`, `5 min`, `3 h`, `4 d`, `9 years`. */
export function durationText(ms: number): string {
  const seconds = Math.max(Math.floor(ms / 1000), 0)
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h`
  const days = Math.floor(seconds / 86_400)
  return days < 730 ? `${days} d` : `${Math.floor(days / 365)} years`
}

/** `14:03:59`, of the local day. */
export function clockText(ms: number): string {
  return new Date(ms).toTimeString().slice(0, 8)
}

export function countText(count: number): string {
  return count < 10_000 ? String(Math.round(count)) : Math.round(count).toLocaleString('en')
}

/** `1 session`, `3 sessions`. */
export function plural(count: number, noun: string): string {
  return `${countText(count)} ${noun}${count === 1 ? '' : 's'}`
}

function short(value: number): string {
  return value < 10 ? value.toFixed(1) : String(Math.round(value))
}
