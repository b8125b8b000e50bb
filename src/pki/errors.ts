/** Why key material can not be used. Stable: `check`, logs and tests decide on it. */
export type MaterialErrorCode =
  /** The file is missing or may not be read. */
  | 'UNREADABLE'
  /** What the file holds is not the PEM block it should be, or OpenSSL can not read that block. */
  | 'NOT_PEM'
  /** The private key is protected by a passphrase, and nobody is there to type it. */
  | 'KEY_ENCRYPTED'
  /** The private key belongs to another certificate. */
  | 'KEY_MISMATCH'
  | 'EXPIRED'
  | 'NOT_YET_VALID'
  /** No revocation list of an authority that needs one. */
  | 'NO_CRL'
  /** A certificate that is to vouch for others is not a CA certificate. */
  | 'NOT_A_CA'
  /** A line of a file of pre-shared keys, or all of it. */
  | 'BAD_PSK'
  /** Keys that everybody on the host may read. */
  | 'EXPOSED'
  /** A certificate without its key, or a key without its certificate. */
  | 'INCOMPLETE'

/** Key material can not be used. The message is one sentence that starts with the file (and line); it never quotes the content. */
export class MaterialError extends Error {
  readonly code: MaterialErrorCode
  readonly file: string

  constructor(code: MaterialErrorCode, file: string, message: string, options?: ErrorOptions & { line?: number }) {
    super(`${file}:${options?.line === undefined ? '' : `${options.line}:`} ${message}`, options)
    this.name = 'MaterialError'
    this.code = code
    this.file = file
  }
}

/** Why the small certificate authority did not do what it was asked for. */
export type PkiErrorCode =
  /** A name, address or number that a certificate or a folder can not carry. */
  | 'BAD_NAME'
  /** A file that would have been overwritten. */
  | 'EXISTS'
  /** The authority's certificate or key is missing, does not fit, is no CA or has expired. */
  | 'NO_AUTHORITY'

/** `nbdgate certs` can not go on. The message is one sentence for the operator. */
export class PkiError extends Error {
  readonly code: PkiErrorCode

  constructor(code: PkiErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'PkiError'
    this.code = code
  }
}
