import type { SharingMode } from '../config/config.ts'
import type { GatewayEvent } from '../observe/event-feed.ts'
import type { MetricFamily } from '../observe/metric-family.ts'
import type { RegionFacts } from '../observe/region-counts.ts'
import type { ExportTraffic } from '../observe/session-meters.ts'
import type { Explanation } from '../policy/explain.ts'

/** A session as those who run the gateway see it. */
export interface SessionFacts {
  /** The `conn` of its log lines. */
  readonly id: number
  readonly peer: string
  /** The balancer that has passed it on. */
  readonly via?: string | undefined
  readonly who: string
  readonly door: string
  readonly export: string
  readonly rights: 'read' | 'write'
  /** Its lease; `none` for who may only look on beside whoever has it. */
  readonly lease: 'read' | 'write' | 'none'
  /** What granted them: `nbdgate.yaml:34`. */
  readonly rule: string
  /** When its transmission phase began, ISO 8601. */
  readonly since: string
  readonly reads: number
  readonly writes: number
  readonly flushes: number
  readonly others: number
  readonly refused: number
  readonly bytesRead: number
  readonly bytesWritten: number
  /** Requests that the upstream has not answered. */
  readonly inFlight: number
  /** Its upstream is away: what it asks for waits until that is back. */
  readonly upstreamLost: boolean
  /** Which of the workers it runs in, from 1; absent where there are none. */
  readonly worker?: number
}

/** What the rules say of a session. */
export interface SessionExplanation extends Explanation {
  /** Of its export: where it is `read-only` nobody writes, whatever the rules say. Undefined if the export is gone. */
  readonly sharing: SharingMode | undefined
}

/** Who is on an export. */
export interface LeaseFacts {
  readonly export: string
  /** `sharing` of the export. */
  readonly sharing: string
  readonly holder: string
  /** Where its oldest session comes from. */
  readonly peer: string
  readonly access: 'read' | 'write'
  /** ISO 8601. */
  readonly since: string
  /** Those of this gateway, by their `id`, the oldest first. */
  readonly sessions: readonly number[]
  /** The gateway that it is held through; absent: this one. */
  readonly gateway?: string
}

/** What `prepare` has made, or a server that runs: for a connection, an identity or an export. */
export interface OverlayFacts {
  readonly id: string
  readonly export: string
  readonly who: string
  readonly per: 'connection' | 'identity' | 'export'
  /** ISO 8601. */
  readonly since: string
  /** When the last of its connections has ended; now while there are some. */
  readonly used: string
  /** It does not age. */
  readonly kept: boolean
  /** Connections that it is for: `id` of sessions, and others that haggle. */
  readonly sessions: readonly number[]
  /** The file that `{overlay}` names, whether there is one or not. */
  readonly overlay: string
  /** On disk; undefined without a file there. */
  readonly bytes: number | undefined
  /** Of the server that runs for it. */
  readonly pid: number | undefined
}

/** What came of an order to remove an overlay. */
export type OverlayRemoval = 'removed' | 'unknown' | 'in use'

/** A visitor that waits until an export is free. */
export interface WaitingFacts {
  /** The `conn` of its log lines; if it gets its place, the `id` of its session. */
  readonly id: number
  readonly export: string
  readonly sharing: string
  readonly who: string
  readonly peer: string
  readonly access: 'read' | 'write'
  /** ISO 8601. */
  readonly since: string
}

/** A file with certificates or revocation lists that the configuration names. */
export interface CertificateFacts {
  readonly use: 'server' | 'client-ca' | 'crl' | 'upstream-client' | 'upstream-ca'
  readonly file: string
  /** When the first in it ends, ISO 8601; undefined: never, or it can not be read. */
  readonly ends: string | undefined
  /** `soon`: within a week. */
  readonly state: 'good' | 'soon' | 'over' | 'unreadable'
}

