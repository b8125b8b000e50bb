import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseAuthorizedKeys } from '../../../src/ssh/authorized-keys.ts'
import { parsePlainKeys, parseRevokedKeys } from '../../../src/ssh/key-file.ts'
import { isInstalled, type Workshop, workshop } from './keygen.ts'

// ssh-ed25519, 32 bytes of 0x58: a valid point, written by hand.
const POINT = `58${'66'.repeat(31)}`
const BLOB = Buffer.from(`0000000b7373682d6564323535313900000020${POINT}`, 'hex').toString('base64')
const KEY = `ssh-ed25519 ${BLOB}`

const optionsOf = (options: string) => {
  const { keys, problems } = parseAuthorizedKeys(`${options} ${KEY} bob@lab\n`)
  expect(problems).toEqual([])
  return keys[0]?.options
}
const problemOf = (line: string) => {
  const { keys, problems } = parseAuthorizedKeys(`# first\n\n${line}\n`)
  expect(keys).toEqual([])
  expect(problems.map(each => each.line)).toEqual([3])
  return `${problems[0]?.column}: ${problems[0]?.message}`
}

describe('a line of authorized_keys', () => {
  test('without options is a key with its comment', () => {
    const { keys, problems } = parseAuthorizedKeys(`# comment\r\n\r\n  ${KEY}  bob at the lab\r\n\t# more\n${KEY}`)
    expect(problems).toEqual([])
    expect(keys.map(({ line, comment }) => [line, comment])).toEqual([
      [3, 'bob at the lab'],
      [5, ''],
    ])
    expect(keys[0]?.options).toEqual({ certAuthority: false, forwarding: true })
  })

  test('has its options read, in any case, quoted or not', () => {
    expect(optionsOf('restrict,no-pty,NO-X11-Forwarding,no-agent-forwarding,no-user-rc,port-forwarding')).toEqual({
      certAuthority: false,
      forwarding: true,
    })
    expect(optionsOf('from="10.0.0.0/8,!10.0.0.1,192.168.*",no-port-forwarding')).toEqual({
      certAuthority: false,
      forwarding: false,
      from: ['10.0.0.0/8', '!10.0.0.1', '192.168.*'],
    })
    expect(optionsOf('cert-authority,principals="alice,ops"')).toMatchObject({
      certAuthority: true,
      principals: ['alice', 'ops'],
    })
    expect(optionsOf('permitopen="nbd:10809",permitopen="/exports",permitopen="/exports/a b,c"')?.permitOpen).toEqual([
      { kind: 'all' },
      { kind: 'all' },
      { kind: 'export', name: 'a b,c' },
    ])
    expect(optionsOf('permitopen="/exports/a\\"b"')?.permitOpen).toEqual([{ kind: 'export', name: 'a"b' }])
    expect(optionsOf('permitopen="[::1]:10809",permitopen="*:*"')?.permitOpen).toHaveLength(2)
  })

  test('has an expiry-time in UTC or local time', () => {
    expect(optionsOf('expiry-time="20270228Z"')?.expiryMs).toBe(Date.UTC(2027, 1, 28))
    expect(optionsOf('expiry-time=202702281230Z')?.expiryMs).toBe(Date.UTC(2027, 1, 28, 12, 30))
    expect(optionsOf('expiry-time="20270228123059Z"')?.expiryMs).toBe(Date.UTC(2027, 1, 28, 12, 30, 59))
    expect(optionsOf('expiry-time="20270228"')?.expiryMs).toBe(new Date(2027, 1, 28).getTime())
  })

  test.each([
    [`command="nbd" ${KEY}`, '1: command= is refused: no command but nbd can be run here'],
    [`restrict,command="a b" ${KEY}`, '10: command= is refused'],
    [`environment="A=b" ${KEY}`, '1: the option environment is not understood'],
    [`tunnel="1" ${KEY}`, '1: the option tunnel is not understood'],
    [`permitlisten="22" ${KEY}`, '1: the option permitlisten is not understood'],
    [`pty ${KEY}`, '1: the option pty is not understood'],
    [`verify-required ${KEY}`, '1: the option verify-required is not understood'],
    [`restrict,,no-pty ${KEY}`, '10: an option is missing here'],
    [`restrict, ${KEY}`, '10: an option is missing here'],
    [`restrict="yes" ${KEY}`, '1: restrict has no value'],
    [`from ${KEY}`, '1: from needs a value: from="…"'],
    [`from="" ${KEY}`, '1: from=: "" is not an address'],
    [`from="gw.example.com" ${KEY}`, '1: from=: "gw.example.com" is not an address or a network'],
    [`from="10.0.0.1/8" ${KEY}`, '1: from=: "10.0.0.1/8" has bits set behind its prefix'],
    [`from="10.0.0.1",from="10.0.0.2" ${KEY}`, '17: from= stands here twice'],
    [`from="10.0.0.1"x ${KEY}`, '1: the option from="10.0.0.1"x is not understood'],
    [`from="10.0.0.1 ${KEY}`, '1: a quote is not closed'],
    [`expiry-time="20270230" ${KEY}`, '1: expiry-time= must be like'],
    [`expiry-time="tomorrow" ${KEY}`, '1: expiry-time= must be like'],
    [`permitopen="nbd:22" ${KEY}`, '1: permitopen= must be "nbd:10809"'],
    [`permitopen="none" ${KEY}`, '1: permitopen= must be "nbd:10809"'],
    [`permitopen="/etc/passwd" ${KEY}`, '1: permitopen= must be "nbd:10809"'],
    [`principals="a,,b" ${KEY}`, '1: principals= has an empty name'],
    ['restrict', '9: no key stands here'],
    ['hello world', '7: no key stands here'],
    ['ssh-ed25519', '12: the key is not base64'],
    ['ssh-ed25519 AAAA*', '13: the key is not base64'],
    ['ssh-ed25519 AAAA', '13: the key is malformed'],
    [`ssh-rsa ${BLOB}`, '9: the key is of another type than its line says'],
    [`ssh-dss ${BLOB}`, '1: keys of type ssh-dss are not taken'],
    [`sk-ssh-ed25519@openssh.com ${BLOB}`, '1: keys of type sk-ssh-ed25519@openssh.com are not taken'],
    [
      `ssh-ed25519-cert-v01@openssh.com ${BLOB}`,
      '1: keys of type ssh-ed25519-cert-v01@openssh.com are not taken: name',
    ],
  ])('that is broken admits nobody: %s', (line, problem) => {
    expect(problemOf(line)).toContain(problem)
  })

  test('that is broken leaves the others alone', () => {
    const { keys, problems } = parseAuthorizedKeys(`${KEY} a\ncommand="x" ${KEY} b\n${KEY} c\n`)
    expect(keys.map(({ comment }) => comment)).toEqual(['a', 'c'])
    expect(problems).toHaveLength(1)
  })
})

