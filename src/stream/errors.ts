/** Why a stream could not be used any more. */
export type StreamErrorCode = 'CLOSED' | 'TIMEOUT'

/** The peer went away (CLOSED: a goodbye, not a fault) or kept us waiting for too long (TIMEOUT). */
export class StreamError extends Error {
  readonly code: StreamErrorCode

  constructor(code: StreamErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'StreamError'
    this.code = code
  }
}
