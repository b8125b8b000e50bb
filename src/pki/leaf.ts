// Signs certificates for servers and clients, and puts the chain below them. Loads node-forge.
import { X509Certificate } from 'node:crypto'
import { openAuthority } from './authority.ts'
import { type CertificateContent, signCertificate, toPem } from './certificate.ts'
import type { KeyedCertificate } from './files.ts'
import { signerOf } from './key-pair.ts'

/** All of a leaf but what its authority adds. It never outlives its authority, whatever `notAfter` says. */
export type LeafContent = Omit<CertificateContent, 'issuer' | 'issuerKeyIdentifier' | 'pathLength'>

/** PEM of the leaf, and of the intermediate authorities below it. Throws PkiError if the authority is unfit. */
export function signLeaf(authority: KeyedCertificate, content: LeafContent, now: Date): string {
  const issuer = openAuthority(authority, now)
  const notAfter = content.notAfter < issuer.notAfter ? content.notAfter : issuer.notAfter
  const der = signCertificate(
    { ...content, notAfter, issuer: issuer.subject, issuerKeyIdentifier: issuer.keyIdentifier },
    signerOf(issuer.key),
  )
  return toPem('CERTIFICATE', der) + intermediatesOf(authority.certificatePem)
}

/** An authority that is itself certified has the chain up to the root behind it; the root, who verifies must have already. */
function intermediatesOf(bundle: string): string {
  const blocks = bundle.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? []
  return blocks
    .filter(block => {
      const certificate = new X509Certificate(block)
      return !certificate.checkIssued(certificate)
    })
    .map(block => `${block}\n`)
    .join('')
}