test('other key files have no options', () => {
  expect(parsePlainKeys(`${KEY} ca\n`).keys.map(({ comment }) => comment)).toEqual(['ca'])
  expect(parsePlainKeys(`restrict ${KEY}\n`).problems).toEqual([{ line: 1, column: 1, message: 'no options here' }])
})

describe('revoked keys', () => {
  const fingerprint = `SHA256:${'A'.repeat(43)}`

  test('are keys or fingerprints', () => {
    const { fingerprints, problems } = parseRevokedKeys(`# stolen\n${fingerprint} laptop\n${KEY}\n`)
    expect(problems).toEqual([])
    expect(fingerprints.size).toBe(2)
    expect(fingerprints).toContain(fingerprint)
  })

  test.each(['SSHKRL\n\0\0', `restrict ${KEY}`, 'SHA256:short', 'x'])(
    'that are not understood are a problem: %j',
    text => {
      expect(parseRevokedKeys(text).problems).toHaveLength(1)
    },
  )
})

describe.skipIf(!isInstalled)('keys of ssh-keygen', () => {
  let keys: Workshop
  beforeAll(() => {
    keys = workshop()
  })
  afterAll(() => keys.close())

  test.each([
    ['ed25519', undefined],
    ['ecdsa', 256],
    ['ecdsa', 384],
    ['ecdsa', 521],
    ['rsa', 2048],
  ])('%s %s is taken', (type, bits) => {
    const { keys: found, problems } = parseAuthorizedKeys(keys.key(`${type}${bits ?? ''}`, type, bits))
    expect(problems).toEqual([])
    expect(found[0]?.comment).toBe(`${type}${bits ?? ''}`)
  })

  test('an RSA key of 1024 bits is not', () => {
    expect(parseAuthorizedKeys(keys.key('short', 'rsa', 1024)).problems[0]?.message).toContain('too short')
  })
})
