import { ProtocolError } from '../protocol/errors.ts'

/** How a session's transmission phase ended. */
export type RelayEnd =
  /** The client said DISC, or ended its direction between two requests; all replies were sent. */
  | { readonly kind: 'disconnected' }
  /** The client went away without a word. */
  | { readonly kind: 'client gone'; readonly error?: Error | undefined }
  /** The upstream went away, and did not come back where that was waited for. */
  | { readonly kind: 'upstream gone'; readonly error?: Error | undefined }
  /** A side broke the protocol. */
  | { readonly kind: 'violation'; readonly side: 'client' | 'upstream'; readonly error: ProtocolError }
  /** Somebody asked for the end. */
  | { readonly kind: 'stopped'; readonly reason: string }

/** The upstream has closed, or has been closed over what it sent. */
export function upstreamEnd(error: Error | undefined): RelayEnd {
  return error instanceof ProtocolError
    ? { kind: 'violation', side: 'upstream', error }
    : { kind: 'upstream gone', error }
}

/** The client has closed, or has been closed over what it sent; to leave in the middle of a request is only to be gone. */
export function clientEnd(error: Error | undefined): RelayEnd {
  const isWrong = error instanceof ProtocolError && error.code !== 'TRUNCATED'
  return isWrong ? { kind: 'violation', side: 'client', error } : { kind: 'client gone', error }
}
