/** Homes for fio, which takes certificates from nowhere else. */
import { chown, copyFile, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { LeafFiles } from '../../src/pki/files.ts'

const NOBODY = 65534
const IS_ROOT = process.getuid?.() === 0

/** What to put before a command so that it has a home at all: for root libnbd looks in /etc alone. */
export const AS_NOBODY: readonly string[] = IS_ROOT
  ? ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups']
  : []

/**
 * A folder that is somebody's home, with the certificates where libnbd looks for them: fio can not be told another place,
 * and for root that place would be in /etc.
 */
export async function home(dir: string, leaf: LeafFiles): Promise<string> {
  const folder = join(dir, 'home')
  const certificates = join(folder, '.pki', 'libnbd')
  await mkdir(certificates, { recursive: true })
  const mine = [folder, join(folder, '.pki'), certificates]
  const names: readonly [string, string][] = [
    [leaf.ca, 'ca-cert.pem'],
    [leaf.cert, 'client-cert.pem'],
    [leaf.key, 'client-key.pem'],
  ]
  for (const [from, name] of names) {
    await copyFile(from, join(certificates, name))
    mine.push(join(certificates, name))
  }
  if (IS_ROOT) for (const path of [dir, ...mine]) await chown(path, NOBODY, NOBODY)
  return folder
}
