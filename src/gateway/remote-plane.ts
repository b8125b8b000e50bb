/** The control plane as a worker has it: it decides here, and asks the main process for all that is shared. */
import { type Audit, NO_AUDIT } from '../observe/audit.ts'
import type { Preparing } from '../preparing/preparing.ts'
import type { MainCalls } from './calls.ts'
import type { Control, LocalControl } from './control.ts'
import type { Link } from './link.ts'

/** `policy` decides; places and leases are the main process's. */
export function remoteControl(policy: LocalControl, link: Link<MainCalls>): Control {
  return {
    visible: asker => policy.visible(asker),
    decide: (name, asker) => policy.decide(name, asker),
    explain: (name, asker) => policy.explain(name, asker),
    acquire: (name, visit, signal) => acquireThrough(link, name, visit, signal),
    look: (name, visit) => link.ask('look', name, visit),
    leaving: conn => link.tell('leaving', conn),
    release: (name, visit) => link.tell('release', name, visit),
  }
}

/** Asks another process for a place, and tells it when that is not wanted any more. */
export async function acquireThrough(
  link: Link<MainCalls>,
  ...[name, visit, signal]: Parameters<Control['acquire']>
): ReturnType<Control['acquire']> {
  const giveUp = (): void => link.tell('giveUp', visit.conn)
  const place = link.ask('acquire', name, visit)
  if (signal.aborted) giveUp()
  signal.addEventListener('abort', giveUp)
  try {
    return await place
  } finally {
    signal.removeEventListener('abort', giveUp)
  }
}

/** Programs are run by the main process. */
export function remotePreparing(link: Link<MainCalls>): Preparing {
  return {
    authorize: (name, guest, granted) => link.ask('authorize', name, guest, granted),
    prepare: (name, guest) => link.ask('prepare', name, guest),
    finish: conn => link.tell('finish', conn),
  }
}

/** The trail that the main process writes; `isKept`: whether there is one. */
export function remoteAudit(link: Link<MainCalls>, isKept: boolean): Audit {
  if (!isKept) return NO_AUDIT
  return {
    write: (kind, facts) => link.ask('write', kind, facts),
    note: (kind, facts) => link.tell('note', kind, facts),
    // Asked of the main process, which has the trail.
    state: () => undefined,
    close: async () => {},
  }
}
