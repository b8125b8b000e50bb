/** How bad it is: `problem` keeps somebody out or lets somebody in, `warning` will or might. */
export type Level = 'fine' | 'warning' | 'problem'

/** One thing that `nbdgate doctor` has looked at. */
export interface Finding {
  readonly level: Level
  /** What was looked at, in a word or two. Stable. */
  readonly check: string
  readonly what: string
  /** What to do about it; there with every warning and problem. */
  readonly todo?: string | undefined
}

/** Nothing to do. */
export function fine(check: string, what: string): Finding {
  return { level: 'fine', check, what }
}

/** It works, and should not stay so. */
export function warning(check: string, what: string, todo: string): Finding {
  return { level: 'warning', check, what, todo }
}

/** It does not work, or is open to others. */
export function problem(check: string, what: string, todo: string): Finding {
  return { level: 'problem', check, what, todo }
}
