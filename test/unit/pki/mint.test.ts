import { createPrivateKey, X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { KeyedCertificate } from '../../../src/pki/files.ts'
import { mintAuthority, mintClient, mintServer } from '../../../src/pki/mint.ts'
import { openssl, temporaryFolder } from './workshop.ts'

const AUTHORITY = mintAuthority()

function text(certificatePem: string): string {
  const file = join(temporaryFolder(), 'cert.pem')
  writeFileSync(file, certificatePem)
  return openssl(['x509', '-in', file, '-noout', '-text'])
}

function verify(authorityPem: string, leafPem: string, purpose: string): string {
  const dir = temporaryFolder()
  writeFileSync(join(dir, 'ca.pem'), authorityPem)
  writeFileSync(join(dir, 'leaf.pem'), leafPem)
  return openssl(['verify', '-x509_strict', '-check_ss_sig', '-purpose', purpose, '-CAfile', 'ca.pem', 'leaf.pem'], dir)
}

function keyMatches(minted: KeyedCertificate): boolean {
  return new X509Certificate(minted.certificatePem).checkPrivateKey(createPrivateKey(minted.privateKeyPem))
}

describe.each(['ecdsa', 'rsa'] as const)('a chain of %s certificates', key => {
  const authority = mintAuthority({ key, organization: 'Lab' })
  const server = mintServer(authority, { key, names: ['gw.example', '10.0.0.1'] })
  const client = mintClient(authority, { key, name: 'alice' })

  it('satisfies openssl at its strictest', () => {
    expect(verify(authority.certificatePem, authority.certificatePem, 'any')).toBe('leaf.pem: OK\n')
    expect(verify(authority.certificatePem, server.certificatePem, 'sslserver')).toBe('leaf.pem: OK\n')
    expect(verify(authority.certificatePem, client.certificatePem, 'sslclient')).toBe('leaf.pem: OK\n')
  })

  it('does not let a client play the server, nor a server the client', () => {
    expect(() => verify(authority.certificatePem, client.certificatePem, 'sslserver')).toThrow(/purpose/)
    expect(() => verify(authority.certificatePem, server.certificatePem, 'sslclient')).toThrow(/purpose/)
  })

  it('has a key for each certificate', () => {
    for (const minted of [authority, server, client]) {
      expect(minted.privateKeyPem).toMatch(/^-----BEGIN PRIVATE KEY-----\n/)
      expect(keyMatches(minted)).toBe(true)
    }
  })

  it('is of the kind that was asked for', () => {
    for (const minted of [authority, server, client]) {
      const { publicKey } = new X509Certificate(minted.certificatePem)
      const details = publicKey.asymmetricKeyDetails
      expect(details?.namedCurve ?? details?.modulusLength).toBe(key === 'rsa' ? 3072 : 'prime256v1')
    }
  })
})

describe('an authority', () => {
  it('may sign leaves and revocation lists, and nothing else', () => {
    const written = text(AUTHORITY.certificatePem)
    expect(written).toContain('Version: 3 (0x2)')
    expect(written).toMatch(/Basic Constraints: critical\s+CA:TRUE, pathlen:0/)
    expect(written).toMatch(/X509v3 Key Usage: critical\s+Certificate Sign, CRL Sign\n/)
    expect(written).not.toContain('Extended Key Usage')
  })

  it('may be one that openssl made, with any of the usual keys', () => {
    for (const algorithm of [
      ['ec', '-pkeyopt', 'ec_paramgen_curve:P-384'],
      ['ec', '-pkeyopt', 'ec_paramgen_curve:P-521'],
      ['rsa:2048'],
      ['ed25519'],
    ]) {
      const dir = temporaryFolder()
      const certificatePem = openssl(
        [
          'req',
          '-x509',
          '-newkey',
          ...algorithm,
          '-nodes',
          '-keyout',
          'key.pem',
          '-subj',
          '/C=DE/O=Zoë AG/CN=Root',
          '-addext',
          'keyUsage=critical,keyCertSign',
          '-utf8',
        ],
        dir,
      )
      const privateKeyPem = openssl(['pkey', '-in', 'key.pem'], dir)
      const leaf = mintClient({ certificatePem, privateKeyPem }, { name: 'alice' })
      expect(verify(certificatePem, leaf.certificatePem, 'sslclient')).toBe('leaf.pem: OK\n')
    }
  })

  it('that is no CA, has another key or is past does not sign', () => {
    const leaf = mintClient(AUTHORITY, { name: 'alice' })
    const old = mintAuthority({ days: 1, now: new Date('2020-01-01T00:00:00Z') })
    const mixed = { certificatePem: AUTHORITY.certificatePem, privateKeyPem: leaf.privateKeyPem }
    const refusal = { code: 'NO_AUTHORITY' }
    expect(() => mintClient(leaf, { name: 'bob' })).toThrow(expect.objectContaining(refusal))
    expect(() => mintClient(mixed, { name: 'bob' })).toThrow(expect.objectContaining(refusal))
    expect(() => mintClient(old, { name: 'bob' })).toThrow(expect.objectContaining(refusal))
    expect(() => mintClient({ certificatePem: 'x', privateKeyPem: 'y' }, { name: 'bob' })).toThrow(
      expect.objectContaining(refusal),
    )
  })
})

describe('a server certificate', () => {
  it('carries every name, each as what it is, and the first one as common name', () => {
    const names = ['gw.example', '*.lab.example', '10.0.0.1', '2001:db8::7', '::ffff:10.0.0.2', 'bücher.example']
    const certificate = new X509Certificate(mintServer(AUTHORITY, { names }).certificatePem)
    expect(certificate.subject).toBe('CN=gw.example')
    expect(certificate.checkHost('gw.example')).toBe('gw.example')
    expect(certificate.checkHost('a.lab.example')).toBe('*.lab.example')
    expect(certificate.checkHost('xn--bcher-kva.example')).toBe('xn--bcher-kva.example')
    expect(certificate.checkIP('10.0.0.1')).toBe('10.0.0.1')
    expect(certificate.checkIP('2001:db8::7')).toBe('2001:db8::7')
    expect(certificate.subjectAltName).toContain('IP Address:0:0:0:0:0:FFFF:A00:2')
  })

  it('serves with an elliptic key by signing, with RSA by decrypting too', () => {
    const ecdsa = text(mintServer(AUTHORITY, { names: ['a'] }).certificatePem)
    const rsa = text(mintServer(AUTHORITY, { key: 'rsa', names: ['a'] }).certificatePem)
    expect(ecdsa).toMatch(/X509v3 Key Usage: \n\s+Digital Signature\n/)
    expect(rsa).toMatch(/X509v3 Key Usage: critical\n\s+Digital Signature, Key Encipherment\n/)
    for (const written of [ecdsa, rsa]) expect(written).toMatch(/Basic Constraints: critical\s+CA:FALSE/)
  })

  it('goes without a common name if the host name is too long for one, and says so critically', () => {
    const name = `${'a'.repeat(60)}.${'b'.repeat(60)}.example`
    const { certificatePem } = mintServer(AUTHORITY, { names: [name] })
    expect(text(certificatePem)).toMatch(/Subject Alternative Name: critical\s+DNS:a{60}\.b{60}\.example/)
    expect(verify(AUTHORITY.certificatePem, certificatePem, 'sslserver')).toBe('leaf.pem: OK\n')
  })

  it.each([
    '',
    'a b',
    'a,DNS:b',
    'a/b',
    'a\nb',
    '-a',
    'a..b',
    `${'a'.repeat(64)}.x`,
    '10.0.0.256',
    'fe80::1%eth0',
    'a%2fb',
  ])('is not made for %j', name => {
    expect(() => mintServer(AUTHORITY, { names: [name] })).toThrow(expect.objectContaining({ code: 'BAD_NAME' }))
  })

  it('is not made without a name', () => {
    expect(() => mintServer(AUTHORITY, { names: [] })).toThrow(expect.objectContaining({ code: 'BAD_NAME' }))
  })
})

describe('a client certificate', () => {
  it.each([
    ['alice', 'DNS:alice'],
    ['alice@lab.example', 'email:alice@lab.example'],
    ['spiffe://lab/alice', 'URI:spiffe://lab/alice'],
    ['Alice Smith', 'DirName:CN = Alice Smith'],
    ['10.0.0.7', 'DirName:CN = 10.0.0.7'],
  ])('for %j has the alternative name %j', (name, written) => {
    const certificate = new X509Certificate(mintClient(AUTHORITY, { name }).certificatePem)
    expect(certificate.subject).toBe(`CN=${name}`)
    expect(certificate.subjectAltName?.replaceAll('CN=', 'CN = ')).toBe(written)
  })

  it('carries further names, organization and unit', () => {
    const { certificatePem } = mintClient(AUTHORITY, {
      name: 'Zoë',
      organization: 'Lab, Inc.',
      organizationalUnit: 'Ops',
      dnsNames: ['host7.lab.example'],
      emails: ['zoe@lab.example'],
      uris: ['spiffe://lab/zoe'],
    })
    const certificate = new X509Certificate(certificatePem)
    expect({ ...certificate.toLegacyObject().subject }).toEqual({ O: 'Lab, Inc.', OU: 'Ops', CN: 'Zoë' })
    expect(certificate.subjectAltName).toBe(
      'DNS:xn--zo-ija, DNS:host7.lab.example, email:zoe@lab.example, URI:spiffe://lab/zoe',
    )
  })

  it.each([
    { name: '' },
    { name: ' alice' },
    { name: 'a\u0000b' },
    { name: 'a\u202eb' },
    { name: 'a'.repeat(65) },
    { name: 'alice', organization: 'a\nb' },
    { name: 'alice', organizationalUnit: '' },
    { name: 'alice', dnsNames: ['10.0.0.1'] },
    { name: 'alice', emails: ['nobody'] },
    { name: 'alice', uris: ['not a uri'] },
    { name: 'alice', days: 0 },
    { name: 'alice', days: Number.NaN },
  ])('is not made from %j', options => {
    expect(() => mintClient(AUTHORITY, options)).toThrow(expect.objectContaining({ code: 'BAD_NAME' }))
  })
})

describe('the dates of a certificate', () => {
  it('start five minutes ago and end after the days that were asked for', () => {
    const now = new Date('2026-11-24T12:00:00Z')
    const authority = mintAuthority({ now })
    const certificate = new X509Certificate(mintClient(authority, { name: 'alice', days: 10, now }).certificatePem)
    expect(certificate.validFrom).toBe('Nov 24 11:55:00 2026 GMT')
    expect(certificate.validTo).toBe('Dec  4 12:00:00 2026 GMT')
  })

  it('do not go beyond those of the authority', () => {
    const now = new Date('2026-11-24T12:00:00Z')
    const authority = mintAuthority({ now, days: 30 })
    const certificate = new X509Certificate(mintServer(authority, { names: ['a'], now }).certificatePem)
    expect(certificate.validTo).toBe('Dec 24 12:00:00 2026 GMT')
  })

  it('may lie beyond 2049, where another form of time begins', () => {
    const authority = mintAuthority({ days: 20_000, now: new Date('2026-01-01T12:00:00Z') })
    expect(new X509Certificate(authority.certificatePem).validTo).toBe('Oct  4 12:00:00 2080 GMT')
    expect(verify(authority.certificatePem, authority.certificatePem, 'any')).toBe('leaf.pem: OK\n')
  })
})

it('gives each certificate a positive serial number of 16 bytes of its own', () => {
  const serials = Array.from({ length: 50 }, () => new X509Certificate(mintAuthority().certificatePem).serialNumber)
  expect(new Set(serials).size).toBe(50)
  for (const serial of serials) expect(serial).toMatch(/^[4-7][0-9A-F]{31}$/)
})
