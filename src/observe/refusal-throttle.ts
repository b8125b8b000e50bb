/**
 * Keeps strangers from filling the disk with their refusals, for a full disk keeps everybody out: of one source, and of
 * all together, so many a minute have a record each; the others are counted, and the trail says how many there were.
 */
import type { Audit } from './audit.ts'

/** How many refusals have a record of their own in a minute. */
export interface RefusalLimits {
  /** Of one address, or of one user on this host. */
  readonly bySource: number
  readonly inAll: number
}

const LIMITS: RefusalLimits = { bySource: 100, inAll: 1000 }
const WINDOW_MS = 60_000

/** The same trail, with a bound on `session refused`. */
export function throttleRefusals(audit: Audit, limits = LIMITS, windowMs = WINDOW_MS): Audit {
  const bySource = new Map<string, number>()
  let inAll = 0
  let counted = 0
  let timer: NodeJS.Timeout | undefined
  const endWindow = (): void => {
    clearTimeout(timer)
    timer = undefined
    if (counted > 0) audit.note('refusals counted', { count: counted })
    bySource.clear()
    inAll = 0
    counted = 0
  }
  const isTooMany = (source: string): boolean => {
    timer ??= setTimeout(endWindow, windowMs).unref()
    const ofSource = bySource.get(source) ?? 0
    // No source is remembered that has no record: so there are never more of them than records.
    if (inAll >= limits.inAll || ofSource >= limits.bySource) return true
    bySource.set(source, ofSource + 1)
    inAll++
    return false
  }
  return {
    write: (kind, facts) => audit.write(kind, facts),
    note: (kind, facts) => {
      if (kind === 'session refused' && isTooMany(sourceOf(facts.peer))) counted++
      else audit.note(kind, facts)
    },
    state: () => audit.state(),
    close: () => {
      endWindow()
      return audit.close()
    },
  }
}

/** A peer without what is another one each time: `192.0.2.7:50312`, `uid 1000 pid 4711`. */
function sourceOf(peer: unknown): string {
  return String(peer).replace(/(:\d+| pid \d+)$/, '')
}
