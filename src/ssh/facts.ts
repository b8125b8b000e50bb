/** What is known of a visitor who logged in by SSH. */
export interface SshFacts {
  /** The name that it logged in with; absent where nothing binds the key to it. */
  readonly user?: string
  /** `SHA256:…` of its public key. */
  readonly key: string
  /** Of its certificate; empty without one. */
  readonly principals: readonly string[]
  /** What the certificate is called, and its number. */
  readonly keyId?: string
  readonly serial?: string
}
