import type { Config } from '../config/config.ts'
import { type Audit, NO_AUDIT } from '../observe/audit.ts'
import type { Log } from '../observe/log.ts'
import { throttleRefusals } from '../observe/refusal-throttle.ts'
import { openAudit } from '../observe/trail-queue.ts'

/** The trail begins before the first door opens: it tells how each session came to be. */
export async function beginAudit(config: Config, dir: string | undefined, log: Log): Promise<Audit> {
  if (dir === undefined || config.audit === undefined) return NO_AUDIT
  const audit = throttleRefusals(await openAudit({ dir, ...config.audit, log }))
  audit.note('gateway started', { pid: process.pid, config: config.file })
  return audit
}

/** Says that the gateway ends, and gives the trail back. */
export async function endAudit(audit: Audit): Promise<void> {
  audit.note('gateway stopped', { pid: process.pid })
  await audit.close()
}
