import { X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect } from 'vitest'
import { readCrl } from '../../../src/pki/crl.ts'
import type { KeyedCertificate } from '../../../src/pki/files.ts'
import { mintAuthority, mintClient } from '../../../src/pki/mint.ts'
import { Trust } from '../../../src/pki/trust.ts'
import { test } from '../../support/fixtures.ts'
import { runOk } from '../../support/process.ts'
import { requires } from '../../support/requires.ts'

const DAY_MS = 86_400_000
const authority = mintAuthority({ name: 'one' })
const other = mintAuthority({ name: 'one' })
const alice = mintClient(authority, { name: 'alice' })
const bob = mintClient(authority, { name: 'bob' })

const read = (certificate: KeyedCertificate) => new X509Certificate(certificate.certificatePem)
const against = (trust: Trust, certificate: KeyedCertificate, nowMs = Date.now()) =>
  trust.against(read(certificate), nowMs)

describe('a certificate that was accepted', () => {
  test('is trusted while its authority is, and its days are not over', () => {
    const trust = new Trust(other.certificatePem + authority.certificatePem, undefined)
    expect(against(trust, alice)).toBeUndefined()
    expect(against(trust, alice, Date.now() + 826 * DAY_MS)).toBe('expired')
    // Of the same name, with another key.
    expect(against(new Trust(other.certificatePem, undefined), alice)).toBe('unknown CA')
  })

  test('of an authority without a list of its own is refused where lists are asked for', () => {
    expect(against(new Trust(authority.certificatePem, []), alice)).toBe('certificate refused')
  })
})

requires('certtool')('a list of revoked certificates', () => {
  const listOf = async (dir: string, issuer: KeyedCertificate, ...revoked: KeyedCertificate[]): Promise<string> => {
    const file = (name: string, text: string): string => {
      writeFileSync(join(dir, name), text)
      return join(dir, name)
    }
    const ca = ['--load-ca-certificate', file('ca.pem', issuer.certificatePem)]
    const key = ['--load-ca-privkey', file('ca.key', issuer.privateKeyPem)]
    // Of several options certtool takes the last; of one file all.
    const all = revoked.map(each => each.certificatePem).join('')
    const listed = all === '' ? [] : ['--load-certificate', file('revoked.pem', all)]
    const template = ['--template', file('crl.cfg', 'crl_next_update = 30\ncrl_number = 7\n')]
    return await runOk(['certtool', '--generate-crl', ...ca, ...key, ...listed, ...template])
  }

  test('made by GnuTLS speaks against those that it names, and no others', async ({ dir }) => {
    const trust = new Trust(authority.certificatePem, [await listOf(dir, authority, alice)])
    expect(against(trust, alice)).toBe('revoked')
    expect(against(trust, bob)).toBeUndefined()
    const nobody = new Trust(authority.certificatePem, [await listOf(dir, authority)])
    expect(against(nobody, alice)).toBeUndefined()
  })

  test('counts for nothing when somebody else made it, of the same name or not', async ({ dir }) => {
    const trust = new Trust(authority.certificatePem, [await listOf(dir, other, alice)])
    expect(against(trust, alice)).toBe('certificate refused')
  })

  test('that is cut or altered is a RangeError or another list, and never anything else', async ({ dir }) => {
    const pem = await listOf(dir, authority, alice, bob)
    const der = Buffer.from(pem.replace(/-----[^-]+-----/g, ''), 'base64')
    const whole = (bytes: Buffer) => bytes.toString('base64')
    for (let cut = 0; cut < der.length; cut++) expect(() => readCrl(whole(der.subarray(0, cut)))).toThrow(RangeError)
    const flips = fc.tuple(fc.nat(der.length - 1), fc.integer({ min: 1, max: 255 }))
    fc.assert(
      fc.property(flips, ([at, bits]) => {
        const altered = Buffer.from(der)
        altered.writeUInt8(altered.readUInt8(at) ^ bits, at)
        try {
          const crl = readCrl(whole(altered))
          const isSound = [alice, bob].every(each => crl.revoked.has(read(each).serialNumber))
          if (crl.isSignedBy(read(authority).publicKey) === true) expect(isSound).toBe(true)
        } catch (error) {
          if (!(error instanceof RangeError)) throw error
        }
      }),
    )
  })
})
