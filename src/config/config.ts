/**
 * What a checked configuration is, for the layers above: plain data, nothing of YAML or zod in it.
 */

import type { Cidr } from './cidr.ts'
import type { MaxStartups } from './startups.ts'
import type { UpstreamUri } from './upstream-uri.ts'
import type { WhenBusy } from './when-busy.ts'

/** A configuration that was checked: defaults filled in, paths absolute, times in milliseconds. */
export interface Config {
  /** The file that it came from, absolute. */
  readonly file: string
  /** Folder for what has to survive a restart. */
  readonly state?: string
  readonly admin?: AdminConfig
  /** Absent without `state`. */
  readonly audit?: AuditConfig
  readonly log: LogConfig
  /** Processes that sessions run in; 1: this one. */
  readonly workers: number | 'auto'
  /** At least one. */
  readonly doors: readonly DoorConfig[]
  /** Names are unique. */
  readonly exports: readonly ExportConfig[]
  /** Exports that upstreams list. */
  readonly discoveries?: readonly DiscoveryConfig[]
  /** Names are unique. */
  readonly groups: readonly GroupConfig[]
  readonly limits: LimitsConfig
  readonly leases: LeasesConfig
  /** How long the disks of identities are kept behind their last use; absent: for ever. */
  readonly overlays?: { readonly keepMs: number }
}

/** Who keeps the leases. */
export interface LeasesConfig {
  /** How long a visitor may be unreachable before its sessions end. */
  readonly vanishedMs: number
  /** Without it they are in the memory of this gateway alone. */
  readonly etcd?: EtcdConfig
}

/** An etcd cluster that several gateways share. Files are absolute paths. */
export interface EtcdConfig {
  /** Addresses of its members, without a slash at the end. */
  readonly endpoints: readonly string[]
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
  readonly login?: { readonly user: string; readonly passwordFile: string }
  readonly ttlMs: number
  /** What all keys begin with. */
  readonly prefix: string
  /** This gateway's name for the others. */
  readonly name: string
}

/** The admin socket, and where the gateway can be looked at over HTTP; at least one of them. */
export interface AdminConfig {
  readonly socket?: string
  /** Without `tokenFile` on loopback only. Port 0: any free one. */
  readonly http?: { readonly host: string; readonly port: number; readonly tokenFile?: string }
}

/** What to do when the trail can not be written, and the size at which a file is followed by a new one. */
export interface AuditConfig {
  readonly onFailure: 'refuse' | 'warn'
  readonly rotateBytes: number
}

/** How much is logged, and where to: standard error without `file`. */
export interface LogConfig {
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  readonly file?: string
}

/** Limits of the whole gateway. */
export interface LimitsConfig {
  readonly sessions: number
  readonly sessionsPerAddress: number
  /** Absent: as many may be half open as there may be sessions. */
  readonly maxStartups?: MaxStartups
  /** Absent: nothing is held against an address. */
  readonly penalties?: PenaltyRules
  /** From accept to the transmission phase; never 0. */
  readonly negotiationMs: number
  /** Without any request; 0 means no limit. */
  readonly idleMs: number
  /** For sessions to end by themselves. */
  readonly drainMs: number
  /** Payload of requests and replies that the gateway holds, of one session. */
  readonly inFlightBytes: number
  /** The same of all of them. */
  readonly totalInFlightBytes: number
}

/** What a failure costs its address, from when on that keeps it out, and for how long at most (sshd_config(5), PerSourcePenalties). */
export interface PenaltyRules {
  /** Milliseconds by offence. */
  readonly costMs: { readonly authfail: number; readonly 'grace-exceeded': number; readonly invalid: number }
  readonly minMs: number
  readonly maxMs: number
  readonly exempt: readonly Cidr[]
}

/** One door. `source` is where it is written: `nbdgate.yaml:12`; `proxyProtocol` are balancers, not empty; `sessions`: so many at once. */
export type DoorConfig = TlsDoorConfig | SshDoorConfig | TcpDoorConfig | UnixDoorConfig

/** NBD with STARTTLS. Paths of PEM files; without `clientCa` certificates are not asked for. */
export interface TlsDoorConfig {
  readonly kind: 'tls'
  readonly host: string
  /** 0: any free one. */
  readonly port: number
  readonly mode: 'forced' | 'selective'
  readonly cert: string
  readonly key: string
  readonly clientCa?: string
  readonly crl?: string
  readonly psk?: string
  readonly clientCert: 'required' | 'optional'
  readonly proxyProtocol?: readonly Cidr[]
  readonly sessions?: number
  readonly source: string
}

/** NBD inside SSH. Paths; at least one host key, and at least one of `authorizedKeys` and `userCa`. */
export interface SshDoorConfig {
  readonly kind: 'ssh'
  readonly host: string
  readonly port: number
  readonly hostKeys: readonly string[]
  readonly authorizedKeys?: string
  readonly userCa?: string
  readonly revokedKeys?: string
  readonly proxyProtocol?: readonly Cidr[]
  readonly sessions?: number
  readonly source: string
}

/** NBD without encryption, for the networks in `from` only (at least one). */
export interface TcpDoorConfig {
  readonly kind: 'tcp'
  readonly host: string
  readonly port: number
  readonly from: readonly Cidr[]
  readonly proxyProtocol?: readonly Cidr[]
  readonly sessions?: number
  readonly source: string
}

/** NBD on a Unix socket; `mode` are the permission bits, 0o660 for example. */
export interface UnixDoorConfig {
  readonly kind: 'unix'
  readonly path: string
  readonly mode: number
  readonly sessions?: number
  readonly source: string
}

