/**
 * One writer for a trail. A writer in another PID namespace or of another boot can not be looked at and counts as gone: else
 * a container that was killed would lock itself out. Two of those at one trail are found by what they write (`CHANGED`).
 */
import { type ProcessLock, tryLock } from '../platform/process-lock.ts'
import { AuditError } from './errors.ts'

/** A trail that is ours until it is given back. */
export type TrailLock = ProcessLock

/** Takes the lock. @throws AuditError LOCKED when another process has it, or the error of node:fs */
export function takeLock(path: string): TrailLock {
  const lock = tryLock(path)
  if ('release' in lock) return lock
  if (lock.pid === undefined) throw new AuditError('LOCKED', `${path}: another process was faster`)
  const hint = 'give each gateway a state folder of its own'
  throw new AuditError('LOCKED', `${path}: process ${lock.pid} writes this audit trail; ${hint}`)
}
