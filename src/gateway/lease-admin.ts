import type { LeaseFacts } from '../admin/managed.ts'
import { printable } from '../protocol/strings.ts'
import type { Lease } from '../sharing/leases.ts'

/** A lease as those who run the gateway see it. */
export function leaseFacts({ export: name, mode, who, peer, access, sinceMs, sessions }: Lease): LeaseFacts {
  const since = new Date(sinceMs).toISOString()
  return { export: printable(name), sharing: mode, holder: who, peer, access, since, sessions }
}

/** Ends the sessions of those who hold an export, or of the one that is named; resolves when their leases are free. */
export async function releaseLease(
  leases: readonly Lease[],
  name: string,
  holder: string | undefined,
  end: (conns: readonly number[]) => Promise<void>,
): Promise<number> {
  const meant = leases.filter(each => printable(each.export) === name && (holder === undefined || each.who === holder))
  await end(meant.flatMap(each => each.sessions))
  return meant.length
}
