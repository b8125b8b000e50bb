import { describe, expect, test } from 'vitest'
import type { CertificateFacts } from '../../../src/pki/certificate-facts.ts'
import type { Identity } from '../../../src/policy/identity.ts'
import { parseWho, whoProblem } from '../../../src/policy/who.ts'

const HASH = '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'
const HASH_BASE64 = 'n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg='
const HASH_COLONS = HASH.replace(/..(?!$)/g, '$&:').toUpperCase()

const noFacts: CertificateFacts = {
  subject: '',
  commonNames: [],
  organizations: [],
  organizationalUnits: [],
  dnsNames: [],
  emails: [],
  uris: [],
  ips: [],
  fingerprint: '0'.repeat(64),
  spki: '1'.repeat(64),
  serial: '01',
  notAfterMs: 0,
}
const withFacts = (facts: Partial<CertificateFacts>): Identity => ({ certificate: { ...noFacts, ...facts } })

function holds(text: string, identity: Identity): boolean {
  const who = parseWho(text)
  if (!who.ok) throw new Error(who.problem)
  expect(who.value.text).toBe(text)
  return who.value.holds(identity)
}

describe('anyone, uid:, gid:, address:', () => {
  test('anyone is everybody', () => {
    expect(holds('anyone', {})).toBe(true)
  })

  test('uid: and gid: are one number each', () => {
    expect(holds('uid:1000', { uid: 1000, gid: 5 })).toBe(true)
    expect(holds('uid:1000', { uid: 1001, gid: 1000 })).toBe(false)
    expect(holds('gid:0', { uid: 0, gid: 0 })).toBe(true)
    expect(holds('gid:0', { uid: 0, gid: 1 })).toBe(false)
    expect(holds('uid:0', {})).toBe(false)
  })

  test.each([
    ['address:10.0.0.0/8', '10.255.0.1', true],
    ['address:10.0.0.0/8', '11.0.0.0', false],
    ['address:10.0.0.7', '10.0.0.7', true],
    ['address:10.0.0.7', '::ffff:10.0.0.7', true],
    ['address:::ffff:10.0.0.7', '10.0.0.7', true],
    ['address:::ffff:10.0.0.0/104', '10.9.9.9', true],
    ['address:2001:db8::/32', '2001:db8:ffff::1', true],
    ['address:2001:db8::/32', '2001:db9::', false],
    ['address:fe80::1', 'fe80::1%eth0', true],
    ['address:::/0', '10.0.0.7', false],
    ['address:0.0.0.0/0', '::1', false],
    ['address:0.0.0.0/0', 'nonsense', false],
  ])('%s holds for %s: %s', (text, address, expected) => {
    expect(holds(text, { address })).toBe(expected)
  })

  test('an address rule holds for nobody without an address', () => {
    expect(holds('address:0.0.0.0/0', { uid: 0 })).toBe(false)
  })
})

