/** Why something could not be made ready. Stable: what the visitor is told goes by it. */
export type PreparingErrorCode =
  /** `prepare` has failed, or did not end in time. */
  | 'PREPARE'
  /** The server does not start, or does not listen. */
  | 'SPAWN'
  /** What has to survive a crash can not be written down. */
  | 'STATE'
  /** Another gateway on the same state folder has it. */
  | 'LOCKED'
  /** Nobody was there any more who wanted it; nothing was begun. */
  | 'UNWANTED'

/** An export is not ready. The message is for the log. */
export class PreparingError extends Error {
  readonly code: PreparingErrorCode

  constructor(code: PreparingErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'PreparingError'
    this.code = code
  }
}
