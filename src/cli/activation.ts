/** What a service manager tells a process that it starts: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3). */
import type { GivenDescriptor } from '../gateway/handed.ts'
import { UsageError } from './errors.ts'

/** What the environment says of all that. */
export interface Activation {
  readonly descriptors: readonly GivenDescriptor[]
  /** Where to tell what becomes of us: a path, or `@name`. */
  readonly notify?: string | undefined
  /** We are taken for dead after so long without a word. */
  readonly watchdogMs?: number | undefined
}

type Environment = Record<string, string | undefined>

/** The first that is passed: sd_listen_fds(3), SD_LISTEN_FDS_START. */
const FIRST_DESCRIPTOR = 3
const MAX_DESCRIPTORS = 1024

/**
 * Reads the variables and takes them away, so that no program that we start takes them for its own.
 * @throws UsageError for descriptors that can not be counted
 */
export function takeActivation(environment: Environment, pid: number): Activation {
  const take = (name: string): string | undefined => {
    const value = environment[name]
    delete environment[name]
    return value
  }
  const [listenPid, count, names] = [take('LISTEN_PID'), take('LISTEN_FDS'), take('LISTEN_FDNAMES')]
  const [notify, watchdogUs, watchdogPid] = [take('NOTIFY_SOCKET'), take('WATCHDOG_USEC'), take('WATCHDOG_PID')]
  const isWatched = watchdogUs !== undefined && (watchdogPid === undefined || watchdogPid === String(pid))
  const watchdogMs = isWatched ? Number(watchdogUs) / 1000 : 0
  return {
    // sd_listen_fds(3): those of another process are none of ours.
    descriptors: listenPid === String(pid) ? describe(count, names) : [],
    notify: notify === '' ? undefined : notify,
    ...(watchdogMs > 0 && { watchdogMs }),
  }
}

/** Variables for a process that takes this one's place. */
export function environmentOf({ notify, watchdogMs }: Activation): Record<string, string> {
  return {
    ...(notify !== undefined && { NOTIFY_SOCKET: notify }),
    ...(watchdogMs !== undefined && { WATCHDOG_USEC: String(watchdogMs * 1000) }),
  }
}

function describe(count: string | undefined, names: string | undefined): readonly GivenDescriptor[] {
  const number = Number(count ?? '0')
  if (!Number.isInteger(number) || number < 0 || number > MAX_DESCRIPTORS) {
    throw new UsageError(`LISTEN_FDS is no number of descriptors: ${count}`)
  }
  const each = names?.split(':') ?? []
  return Array.from({ length: number }, (_, at) => ({ fd: FIRST_DESCRIPTOR + at, name: each[at] ?? '' }))
}