describe('cert:', () => {
  test('holds for nobody without a certificate', () => {
    for (const text of ['cert:cn=**', 'cert:uri=**', 'cert:email=**@**', 'cert:ip=0.0.0.0/0'])
      expect(holds(text, {})).toBe(false)
  })

  test.each<[string, Partial<CertificateFacts>, boolean]>([
    ['cert:cn=alice', { commonNames: ['alice'] }, true],
    ['cert:cn=alice', { commonNames: ['Alice'] }, false],
    ['cert:cn=alice', { commonNames: ['alice '] }, false],
    ['cert:cn=alice', { commonNames: ['alice\0.evil'] }, false],
    ['cert:cn=alice', { dnsNames: ['alice'], organizations: ['alice'] }, false],
    ['cert:cn=Alice Smith', { commonNames: ['bob', 'Alice Smith'] }, true],
    ['cert:o=Lab', { organizations: ['Lab'] }, true],
    ['cert:o=Lab', { organizationalUnits: ['Lab'] }, false],
    ['cert:ou=Ops', { organizationalUnits: ['Dev', 'Ops'] }, true],
    ['cert:cn=a=b', { commonNames: ['a=b'] }, true],
    ['cert:ip=10.0.0.7', { ips: ['10.0.0.7'] }, true],
    ['cert:ip=10.0.0.0/8', { ips: ['192.168.0.1', '10.0.0.7'] }, true],
    ['cert:ip=10.0.0.7', { ips: ['10.0.0.8'] }, false],
    ['cert:ip=2001:db8::1', { ips: ['2001:db8:0::1'] }, true],
  ])('%s against %o: %s', (text, facts, expected) => {
    expect(holds(text, withFacts(facts))).toBe(expected)
  })

  test.each([
    ['*.example.com', 'a.example.com', true],
    ['*.example.com', 'A.EXAMPLE.com', true],
    ['*.EXAMPLE.com', 'a.example.com', true],
    ['*.example.com', 'example.com', false],
    ['*.example.com', '.example.com', false],
    ['*.example.com', 'a.b.example.com', false],
    ['**.example.com', 'example.com', true],
    ['**.example.com', 'a.b.example.com', true],
    ['**.example.com', 'badexample.com', false],
    ['a.**.c', 'a.c', true],
    ['a.**.c', 'a.b.b.c', true],
    ['a.**.c', 'a.b.c.d', false],
    ['a.*.**.z', 'a.z', false],
    ['**', 'what.ever', true],
    ['k.example', '\u212a.example', false],
  ])('dns=%s against %s: %s', (pattern, name, expected) => {
    expect(holds(`cert:dns=${pattern}`, withFacts({ dnsNames: [name] }))).toBe(expected)
  })

  test.each([
    ['spiffe://lab/ns/*', 'spiffe://lab/ns/a', true],
    ['spiffe://lab/ns/*', 'spiffe://lab/ns/', false],
    ['spiffe://lab/ns/*', 'spiffe://lab/ns/a/b', false],
    ['spiffe://lab/**', 'spiffe://lab/ns/a/b', true],
    ['spiffe://lab/**', 'spiffe://lab', true],
    ['spiffe://lab/**', 'spiffe://lab.evil/ns', false],
    ['spiffe://lab/**', 'spiffe://Lab/ns', false],
    ['spiffe://*.lab', 'spiffe://a.lab', undefined],
  ])('uri=%s against %s: %s', (pattern, uri, expected) => {
    const text = `cert:uri=${pattern}`
    if (expected === undefined) expect(whoProblem(text)).toMatch(/one whole path part/)
    else expect(holds(text, withFacts({ uris: [uri] }))).toBe(expected)
  })

  test.each([
    ['alice@example.com', 'alice@EXAMPLE.com', true],
    ['alice@example.com', 'Alice@example.com', false],
    ['*@example.com', 'alice@example.com', true],
    ['*@example.com', 'alice.b@example.com', false],
    ['**@example.com', 'alice.b@example.com', true],
    ['**@example.com', 'alice@sub.example.com', false],
    ['*@example.com', 'a@b@example.com', true],
    ['*@**', 'alice.example.com', false],
    ['alice@*.com', 'alice@example.com', true],
  ])('email=%s against %s: %s', (pattern, email, expected) => {
    expect(holds(`cert:email=${pattern}`, withFacts({ emails: [email] }))).toBe(expected)
  })

  test('fingerprint= takes hex in either case, with and without colons', () => {
    for (const text of [HASH, HASH.toUpperCase(), HASH_COLONS]) {
      expect(holds(`cert:fingerprint=SHA256:${text}`, withFacts({ fingerprint: HASH }))).toBe(true)
      expect(holds(`cert:fingerprint=SHA256:${text}`, withFacts({ spki: HASH }))).toBe(false)
    }
  })

  test('spki= takes hex and base64', () => {
    for (const text of [HASH, HASH_COLONS, HASH_BASE64, HASH_BASE64.slice(0, -1)]) {
      expect(holds(`cert:spki=SHA256:${text}`, withFacts({ spki: HASH }))).toBe(true)
      expect(holds(`cert:spki=SHA256:${text}`, withFacts({ fingerprint: HASH }))).toBe(false)
    }
  })

  test('a pattern made to backtrack is answered all the same', () => {
    // Trying every way to split the labels among the 60 wildcards would take longer than the universe has left.
    const facts = withFacts({ commonNames: [`${'a.'.repeat(2000)}a`] })
    expect(holds(`cert:cn=${'**.a.'.repeat(60)}b`, facts)).toBe(false)
    expect(holds(`cert:cn=${'**.a.'.repeat(60)}a`, facts)).toBe(true)
  })
})

