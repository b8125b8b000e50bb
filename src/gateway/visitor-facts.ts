import type { Secured, Visitor } from '../doors/door.ts'
import type { Identity } from '../policy/identity.ts'
import type { ProxiedClient } from '../protocol/proxy-facts.ts'

/** An identity as logs tell of it beside its name. */
export function identityFacts({ certificate, ssh }: Identity): Record<string, unknown> {
  return {
    ...(certificate === undefined ? {} : { serial: certificate.serial, fingerprint: certificate.fingerprint }),
    ...(ssh === undefined ? {} : { key: ssh.key, ...(ssh.keyId === undefined ? {} : { certificate: ssh.keyId }) }),
  }
}

/** A visitor as an upstream is told of it. */
export function proxiedClient({ endpoints }: Visitor, secured: Secured | undefined): ProxiedClient {
  if (secured === undefined) return { endpoints }
  const { version, suite, certificate } = secured
  const tls = { version, cipher: suite, certificate: certificate && { commonName: certificate.commonNames[0] } }
  return { endpoints, tls }
}
