// What the tests of pki/ share: a folder that goes away, openssl as a second opinion, and certificates with names that
// our own mint refuses to make.
import { execFileSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { signCertificate } from '../../../src/pki/certificate.ts'
import { sequence } from '../../../src/pki/der.ts'
import { makeKeyPair, signerOf } from '../../../src/pki/key-pair.ts'
import type { AlternativeName } from '../../../src/pki/names.ts'

/** A folder that is removed when the test ends. */
export function temporaryFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'nbdgate-pki-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** Runs openssl; its standard output. Throws with its standard error. */
export function openssl(args: readonly string[], cwd?: string): string {
  return execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], cwd })
}

/** A self-signed certificate made by openssl from the `[dn]` section, the names after `subjectAltName=` and `[req]` lines. */
export function opensslCertificate(
  dn: readonly string[],
  names: readonly string[],
  req: readonly string[] = [],
): X509Certificate {
  const dir = temporaryFolder()
  const config = [
    '[req]',
    'distinguished_name=dn',
    'prompt=no',
    'utf8=yes',
    ...(names.length > 0 ? ['x509_extensions=ext'] : []),
    ...req,
    '[dn]',
    ...dn,
    '[ext]',
    'subjectAltName=@san',
    '[san]',
    ...names,
    '[dir]',
    'CN=Alice, Smith',
  ]
  writeFileSync(join(dir, 'req.cnf'), config.join('\n'))
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'key.pem']
  return new X509Certificate(openssl(['req', '-x509', ...key, '-config', 'req.cnf', '-days', '1'], dir))
}

/** A self-signed certificate without a subject and with these alternative names, unchecked. */
export function certificateWithNames(...alternativeNames: AlternativeName[]): X509Certificate {
  const pair = makeKeyPair('ecdsa')
  const der = signCertificate(
    {
      purpose: 'client',
      issuer: sequence(),
      subject: sequence(),
      publicKeyInfo: pair.publicKeyInfo,
      keyIdentifier: pair.keyIdentifier,
      issuerKeyIdentifier: pair.keyIdentifier,
      alternativeNames,
      notBefore: new Date('2026-01-01T00:00:00Z'),
      notAfter: new Date('2027-01-01T00:00:00Z'),
      enciphers: false,
    },
    signerOf(pair.privateKey),
  )
  return new X509Certificate(der)
}