describe('a who that can not be used', () => {
  test.each([
    ['', '"" is not one of anyone, address:, cert:, psk:, ssh:, uid:, gid:, group:'],
    ['Anyone', '"Anyone" is not one of'],
    ['anyone:', '"anyone" is not one of'],
    ['alice', '"alice" is not one of'],
    ['ssh:bob', 'ssh:bob is not a fact of a login: user= key= principal='],
    ['ssh:user=', 'ssh:user= needs a value'],
    ['ssh:user=b*b', '* stands for one whole label'],
    ['ssh:key=MD5:00', 'a key is named by SHA256: and 43 characters'],
    ['psk:', 'psk: needs the name of a key'],
    ['psk:al*', '* stands for one whole label'],
    ['cert:dns=bücher.example', 'cert:dns= is ASCII in certificates: write a host name as xn--…'],
    ['cert:email=zoë@example.com', 'cert:email= is ASCII in certificates'],
    ['cert:uri=spiffe://lab/zoë', 'cert:uri= is ASCII in certificates: percent-encode the rest'],
    ['address:', '"" is not an IP address'],
    ['address:10.0.0.1/8', 'did you mean 10.0.0.0/8?'],
    ['address:2001:db8::1/32', 'did you mean 2001:db8::/32?'],
    ['address:10.0.0.0/33', 'needs a prefix from 0 to 32'],
    ['address:10.0.0.0/08', 'needs a prefix from 0 to 32'],
    ['address:10.0.0.0/', 'needs a prefix from 0 to 32'],
    ['address:::/129', 'needs a prefix from 0 to 128'],
    ['address:::ffff:10.0.0.0/8', 'needs a prefix from 96 to 128'],
    ['address:010.0.0.1', 'is not an IP address'],
    ['address:gate.example.com', 'is not an IP address'],
    ['cert:', 'cert: is not a field of a certificate: cn= o= ou='],
    ['cert:CN=alice', 'cert:CN is not a field'],
    ['cert:toString=1', 'cert:toString is not a field'],
    ['cert:cn', 'cert:cn= needs a value'],
    ['cert:cn=', 'cert:cn= needs a value'],
    ['cert:cn=web-*', '* stands for one whole label'],
    ['cert:dns=a.***.b', '* stands for one whole label'],
    ['cert:email=alice', 'needs an @'],
    ['cert:email=web-*@example.com', '* stands for one whole label'],
    ['cert:email=a@web-*', '* stands for one whole label'],
    ['cert:ip=10.0.0.1/8', 'did you mean 10.0.0.0/8?'],
    ['cert:fingerprint=SHA256:9f', 'a hash is SHA256: and 64 hex digits'],
    [`cert:fingerprint=${HASH}`, 'a hash is SHA256: and 64 hex digits'],
    [`cert:fingerprint=SHA1:${HASH}`, 'a hash is SHA256: and 64 hex digits'],
    [`cert:fingerprint=SHA256:${HASH_BASE64}`, 'a hash is SHA256: and 64 hex digits'],
    [`cert:fingerprint=SHA256:${HASH}0`, 'a hash is SHA256: and 64 hex digits'],
    [`cert:spki=SHA256:${HASH_BASE64.replace('gg=', 'gh=')}`, 'a hash is SHA256:'],
    ['uid:', 'uid: needs a number'],
    ['uid:root', 'uid: needs a number'],
    ['uid:-1', 'uid: needs a number'],
    ['uid:01', 'uid: needs a number'],
    ['gid:4294967295', 'gid: needs a number'],
  ])('%j: %s', (text, problem) => {
    expect(whoProblem(text)).toContain(problem)
  })

  test('has its control characters escaped in the problem', () => {
    expect(whoProblem('\u001b[31m:x')).toContain('\\u{1b}[31m')
  })

  test('whoProblem says nothing about a good one', () => {
    expect(whoProblem('cert:cn=alice')).toBeUndefined()
  })
})

describe('ssh:', () => {
  const key = `SHA256:${'Ab1+'.repeat(10)}xyz`
  const login: Identity = { ssh: { user: 'bob.ops', key, principals: ['ops', 'db.readers'] } }

  test.each([
    ['ssh:user=bob.ops', true],
    ['ssh:user=bob', false],
    ['ssh:user=Bob.ops', false],
    ['ssh:user=*.ops', true],
    ['ssh:user=*', false],
    ['ssh:user=**', true],
    ['ssh:principal=ops', true],
    ['ssh:principal=db.*', true],
    ['ssh:principal=bob.ops', false],
    [`ssh:key=${key}`, true],
    [`ssh:key=${key}=`, true],
    [`ssh:key=SHA256:${'A'.repeat(43)}`, false],
  ])('%s', (text, expected) => {
    expect(holds(text, login)).toBe(expected)
    expect(holds(text, { address: '127.0.0.1' })).toBe(false)
  })

  test('a user that nothing binds to the key is nobody', () => {
    expect(holds('ssh:user=**', { ssh: { key, principals: [] } })).toBe(false)
  })
})
