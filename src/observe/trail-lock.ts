/**
 * One writer for a trail: a file that says which process it is. Its content is there as soon as the file is (link(2)), and
 * it counts only while that very process runs: a number that another process has got since is told by the start time.
 *
 * A writer in another PID namespace or of another boot can not be looked at and counts as gone: else a container that was
 * killed would lock itself out. Two of those at one trail are found by what they write (`CHANGED`).
 */
import { linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { isRunning, type Owner, ownerOf, toOwner } from '../platform/owner.ts'
import { AuditError } from './errors.ts'

/** A trail that is ours until it is given back. */
export interface TrailLock {
  release(): void
}

/** Takes the lock. @throws AuditError LOCKED when another process has it, or the error of node:fs */
export function takeLock(path: string): TrailLock {
  const own = `${path}.${process.pid}`
  const content = JSON.stringify(ownerOf(process.pid))
  writeFileSync(own, content, { mode: 0o600 })
  try {
    if (!isLinked(own, path)) {
      const owner = readOwner(path)
      if (owner !== undefined && isRunning(owner)) {
        const hint = 'give each gateway a state folder of its own'
        throw new AuditError('LOCKED', `${path}: process ${owner.pid} writes this audit trail; ${hint}`)
      }
      rmSync(path, { force: true })
      if (!isLinked(own, path)) throw new AuditError('LOCKED', `${path}: another process was faster`)
    }
  } finally {
    rmSync(own, { force: true })
  }
  const isOurs = (): boolean => readText(path) === content
  return { release: () => (isOurs() ? rmSync(path, { force: true }) : undefined) }
}

/** Makes `path` another name of `own`; false if there is something already. */
function isLinked(own: string, path: string): boolean {
  try {
    linkSync(own, path)
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false
    throw error
  }
}

function readOwner(path: string): Owner | undefined {
  try {
    return toOwner(JSON.parse(readText(path)))
  } catch {
    return undefined
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
