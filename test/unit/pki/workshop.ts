// What the tests of pki/ share: a folder that goes away, openssl as a second opinion, and certificates with names that
// our own mint refuses to make.
import { execFileSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { signCertificate } from '../../../src/pki/certificate.ts'
import { type Der, decodeDer, sequence } from '../../../src/pki/der.ts'
import type { KeyedCertificate } from '../../../src/pki/files.ts'
import { makeKeyPair, signerOf } from '../../../src/pki/key-pair.ts'
import { signLeaf } from '../../../src/pki/leaf.ts'
import { privatePem } from '../../../src/pki/mint.ts'
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

/** One value of a subject, as raw as it gets: dotted OIDs are CN, O and one that nobody knows; `tag` is its ASN.1 type. */
export interface RawValue {
  readonly type: 'CN' | 'O' | 'other'
  readonly tag: number
  readonly value: string | Uint8Array
}

const RAW_TYPES = { CN: '550403', O: '55040a', other: '2a0304' } as const

/** A subject with these values, each in a relative distinguished name of its own. */
export function rawSubject(...values: readonly RawValue[]): Der {
  const parts = values.map(({ type, tag, value }) =>
    tlv(0x31, tlv(0x30, tlv(0x06, Buffer.from(RAW_TYPES[type], 'hex')), tlv(tag, Buffer.from(value)))),
  )
  return decodeDer(tlv(0x30, ...parts))
}

function tlv(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts)
  const length = content.length < 128 ? [content.length] : [0x82, content.length >> 8, content.length & 0xff]
  return Buffer.concat([Buffer.from([tag, ...length]), content])
}

/** A client's certificate that our own mint would refuse to make. */
export function mintHostile(
  authority: KeyedCertificate,
  subject: Der,
  ...alternativeNames: readonly AlternativeName[]
): KeyedCertificate {
  const pair = makeKeyPair('ecdsa')
  const now = new Date()
  const dates = { notBefore: new Date(now.getTime() - 60_000), notAfter: new Date(now.getTime() + 86_400_000) }
  const content = { ...pair, ...dates, purpose: 'client' as const, subject, alternativeNames, enciphers: false }
  return { certificatePem: signLeaf(authority, content, now), privateKeyPem: privatePem(pair.privateKey) }
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
