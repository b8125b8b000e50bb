import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { certificateProblem, decodeCertificate, sourceAddresses } from '../../../src/ssh/certificate.ts'
import { decodePublicKey, fingerprintOf, verifySignature } from '../../../src/ssh/public-key.ts'
import { blobOf, isInstalled, signAs, type Workshop, workshop } from './keygen.ts'

const NOON = Date.UTC(2027, 0, 1, 12)
/** ssh-keygen reads times of this machine's zone, unless they end in Z. */
const DAY = ['-V', '20270101000000Z:20270102000000Z']

describe.skipIf(!isInstalled)('a certificate of ssh-keygen', () => {
  let keys: Workshop
  beforeAll(() => {
    keys = workshop()
    for (const [name, type, bits] of [
      ['ca', 'ed25519', undefined],
      ['ca-rsa', 'rsa', 2048],
      ['ca-ecdsa', 'ecdsa', 384],
      ['user', 'ed25519', undefined],
      ['user-rsa', 'rsa', 2048],
      ['user-p256', 'ecdsa', 256],
      ['user-p521', 'ecdsa', 521],
    ] as const) {
      keys.key(name, type, bits)
    }
  })
  afterAll(() => keys.close())

  const decode = (authority: string, key: string, ...options: string[]) => {
    const certificate = decodeCertificate(keys.certify(authority, key, options))
    if (certificate === undefined) throw new Error('not decoded')
    return certificate
  }

  test('says who it is for', () => {
    const found = decode('ca', 'user', '-n', 'alice,ops', '-z', '42', '-O', 'source-address=10.0.0.0/8,::1/128', ...DAY)
    expect(found).toMatchObject({ keyId: 'id of user', serial: 42n, isUser: true, principals: ['alice', 'ops'] })
    expect(found.validAfterMs).toBe(Date.UTC(2027, 0, 1))
    expect(found.validBeforeMs).toBe(Date.UTC(2027, 0, 2))
    expect(sourceAddresses(found)).toEqual(['10.0.0.0/8', '::1/128'])
    expect(found.extensions).toContain('permit-port-forwarding')
    expect(certificateProblem(found, NOON)).toBeUndefined()
  })

  test.each(['ca', 'ca-rsa', 'ca-ecdsa'])('is in order when %s signed it, for each type of key', authority => {
    for (const key of ['user', 'user-rsa', 'user-p256', 'user-p521']) {
      const certificate = decode(authority, key, '-n', 'x')
      expect(certificateProblem(certificate, NOON)).toBeUndefined()
      expect(fingerprintOf(certificate.plainBlob)).toBe(certificate.key.fingerprint)
      expect(decodePublicKey(certificate.plainBlob)?.fingerprint).toBe(certificate.key.fingerprint)
    }
  })

  test('for ever is for ever', () => {
    const found = decode('ca', 'user', '-n', 'x', '-V', 'always:forever')
    expect([found.validAfterMs, found.validBeforeMs]).toEqual([0, Number.POSITIVE_INFINITY])
  })

  test('is refused outside its time, as a host, and with critical options that are not known', () => {
    const day = decode('ca', 'user', '-n', 'x', ...DAY)
    expect(certificateProblem(day, Date.UTC(2026, 11, 31))).toBe('it is not valid yet')
    expect(certificateProblem(day, Date.UTC(2027, 0, 2))).toBe('it has expired')
    expect(certificateProblem(decode('ca', 'user', '-h', '-n', 'x'), NOON)).toBe('it is the certificate of a host')
    const forced = decode('ca', 'user', '-n', 'x', '-O', 'force-command=nbd')
    expect(certificateProblem(forced, NOON)).toBe('it has the critical option "force-command"')
    const own = decode('ca', 'user', '-n', 'x', '-O', 'critical:two@example.com=1')
    expect(certificateProblem(own, NOON)).toBe('it has the critical option "two@example.com"')
  })

  test('signed with SHA-1 is refused', () => {
    const old = decode('ca-rsa', 'user', '-n', 'x', '-t', 'ssh-rsa')
    expect(certificateProblem(old, NOON)).toBe("its authority's signature is wrong")
  })

  test('is refused with any byte changed, and never throws', () => {
    const good = keys.certify('ca', 'user', ['-n', 'alice', ...DAY])
    for (let at = 0; at < good.length; at++) {
      const bad = Buffer.from(good)
      bad[at] = (bad[at] ?? 0) ^ 1
      const decoded = decodeCertificate(bad)
      if (decoded !== undefined) expect(certificateProblem(decoded, NOON), `byte ${at}`).toBeDefined()
      expect(decodeCertificate(good.subarray(0, at))).toBeUndefined()
    }
    expect(decodeCertificate(Buffer.concat([good, Buffer.alloc(1)]))).toBeUndefined()
  })

  test('is no plain key, and a plain key no certificate', () => {
    const certificate = keys.certify('ca', 'user', ['-n', 'x'])
    expect(decodePublicKey(certificate)).toBeUndefined()
    expect(decodeCertificate(blobOf(keys.key('plain')))).toBeUndefined()
  })

  test.each([
    ['user-rsa', 'rsa-sha2-256', 'sha256', true],
    ['user-rsa', 'rsa-sha2-512', 'sha512', true],
    ['user-rsa', 'ssh-rsa', 'sha1', false],
    ['user-rsa', 'rsa-sha2-256', 'sha1', false],
    ['user-p256', 'ecdsa-sha2-nistp256', 'sha256', true],
    ['user-p256', 'ecdsa-sha2-nistp384', 'sha384', false],
    ['user-p521', 'ecdsa-sha2-nistp521', 'sha512', true],
  ])('a signature by %s as %s with %s: %s', (name, algorithm, hash, expected) => {
    const { key } = decode('ca', name, '-n', 'x')
    const file = join(keys.dir, name)
    // Several: a number in front of which a zero was dropped comes once in 256.
    for (let i = 0; i < (expected ? 40 : 1); i++) {
      const data = Buffer.from(`data ${i}`)
      const signature = signAs(file, algorithm, hash, data)
      expect(verifySignature(key, data, signature)).toBe(expected)
      expect(verifySignature(key, Buffer.from('other'), signature)).toBe(false)
      expect(verifySignature(key, data, signature.subarray(0, -1))).toBe(false)
    }
  })
})
