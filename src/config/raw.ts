import type { Path } from './yaml-source.ts'

/** The map that a value of unknown form is, undefined if it is none. */
export function asMap(value: unknown): Readonly<Record<string, unknown>> | undefined {
  return isMap(value) ? value : undefined
}

/** The list that a value of unknown form is; an empty one if it is none. */
export function asList(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

/** Follows a path into a value of unknown form; undefined where it leads nowhere. */
export function valueAt(root: unknown, path: Path): unknown {
  let value = root
  for (const step of path) {
    if (typeof step === 'number') value = asList(value)[step]
    else
      value = asMap(value) !== undefined && Object.hasOwn(asMap(value) ?? {}, step) ? asMap(value)?.[step] : undefined
  }
  return value
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
