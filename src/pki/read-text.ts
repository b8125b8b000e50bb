// Reads the files that key material lies in, and says in one sentence why that can not be done.
import { readFileSync, statSync } from 'node:fs'
import { MaterialError } from './errors.ts'

/** The text of a file. Throws MaterialError. */
export function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    throw new MaterialError('UNREADABLE', file, whyUnreadable(cause), { cause })
  }
}

/** Adds a warning if others than the owner may read a file with something secret in it. */
export function warnAboutMode(file: string, what: string, warnings: string[]): void {
  const mode = modeOf(file)
  if (process.platform === 'win32' || (mode & 0o044) === 0) return
  warnings.push(`${file}: others may read the ${what} (mode ${octal(mode)}): chmod 600 it`)
}

/** The permission bits of a file. */
export function modeOf(file: string): number {
  return statSync(file).mode & 0o777
}

/** `0640`. */
export function octal(mode: number): string {
  return mode.toString(8).padStart(4, '0')
}

function whyUnreadable(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code === 'ENOENT') return 'there is no such file'
  if (code === 'EACCES' || code === 'EPERM') return 'the file may not be read'
  if (code === 'EISDIR') return 'is a folder, not a file'
  return `the file can not be read (${String(code ?? 'unknown error')})`
}
