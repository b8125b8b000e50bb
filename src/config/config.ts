/**
 * What a checked configuration is, for the layers above: plain data, nothing of YAML or zod in it.
 */

import type { Cidr } from './cidr.ts'
import type { UpstreamUri } from './upstream-uri.ts'

/** A configuration that was checked: defaults filled in, paths absolute, times in milliseconds. */
export interface Config {
  /** The file that it came from, absolute. */
  readonly file: string
  /** Folder for what has to survive a restart. */
  readonly state?: string
  readonly log: LogConfig
  /** At least one. */
  readonly doors: readonly DoorConfig[]
  /** Names are unique. */
  readonly exports: readonly ExportConfig[]
  readonly limits: LimitsConfig
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
  /** From accept to the transmission phase; never 0. */
  readonly negotiationMs: number
  /** Without any request; 0 means no limit. */
  readonly idleMs: number
}

/** One door. `source` is where it is written: `nbdgate.yaml:12`. */
export type DoorConfig = TlsDoorConfig | TcpDoorConfig | UnixDoorConfig

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
  readonly source: string
}

/** NBD without encryption, for the networks in `from` only (at least one). */
export interface TcpDoorConfig {
  readonly kind: 'tcp'
  readonly host: string
  readonly port: number
  readonly from: readonly Cidr[]
  readonly source: string
}

/** NBD on a Unix socket; `mode` are the permission bits, 0o660 for example. */
export interface UnixDoorConfig {
  readonly kind: 'unix'
  readonly path: string
  readonly mode: number
  readonly source: string
}

/** One export. Its rules are still text here: policy/ compiles them. */
export interface ExportConfig {
  /** At most 4096 bytes of UTF-8 without NUL; the empty name is the default export. */
  readonly name: string
  readonly description?: string
  readonly upstream: UpstreamConfig
  readonly allow: readonly AllowRuleConfig[]
  readonly deny: readonly DenyRuleConfig[]
  /** Absent: every door. */
  readonly doors?: readonly DoorConfig['kind'][]
  readonly limits: { readonly sessions?: number }
  readonly source: string
}

/** All of `who` (at least one) must hold. `untilMs`: milliseconds of the epoch. */
export interface AllowRuleConfig {
  readonly who: readonly string[]
  readonly rights: 'read' | 'write'
  readonly untilMs?: number
  readonly source: string
}

/** All of `who` (at least one) must hold. */
export interface DenyRuleConfig {
  readonly who: readonly string[]
  readonly source: string
}

/** What is behind an export: an NBD server, or a file or block device. */
export type UpstreamConfig = (UpstreamUri & UpstreamMaterial) | { readonly kind: 'file'; readonly path: string }

/** For TLS only: paths of PEM files. `cert` and `key` come together. */
export interface UpstreamMaterial {
  readonly ca?: string | undefined
  readonly cert?: string | undefined
  readonly key?: string | undefined
}
