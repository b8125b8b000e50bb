/** What a peer did wrong on the wire. Stable: logs, metrics and tests decide on it. */
export type ProtocolErrorCode =
  | 'BAD_ADDRESS'
  | 'BAD_CHECKSUM'
  | 'BAD_MAGIC'
  | 'BAD_FLAGS'
  | 'BAD_LENGTH'
  | 'BAD_REPLY'
  | 'BAD_STRING'
  | 'TOO_LONG'
  | 'TOO_MANY_OPTIONS'
  | 'TRUNCATED'
  | 'UNEXPECTED_DATA'
  | 'UNKNOWN_COOKIE'

/** The peer broke a rule of the protocol in a way that no reply can mend: the connection ends. */
export class ProtocolError extends Error {
  readonly code: ProtocolErrorCode

  /** The message is for the log; it holds facts of framing, never payload. */
  constructor(code: ProtocolErrorCode, message: string) {
    super(message)
    this.name = 'ProtocolError'
    this.code = code
  }
}
