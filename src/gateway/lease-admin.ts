import type { LeaseFacts, WaitingFacts } from '../admin/managed.ts'
import { printable } from '../protocol/strings.ts'
import type { Lease, Leases, Waiter } from '../sharing/leases.ts'

/** A lease as those who run the gateway see it. */
export function leaseFacts({ export: name, mode, who, peer, access, sinceMs, sessions, gateway }: Lease): LeaseFacts {
  const since = new Date(sinceMs).toISOString()
  const facts = { export: printable(name), sharing: mode, holder: who, peer, access, since, sessions }
  return gateway === undefined ? facts : { ...facts, gateway }
}

/** A visitor that waits for its place as those who run the gateway see it. */
export function waitingFacts({
  claim: { session, export: name, mode, who, peer, access },
  sinceMs,
}: Waiter): WaitingFacts {
  return {
    id: session,
    export: printable(name),
    sharing: mode,
    who,
    peer,
    access,
    since: new Date(sinceMs).toISOString(),
  }
}

/**
 * Ends the sessions of those who hold an export, or of the one that is named, here and on other gateways; resolves when
 * their leases are free.
 */
export async function releaseLease(
  leases: Leases,
  name: string,
  holder: string | undefined,
  end: (conns: readonly number[]) => Promise<void>,
): Promise<number> {
  const isMeant = (each: string): boolean => printable(each) === name
  const own = leases.list().filter(({ export: each, who, gateway }) => {
    return gateway === undefined && isMeant(each) && (holder === undefined || who === holder)
  })
  const here = end(own.flatMap(each => each.sessions))
  const [elsewhere] = await Promise.all([leases.evict(isMeant, holder), here])
  return own.length + elsewhere
}
