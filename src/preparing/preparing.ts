import type { OverlayFacts, OverlayRemoval } from '../admin/managed.ts'
import type { StandingConfig } from '../config/config.ts'
import type { DoorKind, Identity, Rights } from '../policy/identity.ts'

/** A connection that something is asked or made ready for. */
export interface Guest {
  readonly asker: { readonly identity: Identity; readonly door: DoorKind }
  /** Names the session. */
  readonly conn: number
  readonly peer: string
}

/** What `authorize` leaves of what the rules grant. */
export type Verdict =
  | { readonly kind: 'granted'; readonly rights: Rights }
  | { readonly kind: 'refused'; readonly reason: 'authorize'; readonly message: string }

/** What is behind an export, made ready. */
export type Readied =
  | { readonly kind: 'ready'; readonly upstream: StandingConfig }
  | {
      readonly kind: 'refused'
      readonly reason: 'prepare' | 'state' | 'busy' | 'nobody known'
      readonly message: string
    }
  /** The server that should be there does not come up. `problem` is for the log. */
  | { readonly kind: 'down'; readonly problem: string }

/** What sessions ask of those who run programs for them. */
export interface Preparing {
  /** Asks the operator's own program, which can only narrow what is granted. */
  authorize(name: string, guest: Guest, granted: { readonly rights: Rights; readonly rule: string }): Promise<Verdict>

  /**
   * Makes ready what is behind an export; may be asked again by the same connection, when what was ready does not work any
   * more. Followed by one `finish`.
   */
  prepare(name: string, guest: Guest): Promise<Readied>

  /** The connection needs nothing any more; nothing is there for it if it has asked for nothing. */
  finish(conn: number): void
}

/** What was made ready for sessions, as it can be looked at and cleaned up; ids are those of `list`. */
export interface Overlays {
  /** The oldest first. */
  list(): Promise<readonly OverlayFacts[]>
  /** Takes one apart that nobody uses; resolves when nothing of it is left. */
  remove(id: string): Promise<OverlayRemoval>
  /** Whether one ages; false if there is none. Rejects with the error of node:fs. */
  keep(id: string, isKept: boolean): Promise<boolean>
}

/** What another process of the gateway, which was there before, has made ready and still has. */
export interface Legacy {
  readonly overlays: Overlays
  /** As `Preparing.prepare`, but only where something is there that is in use; undefined: nothing is, so it can be made here. */
  prepareKnown(name: string, guest: Guest): Promise<Readied | undefined>
  finish(conn: number): void
  /** Resolves when that process has gone. */
  readonly gone: Promise<void>
}
