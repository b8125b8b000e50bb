import type { CertificateFacts } from '../pki/certificate-facts.ts'
import { printable } from '../protocol/strings.ts'
import type { SshFacts } from '../ssh/facts.ts'

/** How a visitor came in. */
export type DoorKind = 'tls' | 'ssh' | 'tcp' | 'unix'

/** What a visitor may do with an export; `write` includes `read`. */
export type Rights = 'read' | 'write'

/** What is known for sure about a visitor. A field is there only if the door has verified it. */
export interface Identity {
  /** The peer's IP address, in any form that the socket gives it. */
  readonly address?: string
  /** The client certificate, if one was presented and its chain holds. */
  readonly certificate?: CertificateFacts
  /** The name of the pre-shared key that the visitor has proved to hold. */
  readonly psk?: string
  /** The SSH login, where there was one. */
  readonly ssh?: SshFacts
  /** User and group of the process at the other end of a Unix socket (unix(7), SO_PEERCRED). */
  readonly uid?: number
  readonly gid?: number
}

/**
 * A short name for log lines, in the words of a `who` rule: `cert:cn=alice`, `psk:bob`, `uid:1000`, `address:10.0.0.7`, or
 * `unknown`. Control characters are escaped. For eyes only: a name decides nothing, two identities can share it.
 */
export function nameOf(identity: Identity): string {
  const { certificate, psk, ssh, uid, address } = identity
  if (certificate !== undefined) return printable(certificateName(certificate))
  if (psk !== undefined) return printable(`psk:${psk}`)
  if (ssh !== undefined) return printable(ssh.user === undefined ? `ssh:key=${ssh.key}` : `ssh:user=${ssh.user}`)
  if (uid !== undefined) return `uid:${uid}`
  return address === undefined ? 'unknown' : printable(`address:${address}`)
}

/** What tells one identity from another, for counting: the strongest fact that is known of it. */
export function keyOf(identity: Identity): string {
  const { certificate, psk, ssh, uid, address } = identity
  if (certificate !== undefined) return `cert ${certificate.fingerprint}`
  if (psk !== undefined) return `psk ${psk}`
  if (ssh !== undefined) return `ssh ${ssh.key} ${ssh.user}`
  return uid === undefined ? `address ${address ?? ''}` : `uid ${uid}`
}

function certificateName(facts: CertificateFacts): string {
  const names: readonly (readonly [string, string | undefined])[] = [
    ['cn', facts.commonNames[0]],
    ['uri', facts.uris[0]],
    ['email', facts.emails[0]],
    ['dns', facts.dnsNames[0]],
  ]
  const [field, value] = names.find(([, text]) => text !== undefined && text !== '') ?? []
  return value === undefined ? `cert:fingerprint=SHA256:${facts.fingerprint}` : `cert:${field}=${value}`
}
