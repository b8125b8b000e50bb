/** What is wrong with an audit trail. */
export type AuditErrorCode =
  /** Another process writes it. */
  | 'LOCKED'
  /** Its end is no record that can be continued. */
  | 'CORRUPT'
  /** Somebody else has written to it since we did. */
  | 'CHANGED'
  /** The system refused; the cause says why. */
  | 'WRITE'
  /** A seal or its key can not be used. */
  | 'SEAL'

/** An audit trail that can not be written or read. */
export class AuditError extends Error {
  readonly code: AuditErrorCode

  constructor(code: AuditErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'AuditError'
    this.code = code
  }
}
