import { X509Certificate } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { certificateFacts } from '../../../src/pki/certificate-facts.ts'
import { FactsCache } from '../../../src/pki/facts-cache.ts'
import { mintAuthority } from '../../../src/pki/mint.ts'
import { mintHostile, opensslCertificate, rawSubject } from './workshop.ts'

describe('FactsCache', () => {
  it('tells of every certificate what it says itself, however often and in whatever order they come', () => {
    const certificates = ['CN=alice', 'CN=bob', 'CN=alice'].map(name => opensslCertificate([name], []))
    const cache = new FactsCache()
    for (const each of [...certificates, ...certificates.toReversed()]) {
      expect(cache.factsOf(each)).toEqual(certificateFacts(each))
    }
  })

  it('knows a certificate by its bytes, not by the object that came with a connection', () => {
    const certificate = opensslCertificate(['CN=alice'], [])
    const cache = new FactsCache()
    expect(cache.factsOf(new X509Certificate(certificate.raw))).toBe(cache.factsOf(certificate))
  })

  it('refuses what can not be read each time that it comes', () => {
    const subject = rawSubject({ type: 'CN', tag: 0x30, value: Buffer.from('0c0161', 'hex') })
    const certificate = new X509Certificate(mintHostile(mintAuthority(), subject).certificatePem)
    const cache = new FactsCache()
    for (let time = 0; time < 2; time++) expect(() => cache.factsOf(certificate)).toThrow(TypeError)
  })
})
