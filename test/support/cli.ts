import { vi } from 'vitest'
import { run } from '../../src/cli/program.ts'

/** What a command printed, and its exit code. */
export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs `nbdgate ARGS` in this process. Some commands leave their verdict in process.exitCode, which has to be put back. */
export async function nbdgate(...args: readonly string[]): Promise<Ran> {
  const [stdout, stderr]: [string[], string[]] = [[], []]
  const out = vi.spyOn(process.stdout, 'write').mockImplementation(text => stdout.push(String(text)) > 0)
  const err = vi.spyOn(process.stderr, 'write').mockImplementation(text => stderr.push(String(text)) > 0)
  const before = process.exitCode
  process.exitCode = undefined
  try {
    const code = await run(['node', 'nbdgate', ...args])
    return { code, stdout: stdout.join(''), stderr: stderr.join('') }
  } finally {
    process.exitCode = before
    out.mockRestore()
    err.mockRestore()
  }
}
