/** Why etcd could not be asked. */
export type EtcdErrorCode =
  /** Nobody answered, or not with TLS that we trust, or in time. */
  | 'UNREACHABLE'
  /** It has said that it can not now: no leader, overloaded, or out of space. */
  | 'UNAVAILABLE'
  /** It does not take our name, or our name may not. */
  | 'DENIED'
  /** It is not the cluster that it was. */
  | 'ANOTHER_CLUSTER'
  /** It has forgotten what it knew. */
  | 'GONE_BACK'
  /** It has said something that etcd does not say. */
  | 'MALFORMED'

/** A question to etcd that has no answer. */
export class EtcdError extends Error {
  override readonly name = 'EtcdError'
  readonly code: EtcdErrorCode

  constructor(code: EtcdErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