/** One export. Its rules are still text here: policy/ compiles them. */
export interface ExportConfig {
  /** At most 4096 bytes of UTF-8 without NUL; the empty name is the default export. */
  readonly name: string
  readonly description?: string
  readonly upstream: BackendConfig
  /** An upstream lists it; it is not written down. */
  readonly isListed?: boolean
  readonly allow: readonly AllowRuleConfig[]
  readonly deny: readonly DenyRuleConfig[]
  /** Absent: every door. */
  readonly doors?: readonly DoorConfig['kind'][]
  /** For all its sessions together. */
  readonly limits: UseLimits
  readonly sharing: SharingConfig
  /** Present where only LUKS may go out. */
  readonly luks?: LuksConfig
  /** Present where something has to be run before a session. */
  readonly hooks?: HooksConfig
  /** Requests that are not whole blocks of the upstream are made so. */
  readonly align?: true
  /** Absent: sessions end with their upstream. */
  readonly outage?: OutageConfig
  readonly source: string
}

/** Programs of the operator's: lists of arguments, never text for a shell. */
export interface HooksConfig {
  readonly prepare?: readonly string[]
  readonly cleanup?: readonly string[]
  readonly authorize?: readonly string[]
  /** What is prepared once: each connection, each identity, or the export. */
  readonly per: Per
  /** How long each of the programs may take. */
  readonly timeoutMs: number
  /** Where they run: the folder of the configuration. */
  readonly folder: string
}

/** How far what was prepared is shared. */
export type Per = 'connection' | 'identity' | 'export'

/** A server that is asked which exports it has. */
export type ListedUpstream = Exclude<UpstreamConfig, { kind: 'file' }>

/** All exports that an upstream lists, under the same rules. */
export interface DiscoveryConfig extends Omit<ExportConfig, 'name' | 'upstream' | 'isListed'> {
  readonly from: ListedUpstream
  /** Stands in front of the upstream's name. */
  readonly prefix: string
  /** The names that are published, with their prefix; `*` stands for any text. */
  readonly pattern: string
  readonly refreshMs: number
  /** Its place among the file's exports. */
  readonly index: number
}

/** Who may be on an export at once. */
export type SharingMode = 'exclusive' | 'readers-or-writer' | 'single-writer' | 'cluster' | 'read-only'

/** Who may be on an export at once, what comes of one more, and what counts as one. */
export interface SharingConfig {
  readonly mode: SharingMode
  readonly whenBusy: WhenBusy
  readonly holder: 'identity' | 'identity+address'
}

/** Where the header is, and whether writers may overwrite it. */
export interface LuksConfig {
  readonly atBytes: number
  readonly mayFormat: boolean
}

/** What becomes of sessions whose upstream dies. */
export interface OutageConfig {
  /** How long it is tried to get it back; 0: not at all. */
  readonly reconnectMs: number
  /** Bytes of acknowledged writes that are kept until they are flushed, to be made again. */
  readonly replayBytes: number
}

/** How much use may be made of an export; what is absent is not limited. */
export interface UseLimits {
  readonly sessions?: number | undefined
  /** Bytes of READs a second. */
  readonly read?: number | undefined
  /** Bytes of WRITEs a second. */
  readonly write?: number | undefined
  /** Requests a second. */
  readonly iops?: number | undefined
}

/** All of `who` (at least one) must hold. `untilMs`: milliseconds of the epoch. */
export interface AllowRuleConfig {
  readonly who: readonly string[]
  readonly rights: 'read' | 'write'
  readonly untilMs?: number
  /** For each identity that comes in by this rule. */
  readonly limits?: UseLimits
  readonly source: string
}

/** A named list of who is meant; whoever one of `members` holds for is in it. */
export interface GroupConfig {
  readonly name: string
  readonly members: readonly DenyRuleConfig[]
}

/** All of `who` (at least one) must hold. */
export interface DenyRuleConfig {
  readonly who: readonly string[]
  readonly source: string
}

/** What is behind an export: there already, or made ready for its sessions. */
export type BackendConfig = StandingConfig | SpawnConfig | OverlayConfig

/** A server that is started when it is needed, on a socket that is chosen for it. */
export interface SpawnConfig {
  readonly kind: 'spawn'
  readonly argv: readonly string[]
  /** It gets the listening socket as descriptor 3 (sd_listen_fds(3)). */
  readonly activation: boolean
  /** The export to ask for. */
  readonly export: string
  /** How long it stays when nobody uses it. */
  readonly lingerMs: number
  /** How long it may take until it listens. */
  readonly startMs: number
}

/** The file that `prepare` makes. */
export interface OverlayConfig {
  readonly kind: 'overlay'
}

/** Servers that lead to the same storage, each tried when the ones before it can not be used. */
export interface WaysConfig {
  readonly kind: 'ways'
  readonly ways: readonly ListedUpstream[]
}

/** What has not to be made ready. */
export type StandingConfig = UpstreamConfig | WaysConfig

/** What is reached as it stands: an NBD server, or a file or block device. */
export type UpstreamConfig =
  | (UpstreamUri & UpstreamMaterial & UpstreamProxy & UpstreamSpread)
  | { readonly kind: 'file'; readonly path: string }

/** Paths: of PEM files for TLS, where `cert` and `key` come together; of a private key and known hosts for SSH. */
export interface UpstreamMaterial {
  readonly ca?: string | undefined
  readonly cert?: string | undefined
  readonly key?: string | undefined
  readonly identity?: string | undefined
  readonly knownHosts?: string | undefined
}

/** By how many connections a session reaches a server; absent: one. */
export interface UpstreamSpread {
  readonly connections?: number | undefined
}

/** Whether a server is told of the client in a PROXY header. */
export interface UpstreamProxy {
  readonly proxyProtocol?: 'v2' | undefined
}
