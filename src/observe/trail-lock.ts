/**
 * One writer for a trail: a file that says which process it is. Its content is there as soon as the file is (link(2)), and
 * it counts only while that very process runs: a number that another process has got since is told by the start time.
 *
 * A writer in another PID namespace or of another boot can not be looked at and counts as gone: else a container that was
 * killed would lock itself out. Two of those at one trail are found by what they write (`CHANGED`).
 */
import { linkSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { AuditError } from './errors.ts'

/** A trail that is ours until it is given back. */
export interface TrailLock {
  release(): void
}

interface Owner {
  readonly pid: number
  /** Clock ticks from boot to the start of the process. */
  readonly started: string
  readonly boot: string
  readonly namespace: string
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

function isRunning(owner: Owner): boolean {
  const now = ownerOf(owner.pid)
  if (owner.boot !== now.boot || owner.namespace !== now.namespace) return false
  // Without /proc there is no start time: then the number alone has to do.
  if (now.boot !== '') return now.started !== '' && now.started === owner.started
  try {
    process.kill(owner.pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

function ownerOf(pid: number): Owner {
  // proc(5): the name in field 2 may hold spaces and parentheses; starttime is the 20th field behind it.
  const stat = readText(`/proc/${pid}/stat`)
  const started = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''
  return { pid, started, boot: readText('/proc/sys/kernel/random/boot_id').trim(), namespace: pidNamespace() }
}

function pidNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid')
  } catch {
    return ''
  }
}

function readOwner(path: string): Owner | undefined {
  try {
    const value: unknown = JSON.parse(readText(path))
    if (typeof value !== 'object' || value === null || !('pid' in value) || typeof value.pid !== 'number')
      return undefined
    const text = (name: string): string => String(Reflect.get(value, name))
    return { pid: value.pid, started: text('started'), boot: text('boot'), namespace: text('namespace') }
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
