/**
 * Which process it was: a number that another process has got since is told by the start time (proc(5)). One in another PID
 * namespace or of another boot can not be looked at and counts as gone.
 */
import { readFileSync, readlinkSync } from 'node:fs'

export interface Owner {
  readonly pid: number
  /** Clock ticks from boot to the start of the process. */
  readonly started: string
  readonly boot: string
  readonly namespace: string
}

/** What tells a process from all others, as long as it runs. */
export function ownerOf(pid: number): Owner {
  // proc(5): the name in field 2 may hold spaces and parentheses; starttime is the 20th field behind it.
  const stat = readText(`/proc/${pid}/stat`)
  const started = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''
  return { pid, started, boot: readText('/proc/sys/kernel/random/boot_id').trim(), namespace: pidNamespace() }
}

/** Whether that very process runs. */
export function isRunning(owner: Owner): boolean {
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

/** What was read from a file, if it is one. */
export function toOwner(value: unknown): Owner | undefined {
  if (typeof value !== 'object' || value === null || !('pid' in value) || typeof value.pid !== 'number')
    return undefined
  const text = (name: string): string => String(Reflect.get(value, name))
  return { pid: value.pid, started: text('started'), boot: text('boot'), namespace: text('namespace') }
}

function pidNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid')
  } catch {
    return ''
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
