import type { Rep } from '../protocol/constants.ts'
import type { BlockSize } from '../protocol/info.ts'
import type { Wire } from '../stream/wire.ts'

/** One line of LIST. */
export interface ListEntry {
  readonly name: string
  readonly description?: string | undefined
}

/** An export that the visitor may have, as its upstream describes it. */
export interface Opened extends ListEntry {
  /** At most 2^63 − 1. */
  readonly sizeBytes: bigint
  /** Transmission flags, cut to what was granted. */
  readonly flags: number
  readonly blockSize: BlockSize
  /** Names of the metadata contexts that the wants' queries have found; the client's id of each is its place here. */
  readonly contexts: readonly string[]
}

/** A no that the haggling goes on after. */
export interface Refusal {
  readonly kind: 'refused'
  /** One of NBD_REP_ERR_*. */
  readonly reply: Rep
  /** For the person at the client; says nothing that the visitor may not know. */
  readonly message: string
  /** What the client has to ask for and keep to: told ahead of ERR_BLOCK_SIZE_REQD. */
  readonly blockSize?: BlockSize | undefined
}

/**
 * Which metadata contexts are wanted of an export. `list`: tell which ones there are. `select`: BLOCK_STATUS is to report
 * on those that are found. `keep`: on exactly these, of which the client was told before.
 */
export interface ContextWants {
  readonly how: 'list' | 'select' | 'keep'
  readonly queries: readonly string[]
}

/** What an export is opened for. */
export interface Wants {
  /** The client negotiated structured replies. */
  readonly structuredReplies: boolean
  /** And extended headers. */
  readonly extendedHeaders: boolean
  readonly contexts: ContextWants
  /** The client has asked for block sizes, and so will keep to them. */
  readonly blockSize: boolean
  /** GO or EXPORT_NAME: the transmission phase follows. INFO: nothing does. */
  readonly enter: boolean
  /** Aborted when the client has gone: nobody waits for the answer. */
  readonly gone: AbortSignal
}

/** Whoever answers for exports and TLS while the server's half of the handshake haggles. */
export interface Host<Export extends Opened> {
  /** NOTLS, FORCEDTLS, SELECTIVETLS of proto.md, "TLS support". */
  readonly tls: 'none' | 'forced' | 'selective'

  /** The server is about to go: nothing comes of haggling any more. */
  isShuttingDown?(): boolean

  /** The exports that the visitor may use. */
  list(): Promise<readonly ListEntry[]>

  /** Makes an export ready, or says no: for INFO, GO and EXPORT_NAME by the same rules. */
  open(name: string, wants: Wants): Promise<Export | Refusal>

  /** Upgrades to TLS, after the ACK has been written. @throws TlsError */
  secure(wire: Wire): Promise<Wire>
}

/** Whether an answer of open() is a no. */
export function isRefusal(answer: Opened | Refusal): answer is Refusal {
  return 'kind' in answer && answer.kind === 'refused'
}
