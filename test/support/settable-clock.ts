/** The system's clock for one process, by libfaketime. */
import { readdirSync } from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface SettableClock {
  /** How far it is ahead of the real one, in seconds; below 0: behind it. */
  set(seconds: number): Promise<void>
  /** The environment of a process that goes by it. */
  readonly env: NodeJS.ProcessEnv
}

/** Where Debian has what `faketime` preloads, whatever the processor is. */
function faketimeLibrary(): string {
  const at = readdirSync('/usr/lib', { withFileTypes: true })
    .filter(entry => entry.isDirectory())
    .map(({ name }) => `/usr/lib/${name}/faketime`)
    .find(folder => folder.includes('-linux-gnu'))
  if (at === undefined) throw new Error('libfaketime is not where Debian has it')
  return join(at, 'libfaketime.so.1')
}

/** A clock for one process: time passes as it does, with what it was set to on top. The monotonic clock is as it is. */
export async function settableClock(dir: string): Promise<SettableClock> {
  const file = join(dir, 'clock')
  const set = async (seconds: number): Promise<void> => {
    await writeFile(`${file}.new`, `${seconds < 0 ? '' : '+'}${seconds}\n`)
    await rename(`${file}.new`, file)
  }
  await set(0)
  const env = {
    ...process.env,
    LD_PRELOAD: faketimeLibrary(),
    FAKETIME_TIMESTAMP_FILE: file,
    FAKETIME_NO_CACHE: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
  }
  return { set, env }
}
