import { expect, test } from 'vitest'
import type { CertificateFacts } from '../../../src/pki/certificate-facts.ts'
import { compileCidrs, plainAddress } from '../../../src/policy/cidr.ts'
import { type Identity, keyOf, nameOf } from '../../../src/policy/identity.ts'

const facts: CertificateFacts = {
  subject: 'CN=alice',
  commonNames: ['alice', 'other'],
  organizations: [],
  organizationalUnits: [],
  dnsNames: ['alice.example.com'],
  emails: ['alice@example.com'],
  uris: ['spiffe://lab/alice'],
  ips: [],
  fingerprint: 'ab'.repeat(32),
  spki: 'cd'.repeat(32),
  serial: '01',
  notAfterMs: 0,
}

test.each<[Identity, string]>([
  [{ certificate: facts, uid: 1, address: '10.0.0.7' }, 'cert:cn=alice'],
  [{ certificate: { ...facts, commonNames: [] } }, 'cert:uri=spiffe://lab/alice'],
  [{ certificate: { ...facts, commonNames: [''], uris: [] } }, 'cert:email=alice@example.com'],
  [{ certificate: { ...facts, commonNames: [], uris: [], emails: [] } }, 'cert:dns=alice.example.com'],
  [
    { certificate: { ...facts, commonNames: [], uris: [], emails: [], dnsNames: [] } },
    `cert:fingerprint=SHA256:${'ab'.repeat(32)}`,
  ],
  [{ psk: 'bob\u202e', address: '10.0.0.7' }, 'psk:bob\\u{202e}'],
  [{ uid: 1000, gid: 100 }, 'uid:1000'],
  [{ address: '10.0.0.7' }, 'address:10.0.0.7'],
  [{}, 'unknown'],
])('nameOf calls the visitor by its best name (%#)', (identity, name) => {
  expect(nameOf(identity)).toBe(name)
})

test('nameOf escapes what would move the cursor or begin a new line', () => {
  expect(nameOf({ certificate: { ...facts, commonNames: ['a\n\u001b[2J\u202eb'] } })).toBe(
    'cert:cn=a\\u{a}\\u{1b}[2J\\u{202e}b',
  )
})

test('keyOf tells those from each other who come from one address', () => {
  const address = '10.0.0.7'
  const ssh = { key: 'SHA256:k', user: 'bob', principals: [] }
  const identities: readonly Identity[] = [
    { address, certificate: facts },
    { address, psk: 'alice' },
    { address, psk: 'bob' },
    { address, ssh },
    { uid: 1000 },
    { address },
  ]
  expect(new Set(identities.map(keyOf)).size).toBe(identities.length)
  expect(keyOf({ address, psk: 'bob' })).toBe(keyOf({ address: '10.0.0.8', psk: 'bob' }))
})

test('no networks hold no address', () => {
  expect(compileCidrs([])('10.0.0.7')).toBe(false)
})

test.each([
  ['10.0.0.7', '10.0.0.7'],
  ['::ffff:10.0.0.7', '10.0.0.7'],
  ['::FFFF:a00:7', '10.0.0.7'],
  ['2001:DB8:0:0::1', '2001:db8::1'],
  ['fe80::1%eth0', 'fe80::1'],
  ['::', '::'],
  ['64:ff9b::10.0.0.7', '64:ff9b::a00:7'],
  ['gate', undefined],
])('plainAddress gives %s its one spelling', (text, plain) => {
  expect(plainAddress(text)).toBe(plain)
})
