import type { X509Certificate } from 'node:crypto'
import { type CertificateFacts, certificateFacts } from './certificate-facts.ts'

/** Certificates whose facts are remembered; clients that come back again and again are rarely more. */
const MAX_CERTIFICATES = 1024

/**
 * Remembers what certificates say of their owners, for those who come often. The facts are of the bytes of a certificate
 * alone. Whether it is good is asked anew each time, elsewhere.
 */
export class FactsCache {
  readonly #known = new Map<string, CertificateFacts>()

  /** Throws as certificateFacts does, and then remembers nothing. */
  factsOf(certificate: X509Certificate): CertificateFacts {
    // SHA-256 of the DER.
    const key = certificate.fingerprint256
    const known = this.#known.get(key)
    if (known !== undefined) return known
    const facts = certificateFacts(certificate)
    if (this.#known.size >= MAX_CERTIFICATES) this.#known.clear()
    this.#known.set(key, facts)
    return facts
  }
}
