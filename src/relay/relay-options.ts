import type { ExportMeter } from '../observe/export-meter.ts'
import type { ByteStream } from '../stream/byte-stream.ts'
import type { ContextIds } from './block-status.ts'
import type { ReplyKinds } from './replies.ts'
import type { RangeGuard } from './requests.ts'
import type { Resuming } from './resumer.ts'
import type { SessionMemory } from './session-memory.ts'
import type { Throttle } from './throttle.ts'

/** What a relay is made of. */
export interface RelayOptions {
  readonly client: ByteStream
  readonly upstream: ByteStream
  readonly sizeBytes: bigint
  /** Transmission flags as the client was told them. */
  readonly flags: number
  readonly structured: ReplyKinds
  /** What every offset and length has to be a multiple of; 1 without this. */
  readonly alignment?: number | undefined
  /** What holds the client's requests back. */
  readonly throttle: Throttle
  /** What the client sent ahead of the answer to GO. */
  readonly early: Buffer
  readonly guard?: RangeGuard | undefined
  /** Once it is on, requests are refused with ESHUTDOWN. */
  readonly shutdown?: { readonly isOn: boolean } | undefined
  /** The metadata contexts that were negotiated: the upstream's ids, and the client's. */
  readonly contextIds?: ContextIds | undefined
  /** Counts for the export. */
  readonly meter?: ExportMeter | undefined
  /** Called once when the client will ask for nothing more; what it has asked for may still be on its way. */
  readonly leaving?: (() => void) | undefined
  /** How it goes on when the upstream has died; without it the session ends then. */
  readonly resume?: Resuming | undefined
  /** What it may hold. */
  readonly memory: SessionMemory
}
