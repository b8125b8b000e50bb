/**
 * Whether a client certificate that OpenSSL accepted in its handshake would still be accepted now, by the authorities and
 * lists of today. For sessions that live on after a reload; nobody gets in by it.
 */
import { X509Certificate } from 'node:crypto'
import { type CrlFacts, readCrl } from './crl.ts'

/** Certificates between a client's and its root, at most. */
const MAX_DEPTH = 16

/** Why a certificate is not trusted any more. */
export type Distrust = 'expired' | 'unknown CA' | 'revoked' | 'certificate refused'

export class Trust {
  readonly #authorities: readonly X509Certificate[]
  readonly #crls: readonly CrlFacts[] | undefined

  /** PEM texts: of all authorities, and of one CRL each. @throws RangeError for what is no CRL */
  constructor(authorities: string, crls: readonly string[] | undefined) {
    const blocks = authorities.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? []
    this.#authorities = blocks.map(block => new X509Certificate(block))
    this.#crls = crls?.map(readCrl)
  }

  /** The reason against a certificate, with the chain that its owner sent as `issuerCertificate`; undefined if there is none. */
  against(certificate: X509Certificate, nowMs: number): Distrust | undefined {
    let current = certificate
    for (let depth = 0; depth < MAX_DEPTH; depth++) {
      if (nowMs >= Date.parse(current.validTo)) return 'expired'
      // OpenSSL wants the chain to end in a root that it knows: an authority that signed itself.
      if (isSelfIssued(current) && this.#knows(current)) return undefined
      const issuer = this.#issuerOf(current)
      if (issuer === undefined) return 'unknown CA'
      const distrust = this.#listed(current, issuer)
      if (distrust !== undefined) return distrust
      current = issuer
    }
    return 'unknown CA'
  }

  #issuerOf(certificate: X509Certificate): X509Certificate | undefined {
    const sent = certificate.issuerCertificate
    const candidates = sent === undefined ? this.#authorities : [...this.#authorities, sent]
    return candidates.find(each => certificate.checkIssued(each) && certificate.verify(each.publicKey))
  }

  #knows(certificate: X509Certificate): boolean {
    return this.#authorities.some(each => each.fingerprint256 === certificate.fingerprint256)
  }

  /** As OpenSSL with CRL_CHECK_ALL: where there are lists, each issuer needs one. */
  #listed(certificate: X509Certificate, issuer: X509Certificate): Distrust | undefined {
    if (this.#crls === undefined) return undefined
    const lists = this.#crls.filter(crl => crl.isSignedBy(issuer.publicKey) === true)
    if (lists.length === 0) return 'certificate refused'
    return lists.some(crl => crl.revoked.has(certificate.serialNumber)) ? 'revoked' : undefined
  }
}

function isSelfIssued(certificate: X509Certificate): boolean {
  return certificate.checkIssued(certificate)
}
