import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A Unix socket's path may have 107 bytes (unix(7), sun_path); this much of it is left to names inside the folder. */
const LONGEST_FOLDER = 60

/** Makes an empty folder of its own for a test, 0700, with a path short enough for Unix sockets inside. */
export async function makeTempFolder(): Promise<string> {
  const parent = tmpdir().length > LONGEST_FOLDER - 'nbdg-XXXXXX'.length - 1 ? '/tmp' : tmpdir()
  return await mkdtemp(join(parent, 'nbdg-'))
}

/** Removes a folder with all that is in it; a folder that is gone is fine. */
export async function removeTempFolder(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true, maxRetries: 3 })
}
