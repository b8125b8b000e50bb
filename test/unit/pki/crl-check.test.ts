import { X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { isCrlOf, readCrl } from '../../../src/pki/crl.ts'
import { checkCrls } from '../../../src/pki/crl-check.ts'
import { MaterialError } from '../../../src/pki/errors.ts'
import type { KeyedCertificate } from '../../../src/pki/files.ts'
import { mintAuthority } from '../../../src/pki/mint.ts'
import { emptyCrl, nextCrl } from '../../../src/pki/revocation.ts'
import { openssl, temporaryFolder } from './workshop.ts'

const NOW = new Date('2026-06-01T00:00:00Z')
const at = (time: string) => new Date(`${time}T00:00:00Z`)
const LAB = mintAuthority({ name: 'lab', now: NOW })
const NAMESAKE = mintAuthority({ name: 'lab', now: NOW })
const OTHER = mintAuthority({ name: 'other', now: NOW, key: 'rsa' })
const ROOT = mintAuthority({ name: 'root', now: NOW, pathLength: 1 })
const BELOW = mintAuthority({ name: 'below', now: NOW, parent: ROOT })

/** Warnings, or the error's code and message, of these lists for these authorities. */
function verdict(authorities: readonly KeyedCertificate[], lists: readonly string[]): string[] {
  const warnings: string[] = []
  try {
    checkCrls(
      {
        file: 'crl.pem',
        crls: lists.map(readCrl),
        caFile: 'ca.pem',
        authorities: authorities.map(({ certificatePem }) => new X509Certificate(certificatePem)),
        nowMs: NOW.getTime(),
      },
      warnings,
    )
  } catch (error) {
    if (!(error instanceof MaterialError)) throw error
    return [error.code, error.message]
  }
  return warnings
}

const list = (authority: KeyedCertificate, now = NOW, days = 30) => emptyCrl(authority, { now, days })

describe('checkCrls', () => {
  it('is content with one list for each authority, of whatever age before its end', () => {
    expect(verdict([LAB, OTHER], [list(OTHER), list(LAB)])).toEqual([])
    expect(verdict([BELOW, ROOT], [list(BELOW), list(ROOT)])).toEqual([])
    expect(verdict([LAB], [list(LAB, at('2026-01-01'), 30), list(LAB)])).toEqual([])
  })

  it('warns a week ahead of the end of a list', () => {
    expect(verdict([LAB], [list(LAB, NOW, 7)])).toEqual([])
    expect(verdict([LAB], [list(LAB, at('2026-05-30'), 7)])).toEqual([
      'crl.pem: the CRL of CN=lab ends on 2026-06-06T00:00:00.000Z; then all its clients are refused',
    ])
  })

  it('refuses what lets nobody in', () => {
    const end = '; no client could come in'
    expect(verdict([LAB], [list(LAB, at('2026-01-01'), 30)])).toEqual([
      'EXPIRED',
      `crl.pem: the CRL of CN=lab expired on 2026-01-31T00:00:00.000Z${end}`,
    ])
    expect(verdict([LAB], [list(LAB, at('2026-07-01'))])).toEqual([
      'NOT_YET_VALID',
      `crl.pem: the CRL of CN=lab is not valid before 2026-06-30T23:55:00.000Z${end}`,
    ])
    expect(verdict([LAB], [list(OTHER)])).toEqual([
      'NO_CRL',
      `crl.pem: there is no CRL of CN=lab; the CRL of CN=other is of no authority in ca.pem${end}`,
    ])
    expect(verdict([LAB], [list(NAMESAKE)])).toEqual([
      'NO_CRL',
      `crl.pem: there is no CRL of CN=lab; the CRL of CN=lab is signed by another key than that of ca.pem${end}`,
    ])
  })

  it('names the authority that is not covered beside one that is', () => {
    expect(verdict([LAB, OTHER], [list(LAB)])).toEqual([
      'crl.pem: there is no CRL of CN=other; its clients are refused',
    ])
    expect(verdict([LAB, OTHER], [list(LAB), list(OTHER, at('2026-01-01'))])).toEqual([
      'crl.pem: the CRL of CN=other expired on 2026-01-31T00:00:00.000Z; its clients are refused',
    ])
    expect(verdict([LAB], [list(LAB), list(OTHER)])).toEqual([
      'crl.pem: the CRL of CN=other is of no authority in ca.pem',
    ])
  })

  it('knows that a list of the root is needed for who came by an intermediate authority', () => {
    expect(verdict([BELOW, ROOT], [list(BELOW)])[0]).toBe('NO_CRL')
    expect(verdict([BELOW, ROOT], [list(ROOT)])).toEqual([
      'crl.pem: there is no CRL of CN=below; its clients are refused',
    ])
  })
})

describe('a revocation list', () => {
  it('keeps date and reason of what it had, counts on, and says once what is revoked twice', () => {
    const first = nextCrl(LAB, undefined, [{ serial: '00FF', reason: 'keyCompromise' }, { serial: 'AB' }], { now: NOW })
    const second = nextCrl(LAB, first, [{ serial: 'AB', reason: 'superseded' }, { serial: '7F' }], {
      now: at('2026-07-01'),
    })
    const file = join(temporaryFolder(), 'crl.pem')
    writeFileSync(file, second)
    const text = openssl(['crl', '-in', file, '-noout', '-text']).replace(/ +/g, ' ')
    expect(text).toContain('CRL Number: \n 2\n')
    expect(text.match(/Serial Number: \w+\n Revocation Date: [^\n]*/g)).toEqual([
      'Serial Number: FF\n Revocation Date: Jun 1 00:00:00 2026 GMT',
      'Serial Number: AB\n Revocation Date: Jun 1 00:00:00 2026 GMT',
      'Serial Number: 7F\n Revocation Date: Jul 1 00:00:00 2026 GMT',
    ])
    expect(text.match(/Key Compromise|Superseded/g)).toEqual(['Key Compromise'])
    const facts = readCrl(second)
    expect([facts.issuer, facts.number, [...facts.revoked.keys()]]).toEqual(['CN=lab', 2n, ['FF', 'AB', '7F']])
  })

  it('is read from the hands of openssl too, and told from one of another key', () => {
    const dir = temporaryFolder()
    writeFileSync(join(dir, 'ca.pem'), OTHER.certificatePem)
    writeFileSync(join(dir, 'key.pem'), OTHER.privateKeyPem)
    writeFileSync(join(dir, 'index'), 'R\t270101000000Z\t260601000000Z,superseded\t0A\tunknown\t/CN=x\n')
    writeFileSync(join(dir, 'number'), '1000\n')
    const settings = 'database=index\ndefault_md=sha384\ndefault_crl_days=30\ncrlnumber=number\ncrl_extensions=e\n[e]\n'
    writeFileSync(join(dir, 'ca.cnf'), `[ca]\ndefault_ca=x\n[x]\n${settings}`)
    const pem = openssl(['ca', '-config', 'ca.cnf', '-gencrl', '-keyfile', 'key.pem', '-cert', 'ca.pem'], dir)
    const facts = readCrl(pem)
    expect([facts.number, [...facts.revoked.keys()]]).toEqual([0x1000n, ['0A']])
    expect(isCrlOf(facts, new X509Certificate(OTHER.certificatePem))).toBe(true)
    expect(isCrlOf(facts, new X509Certificate(LAB.certificatePem))).toBe(false)
  })

  it('throws for what is none', () => {
    for (const der of ['', '30', '3080', '3003020101', '300602010102010130', '30820000', 'ffffffffff']) {
      const pem = `-----BEGIN X509 CRL-----\n${Buffer.from(der, 'hex').toString('base64')}\n-----END X509 CRL-----\n`
      expect(() => readCrl(pem)).toThrow(RangeError)
    }
  })
})
