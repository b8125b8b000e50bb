/** Why TLS with a visitor did not come about. */
export type TlsErrorReason =
  | 'no certificate'
  | 'unknown CA'
  | 'expired'
  | 'not yet valid'
  | 'revoked'
  | 'CRL expired'
  | 'no CRL'
  | 'wrong purpose'
  | 'certificate refused'
  | 'wrong key'
  | 'handshake failed'
  | 'handshake timeout'
  | 'gone'

/** TLS with a visitor failed: the session ends, since there is no way back to plaintext. */
export class TlsError extends Error {
  readonly code = 'TLS'
  readonly reason: TlsErrorReason

  /** `detail` is OpenSSL's word for it. */
  constructor(reason: TlsErrorReason, detail: string, options?: ErrorOptions) {
    super(`${reason}: ${detail}`, options)
    this.name = 'TlsError'
    this.reason = reason
  }
}

/** A door could not be opened: the gateway does not start. The message names the door. */
export class DoorError extends Error {
  readonly code = 'DOOR'

  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'DoorError'
  }
}
