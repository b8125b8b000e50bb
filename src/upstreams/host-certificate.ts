/** Certificates of hosts: what @cert-authority in known_hosts lets vouch for a host (PROTOCOL.certkeys, sshd(8)). */
import { type Certificate, decodeCertificate } from '../ssh/certificate.ts'
import { decodePublicKey, verifySignature } from '../ssh/public-key.ts'
import { type HostKeys, judgeHostKey, matchesHostPattern } from './known-hosts.ts'

/** A certificate that may be believed, or why not. */
export type CertificateVerdict =
  | { readonly kind: 'fine'; readonly certificate: Certificate }
  | { readonly kind: 'refused'; readonly why: string }

/** Judges a certificate that `host` has shown, as of now. */
export function judgeHostCertificate(blob: Buffer, keys: HostKeys, host: string, nowMs: number): CertificateVerdict {
  const certificate = decodeCertificate(blob)
  if (certificate === undefined) return { kind: 'refused', why: 'its certificate is malformed' }
  const why = problemOf(certificate, keys, host, nowMs)
  return why === undefined ? { kind: 'fine', certificate } : { kind: 'refused', why: `its certificate ${why}` }
}

function problemOf(certificate: Certificate, keys: HostKeys, host: string, nowMs: number): string | undefined {
  const { isHost, authorityBlob, plainBlob, principals, validAfterMs, validBeforeMs, criticalOptions } = certificate
  if (!isHost) return 'is not the certificate of a host'
  const revoked = keys.revoked.find(({ key }) => key.equals(authorityBlob) || key.equals(plainBlob))
  if (revoked !== undefined) return `is revoked by line ${revoked.line}`
  if (!keys.authorities.some(({ key }) => key.equals(authorityBlob))) {
    // As with OpenSSH, a key that is trusted by itself stays so whoever else has certified it.
    return judgeHostKey(keys, plainBlob).verdict === 'known' ? undefined : 'comes from another authority'
  }
  // One without principals would stand for every host.
  if (!principals.some(name => matchesHostPattern(name, host))) return 'is for other hosts'
  if (nowMs < validAfterMs) return 'is not valid yet'
  if (nowMs >= validBeforeMs) return 'has expired'
  if (criticalOptions.size > 0) return 'has a critical option'
  const authority = decodePublicKey(authorityBlob)
  if (authority === undefined) return 'has an authority whose key is not taken'
  if (!verifySignature(authority, certificate.signed, certificate.signature)) return 'has a wrong signature'
  return undefined
}