/** The gateway itself. */
export interface GatewayFacts {
  readonly version: string
  readonly node: string
  /** When it started, ISO 8601. */
  readonly since: string
  /** Processes that sessions run in; 0: they run in the main process. */
  readonly workers: number
  readonly doors: readonly { readonly kind: string; readonly address: string }[]
  readonly draining: boolean
  /** From accept to close, and how many there may be. */
  readonly connections: number
  readonly connectionsLimit: number
  readonly lastReload: 'reloaded' | 'failed' | undefined
  /** Nothing can be written to the audit trail. */
  readonly auditFailing: boolean
}

/** An export as it is configured, and what is going on there. */
export interface ExportFacts {
  readonly name: string
  /** An upstream lists it; it is not written down. */
  readonly listed: boolean
  readonly description: string | undefined
  /** Where it leads, without anything secret: `nbd://127.0.0.1:10810/disk`, `file:/srv/disk.img`. */
  readonly upstream: string
  /** Whether the upstream answered when it was asked last; `unknown`: nobody has asked, or there is no way to ask. */
  readonly upstreamState: 'up' | 'down' | 'unknown'
  /** Undefined: all. */
  readonly doors: readonly string[] | undefined
  readonly sharing: string
  /** By their `id`, the oldest first. */
  readonly sessions: readonly number[]
  readonly leases: readonly LeaseFacts[]
  /** Since the gateway has started. */
  readonly bytesRead: number
  readonly bytesWritten: number
}

/** Something that has to be so for the gateway to be of use; `problems`: a sentence for each thing that is not. */
export interface ReadinessCheck {
  readonly name: 'doors' | 'upstreams' | 'certificates' | 'audit trail'
  readonly problems: readonly string[]
}

/** What came of a reload. */
export type ReloadResult =
  | { readonly kind: 'reloaded'; readonly sessionsEnded: number }
  /** All stays as it was; one `file:line:col: message`, or sentence, for each thing that is wrong. */
  | { readonly kind: 'failed'; readonly problems: readonly string[] }

/** What can be seen of the gateway. */
export interface Observed {
  /** In transmission phase now, the oldest first. */
  sessions(): Promise<readonly SessionFacts[]>
  /** What the rules say of one of them now; undefined if there is none of this number. */
  explain(id: number): Promise<SessionExplanation | undefined>
  /** The oldest first. */
  leases(): readonly LeaseFacts[]
  /** What was made for sessions, the oldest first. */
  overlays(): Promise<readonly OverlayFacts[]>
  /** In the order of the configuration; those that upstreams list come last. */
  exports(): Promise<readonly ExportFacts[]>
  /** The metrics of each of its processes. */
  metrics(): Promise<readonly (readonly MetricFamily[])[]>
  /** What has to be so to serve these exports; without names all of them. */
  readiness(names?: readonly string[]): Promise<readonly ReadinessCheck[]>
  /** Undefined while the gateway starts. */
  about(): GatewayFacts | undefined
  /** What has passed since the gateway has started, as `exports`; of those that upstreams list, what is or was in use. */
  traffic(): Promise<readonly ExportTraffic[]>
  /** Which regions of an export are asked for; counted from the first question on. Undefined: there is no such export. */
  regions(name: string): Promise<RegionFacts | undefined>
  /** The oldest first. */
  waiting(): readonly WaitingFacts[]
  /** The last ones, the newest first. */
  refusals(): readonly GatewayEvent[]
  /** Looked at every half minute at most. */
  certificates(): readonly CertificateFacts[]
  /** Tells of all that happens from now on; returns what ends that. */
  listen(listener: (event: GatewayEvent) => void): () => void
}

/** What the admin socket can ask of the gateway. */
export interface Managed extends Observed {
  /** Ends one; false if there is none of this number. */
  kick(id: number): Promise<boolean>
  /** Ends the sessions of an export's holders, or of one, and waits until their leases are free; how many there were. */
  releaseLease(name: string, holder: string | undefined): Promise<number>
  /** Takes one apart that nobody uses; resolves when nothing of it is left. */
  removeOverlay(id: string): Promise<OverlayRemoval>
  /** Whether one ages; false if there is none of this name. */
  keepOverlay(id: string, isKept: boolean): Promise<boolean>
  reload(): Promise<ReloadResult>
  /** Lets nobody in any more, and ends the process when the last session has. */
  drain(): void
}
