import { describe, it } from 'vitest'
import { findProgram, isCi, type Program, packagesOf } from './programs.mjs'

/** Defines a suite, as `describe` does. */
export type DefineSuite = (title: string, body: () => void) => void

/**
 * `describe` for suites that drive real programs: `requires('nbdkit', 'nbdinfo')('reads', () => { … })`. Where one is
 * missing, the suite is skipped with the reason in its title; with `CI` set it fails, since a silent skip is how
 * interop tests die.
 */
export function requires(...programs: readonly Program[]): DefineSuite {
  const missing = programs.filter(name => findProgram(name) === undefined)
  if (missing.length === 0) return (title, body) => void describe(title, body)
  const reason = `needs ${missing.join(', ')}: apt-get install ${packagesOf(missing).join(' ')}`
  if (!isCi()) return (title, body) => void describe.skip(`${title} (${reason})`, body)
  return title =>
    void describe(title, () => void it('has the programs it drives', () => Promise.reject(new Error(reason))))
}
