/**
 * Leases: who is on which export now, and who may join. A lease belongs to a holder, which is one identity with all its
 * sessions. Whoever keeps them, in memory or elsewhere, keeps to this interface and passes its tests.
 *
 * Not here: who may use an export at all (policy/), and what the relay does with the answer.
 */
import type { SharingMode } from '../config/config.ts'
import { printable } from '../protocol/strings.ts'
import type { Term } from './fence.ts'
import type { Access } from './modes.ts'

/** What one session wants of an export. */
export interface Claim {
  /** Names the session; it has one claim at most. */
  readonly session: number
  readonly export: string
  readonly mode: SharingMode
  readonly access: Access
  /** What tells one holder from another. */
  readonly holder: string
  /** The same for people, and where the session comes from. */
  readonly who: string
  readonly peer: string
}

/** A lease: one holder on one export. */
export interface Lease {
  readonly export: string
  readonly mode: SharingMode
  readonly holder: string
  readonly who: string
  /** Where its oldest session comes from. */
  readonly peer: string
  /** `write` if one of its sessions may. */
  readonly access: Access
  /** Since when, in milliseconds of the epoch. */
  readonly sinceMs: number
  /** Those of this gateway. */
  readonly sessions: readonly number[]
  /** The gateway that it is held through; undefined: this one. */
  readonly gateway?: string | undefined
}

/** Whether a claim is granted. */
export type ClaimAnswer =
  /**
   * `others`: the holder's sessions that were there before. `term`: how long it lasts if nobody says more; without it, as
   * long as the session. `epoch`: grows with each holder of the export.
   */
  | { readonly kind: 'held'; readonly others: readonly number[]; readonly term?: Term; readonly epoch?: number }
  /** By whom it is not. */
  | { readonly kind: 'busy'; readonly by: Lease }
  /** Nobody can tell who else is there. */
  | { readonly kind: 'unavailable'; readonly why: string }

/** A session that another mode has no place for. */
export interface Misfit {
  readonly session: number
  readonly by: Lease
}

/** A session that waits for its place. */
export interface Waiter {
  readonly claim: Claim
  /** In milliseconds of the epoch. */
  readonly sinceMs: number
}

/** How long to wait for a place; `signal`: nobody waits any more. */
export interface Patience {
  readonly ms: number
  readonly signal: AbortSignal
}

export interface Leases {
  /**
   * Takes a lease, or joins the holder's own. Waits for a place as long as `patience` says, the first to come first; and
   * whatever it says for those who are leaving. Each `held` is followed by one `release`.
   */
  acquire(claim: Claim, patience: Patience): Promise<ClaimAnswer>

  /** Resolves when it can be told who else is there, or will not be soon. */
  begun(): Promise<void>

  /** A session has this already, through another process of this gateway. */
  restore(claim: Claim, sinceMs: number): void

  /** What `acquire` would answer now to somebody without patience. */
  look(claim: Claim): Promise<ClaimAnswer>

  /** The session has begun to end: it asks for nothing any more, and what it has asked for is being done. */
  leaving(session: number): void

  /** Nothing of the session can reach the export any more. A session without a claim is left alone. */
  release(session: number): void

  /** Nobody is to wait any more: says no to all who do. */
  dismiss(): void

  /** All that is held, the oldest first. */
  list(): readonly Lease[]

  /** Those of this gateway who wait for a place, the oldest first. */
  waiting(): readonly Waiter[]

  /**
   * Puts exports under other modes (undefined: it is gone, and all may stay), and says which sessions have no place in
   * theirs: of holders that exclude each other the oldest stays.
   */
  adopt(modeOf: (name: string) => SharingMode | undefined): readonly Misfit[]

  /**
   * Has other gateways end what is held of an export through them, by one holder (`who`) or by all; resolves when that is
   * free; how many there were. `isMeant`: whether a name is the export's.
   */
  evict(isMeant: (name: string) => boolean, who: string | undefined): Promise<number>

  /** Gives back what is still held, and ends. To be called when no session is left. */
  close(): Promise<void>
}

/** Who has to know what becomes of leases that are held. */
export interface LeaseListener {
  /** A term lasts longer: all leases with its id. */
  extended(term: Term): void
  /** A term is over, whatever it said. */
  ended(id: string, why: string): void
  /** These sessions have lost their leases. */
  lost(sessions: readonly number[], why: string): void
  /** Resolves when no write that these sessions have been sent up to now can still land. */
  settle(sessions: readonly number[]): Promise<void>
  /** Ends these sessions; resolves when they have. */
  release(sessions: readonly number[]): Promise<void>
}

/** A sentence about a lease for somebody who may use the export: who, since when, from where. */
export function busyMessage({ who, peer, access, sinceMs, gateway }: Lease): string {
  const use = access === 'write' ? 'for writing' : 'for reading'
  const through = gateway === undefined ? '' : ` through the gateway ${gateway}`
  const since = new Date(sinceMs).toISOString()
  return printable(`this export is in use ${use} by ${who} from ${peer}${through} since ${since}`, 1024)
}
