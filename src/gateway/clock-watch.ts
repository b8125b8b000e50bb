import type { Audit } from '../observe/audit.ts'
import type { Log } from '../observe/log.ts'
import { rightsClock } from '../platform/rights-clock.ts'

const LOOK_MS = 1000

/** What NTP steps by without anybody having to know. */
const STEP_MS = 1000

/** Tells the log and the audit trail, once, that the system's clock was set back. Returns what ends the watch. */
export function watchClock(log: Log, audit: Audit): () => void {
  let said = 0
  const look = (): void => {
    const ms = Math.round(rightsClock.behindMs())
    if (ms < STEP_MS) said = 0
    else if (ms >= said + STEP_MS) {
      said = ms
      log.warn({ ms }, 'the clock was set back: what has run out stays so until a reload')
      audit.note('clock set back', { ms })
    }
  }
  const timer = setInterval(look, LOOK_MS)
  timer.unref()
  return () => clearInterval(timer)
}
