/** What went wrong on the way out. Stable: logs, metrics and tests decide on it. */
export type UpstreamErrorCode =
  /** It could not be reached: refused connection, unknown name, missing file. */
  | 'DIAL'
  /** It was reached, and negotiation or TLS failed. */
  | 'HANDSHAKE'
  /** It said no, or what is there can not be an export. */
  | 'REFUSED'
  /** It went away in the middle of a session. */
  | 'LOST'

/** An upstream can not be used, or not any more: the session ends. */
export class UpstreamError extends Error {
  readonly code: UpstreamErrorCode

  /** The message is for the log, not for the visitor: it may name addresses and paths. */
  constructor(code: UpstreamErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'UpstreamError'
    this.code = code
  }
}
