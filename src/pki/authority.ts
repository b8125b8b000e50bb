// An authority that exists already: ours or one that another program made.
import { createHash, createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { type Der, decodeDer, members } from './der.ts'
import { PkiError } from './errors.ts'
import type { KeyedCertificate } from './files.ts'

/** An authority that is ready to sign. */
export interface OpenAuthority {
  readonly key: KeyObject
  /** Its name, as it must stand in what it issues. */
  readonly subject: Der
  readonly keyIdentifier: Uint8Array
  readonly notAfter: Date
}

// forge decodes an OID's content; 2.5.29.14 (subjectKeyIdentifier) is 55 1d 0e.
const SUBJECT_KEY_IDENTIFIER = '\x55\x1d\x0e'

/** Opens an authority for signing at a moment in time. Throws PkiError if key and certificate can not issue anything then. */
export function openAuthority(authority: KeyedCertificate, now: Date): OpenAuthority {
  const { certificate, key } = readAuthority(authority)
  const notAfter = new Date(certificate.validTo)
  if (!certificate.checkPrivateKey(key)) throw unfit('its key does not match its certificate')
  if (!certificate.ca) throw unfit('its certificate is not a CA certificate')
  if (notAfter <= now) throw unfit(`its certificate expired on ${notAfter.toISOString()}`)
  // TBSCertificate: [0] version, serialNumber, signature, issuer, validity, subject, ... A CA is always v3.
  const tbs = members(members(decodeDer(certificate.raw))[0])
  const subject = tbs[5]
  if (subject === undefined || tbs.length < 8) throw unfit('its certificate is not of version 3')
  return { key, subject, keyIdentifier: keyIdentifierOf(tbs, certificate), notAfter }
}

function readAuthority(authority: KeyedCertificate): { certificate: X509Certificate; key: KeyObject } {
  try {
    return {
      certificate: new X509Certificate(authority.certificatePem),
      key: createPrivateKey(authority.privateKeyPem),
    }
  } catch (cause) {
    throw new PkiError('NO_AUTHORITY', 'the authority can not be used: its certificate or key is not readable PEM', {
      cause,
    })
  }
}

function keyIdentifierOf(tbs: readonly Der[], certificate: X509Certificate): Uint8Array {
  for (const item of members(members(tbs.at(-1))[0])) {
    const [oid, ...rest] = members(item)
    const wrapped = rest.at(-1)?.value
    if (oid?.value !== SUBJECT_KEY_IDENTIFIER || typeof wrapped !== 'string') continue
    const { value } = decodeDer(Buffer.from(wrapped, 'latin1')) // an OCTET STRING inside the extension's own
    if (typeof value === 'string') return Buffer.from(value, 'latin1')
  }
  // Without one of its own, any stable name will do: nobody compares it.
  return createHash('sha256').update(certificate.raw).digest().subarray(0, 20)
}

function unfit(why: string): PkiError {
  return new PkiError('NO_AUTHORITY', `the authority can not be used: ${why}`)
}
