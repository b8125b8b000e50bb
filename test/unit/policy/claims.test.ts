import { describe, expect, test } from 'vitest'
import { parseClaims } from '../../../src/policy/claims.ts'
import { parseWho } from '../../../src/policy/who.ts'

const HASH = '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'
const HASH_BASE64 = 'n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg='

function identityOf(...texts: readonly string[]) {
  const claims = parseClaims(texts)
  if (!claims.ok) throw new Error(claims.problem)
  return claims.value
}

describe('claims', () => {
  test.each([
    'cert:cn=alice',
    'cert:o=Lab, Ltd',
    'cert:ou=backup',
    'cert:dns=Host.lab.example',
    'cert:email=alice@Example.com',
    'cert:uri=spiffe://lab/alice',
    'cert:ip=10.0.0.7',
    'cert:ip=2001:DB8::1',
    `cert:fingerprint=SHA256:${HASH}`,
    `cert:fingerprint=sha256:${HASH.toUpperCase()}`,
    `cert:spki=SHA256:${HASH}`,
    `cert:spki=SHA256:${HASH_BASE64}`,
    'ssh:user=bob',
    `ssh:key=SHA256:${HASH_BASE64}`,
    'ssh:principal=ops.lab',
    'uid:1000',
    'gid:0',
    'address:10.0.0.7',
    'address:::ffff:10.0.0.7',
  ])('%s makes an identity that the same words in a rule hold for', text => {
    const who = parseWho(text)
    expect(who.ok && who.value.holds(identityOf(text))).toBe(true)
    expect(who.ok && who.value.holds({})).toBe(false)
  })

  test('of a certificate come together: a field may have several values', () => {
    expect(identityOf('cert:cn=alice', 'cert:ou=a', 'cert:ou=b', 'uid:7', 'address:::1')).toMatchObject({
      certificate: { commonNames: ['alice'], organizationalUnits: ['a', 'b'], dnsNames: [] },
      uid: 7,
      address: '::1',
    })
    expect(identityOf()).toEqual({})
  })

  test('that were not made hold for no rule', () => {
    for (const text of [`cert:fingerprint=SHA256:${HASH}`, `cert:spki=SHA256:${HASH}`, 'cert:o=lab', 'uid:0']) {
      const who = parseWho(text)
      expect(who.ok && who.value.holds(identityOf('cert:cn=alice'))).toBe(false)
    }
  })

  test.each([
    [['anyone'], 'nobody in particular'],
    [['cert:dns=*.example'], 'one name is needed, not a pattern'],
    [['cert:cn=a*'], 'neither can be a piece of one'],
    [['cert:ip=10.0.0.0/8'], 'one address is needed'],
    [['address:10.0.0.0/8'], 'one address is needed'],
    [['cert:serial=1'], 'not a field of a certificate'],
    [['cert:cn='], 'needs a value'],
    [['cert:fingerprint=SHA256:12'], 'a hash is SHA256:'],
    [['ssh:user=*'], 'one name is needed'],
    [['ssh:user=bob', 'ssh:user=eve'], 'a login has one user'],
    [['psk:*'], 'one name is needed, not a pattern'],
    [['psk:bob', 'psk:eve'], 'the psk can not be bob as well'],
    [['alice'], 'is not one of anyone'],
    [['uid:root'], 'needs a number'],
    [['uid:1', 'uid:2'], 'the uid can not be 1 as well'],
    [['address:10.0.0.7', 'address:10.0.0.8'], 'the address can not be 10.0.0.7 as well'],
    [[`cert:spki=SHA256:${HASH}`, `cert:spki=SHA256:${HASH.replace('9', '8')}`], 'a certificate has one spki'],
  ])('%j are refused', (texts, problem) => {
    expect(parseClaims(texts)).toEqual({ ok: false, problem: expect.stringContaining(problem) })
  })

  test('that are no claims are shown without what could steer a terminal', () => {
    expect(parseClaims(['\u001b[31m:x'])).toEqual({ ok: false, problem: expect.not.stringContaining('\u001b') })
  })
})
