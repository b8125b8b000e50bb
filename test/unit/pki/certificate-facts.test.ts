import { X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { certificateFacts, issuerName, parseSubjectAltName } from '../../../src/pki/certificate-facts.ts'
import { mintAuthority, mintClient } from '../../../src/pki/mint.ts'
import {
  certificateWithNames,
  mintHostile,
  openssl,
  opensslCertificate,
  rawSubject,
  temporaryFolder,
} from './workshop.ts'

describe('certificateFacts', () => {
  it('tells every name of a certificate by its kind', () => {
    const facts = certificateFacts(
      opensslCertificate(
        ['C=DE', 'O=lab', '0.OU=ops', '1.OU=night', 'CN=alice'],
        [
          'DNS.1=a.example',
          'DNS.2=*.b.example',
          'IP.1=2001:db8:0::1',
          'IP.2=10.0.0.1',
          'email.1=a@b',
          'URI.1=spiffe://x/y',
          'RID.1=1.2.3',
        ],
      ),
    )
    expect(facts).toMatchObject({
      subject: 'CN=alice,OU=night,OU=ops,O=lab,C=DE',
      commonNames: ['alice'],
      organizations: ['lab'],
      organizationalUnits: ['ops', 'night'],
      dnsNames: ['a.example', '*.b.example'],
      ips: ['2001:db8::1', '10.0.0.1'],
      emails: ['a@b'],
      uris: ['spiffe://x/y'],
    })
  })

  it('has the fingerprints, serial number and end that openssl computes', () => {
    const { certificatePem } = mintClient(mintAuthority(), { name: 'alice', days: 30 })
    const file = join(temporaryFolder(), 'cert.pem')
    writeFileSync(file, certificatePem)
    const facts = certificateFacts(new X509Certificate(certificatePem))
    const said = openssl(['x509', '-in', file, '-noout', '-fingerprint', '-sha256', '-serial', '-enddate'])
    const publicKey = join(temporaryFolder(), 'public.pem')
    writeFileSync(publicKey, openssl(['x509', '-in', file, '-noout', '-pubkey']))
    openssl(['pkey', '-pubin', '-in', publicKey, '-outform', 'DER', '-out', `${publicKey}.der`])
    expect(said).toContain(`=${facts.fingerprint.toUpperCase().replace(/..(?=.)/g, '$&:')}\n`)
    expect(said).toContain(`serial=${facts.serial}\n`)
    expect(Date.parse(/notAfter=(.*)/.exec(said)?.[1] ?? '')).toBe(facts.notAfterMs)
    expect(openssl(['dgst', '-sha256', `${publicKey}.der`])).toContain(`= ${facts.spki}\n`)
  })

  it('keeps a subject value whole that looks like several', () => {
    const facts = certificateFacts(opensslCertificate(['O=a\\, CN=root', 'CN=bob\\, DNS:alice'], []))
    expect(facts.commonNames).toEqual(['bob, DNS:alice'])
    expect(facts.organizations).toEqual(['a, CN=root'])
    expect(facts.dnsNames).toEqual([])
    expect(facts.subject).toBe('CN=bob\\, DNS:alice,O=a\\, CN\\=root')
  })

  it('keeps a line break in a subject value inside that value', () => {
    const facts = certificateFacts(opensslCertificate(['CN=bob\\nCN=alice'], []))
    expect(facts.commonNames).toEqual(['bob\nCN=alice'])
    expect(facts.subject).toBe('CN=bob\\0ACN\\=alice')
  })

  it('reads subject values in every alphabet and encoding', () => {
    expect(certificateFacts(opensslCertificate(['CN=Zoë Ωmega'], [])).commonNames).toEqual(['Zoë Ωmega'])
    // BMPString, two bytes a character
    const bmp = opensslCertificate(['CN=Zoë Ωmega'], [], ['string_mask=MASK:0x800'])
    expect(bmp.raw.includes(Buffer.from([0x1e, 0x12, 0x00, 0x5a, 0x00, 0x6f]))).toBe(true)
    expect(certificateFacts(bmp).commonNames).toEqual(['Zoë Ωmega'])
  })

  it('takes no mail address from the subject', () => {
    const facts = certificateFacts(opensslCertificate(['CN=a', 'emailAddress=root@lab'], []))
    expect(facts.emails).toEqual([])
    expect(facts.subject).toBe('emailAddress=root@lab,CN=a')
  })

  it.each(['a.example, DNS:evil', 'a.example\0.evil', 'a"b', 'a\\b', "a'b", 'a\nDNS:b', '"quoted"', '', ' ', 'é'])(
    'keeps the alternative name %j one name of one kind',
    value => {
      for (const [kind, list] of [
        ['dns', 'dnsNames'],
        ['email', 'emails'],
        ['uri', 'uris'],
      ] as const) {
        const facts = certificateFacts(certificateWithNames({ kind, value }, { kind: 'ip', value: '10.0.0.1' }))
        const none = { dnsNames: [], emails: [], uris: [], ips: ['10.0.0.1'] }
        expect(facts).toMatchObject({ ...none, [list]: [value] })
      }
    },
  )

  it('takes nothing from names of other kinds, whatever they look like', () => {
    const names = ['dirName.1=dir', 'otherName.1=1.3.6.1.4.1.311.20.2.3;UTF8:x@y, DNS:evil', 'URI.1=http://x/?DNS:evil']
    const facts = certificateFacts(opensslCertificate(['CN=a'], names))
    expect(facts).toMatchObject({ dnsNames: [], emails: [], ips: [], uris: ['http://x/?DNS:evil'] })
  })

  it('leaves out an address that is none', () => {
    const { raw } = certificateWithNames({ kind: 'ip', value: '10.0.0.1' }, { kind: 'ip', value: '10.0.0.2' })
    const der = Buffer.from(raw)
    const at = der.indexOf(Buffer.from('87040a000001', 'hex'))
    der.write('87020a008200', at, 'hex') // two bytes of an address, and an empty DNS name to keep the length
    expect(certificateFacts(new X509Certificate(der))).toMatchObject({ ips: ['10.0.0.2'], dnsNames: [''] })
  })

  it('reads nothing rather than lose the names beside one that is no text', () => {
    for (const [tag, value] of [
      [0x30, Buffer.from('0c0161', 'hex')],
      [0x03, Buffer.from('00616c', 'hex')],
    ] as const) {
      const subject = rawSubject({ type: 'CN', tag: 0x0c, value: 'mallory' }, { type: 'O', tag, value })
      const { certificatePem } = mintHostile(mintAuthority(), subject)
      expect(() => certificateFacts(new X509Certificate(certificatePem))).toThrow(/name that is no text/)
    }
  })

  it('is content with a certificate that names nobody', () => {
    const facts = certificateFacts(certificateWithNames())
    expect(facts).toMatchObject({ subject: '', commonNames: [], dnsNames: [] })
  })

  it('escapes what would steer a terminal or deceive a reader of the log', () => {
    const facts = certificateFacts(opensslCertificate(['CN=\u001b[31mred\u202e'], []))
    expect(facts.commonNames).toEqual(['\u001b[31mred\u202e'])
    expect(facts.subject).toBe('CN=\\1B[31mred\\E2\\80\\AE')
  })
})

it('issuerName tells who signed', () => {
  const leaf = mintClient(mintAuthority({ name: 'Root', organization: 'Lab' }), { name: 'alice' })
  expect(issuerName(new X509Certificate(leaf.certificatePem))).toBe('CN=Root,O=Lab')
})

describe('parseSubjectAltName', () => {
  it('reads quoted values as one', () => {
    expect(parseSubjectAltName('DNS:a.example, DNS:"b\\u002c DNS:c", URI:"\\"", othername:<unsupported>')).toEqual([
      { kind: 'DNS', value: 'a.example' },
      { kind: 'DNS', value: 'b, DNS:c' },
      { kind: 'URI', value: '"' },
      { kind: 'othername', value: '<unsupported>' },
    ])
  })

  it.each(['a.example', 'DNS:a,DNS:b', 'DNS:"a', 'DNS:"a"b', 'DNS:a, ,', 'DNS:a\\b', 'DNS:"\\x"'])(
    'refuses %j rather than guess',
    written => {
      expect(() => parseSubjectAltName(written)).toThrow()
    },
  )
})
