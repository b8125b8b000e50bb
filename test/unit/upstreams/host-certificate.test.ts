import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { judgeHostCertificate } from '../../../src/upstreams/host-certificate.ts'
import { hostKeys } from '../../../src/upstreams/known-hosts.ts'

const hasKeygen = spawnSync('ssh-keygen', ['-?']).error === undefined

describe.skipIf(!hasKeygen)('a certificate of a host, made by ssh-keygen', () => {
  let dir = ''
  const keygen = (...args: readonly string[]): void => {
    expect(spawnSync('ssh-keygen', ['-q', ...args], { cwd: dir, encoding: 'utf8' })).toMatchObject({ status: 0 })
  }
  const publicKey = (name: string): string => readFileSync(join(dir, `${name}.pub`), 'utf8').trim()
  const certificate = (authority: string, ...args: readonly string[]): Buffer => {
    keygen('-s', authority, '-I', 'test', ...args, 'host.pub')
    return Buffer.from(publicKey('host-cert').split(' ')[1] ?? '', 'base64')
  }
  const verdict = (blob: Buffer, lines: readonly string[], host = 'gw.example'): string => {
    const judged = judgeHostCertificate(blob, hostKeys(lines.join('\n'), host, 22), host, Date.now())
    return judged.kind === 'fine' ? 'fine' : judged.why
  }
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'nbdgate-hostcert-'))
    for (const name of ['host', 'ca', 'other']) keygen('-t', 'ed25519', '-N', '', '-f', name)
    keygen('-t', 'rsa', '-b', '2048', '-N', '', '-f', 'rsa-ca')
  })
  afterAll(() => rmSync(dir, { recursive: true, force: true }))

  it('is fine for the hosts it names, from an authority of theirs', () => {
    const lines = [`@cert-authority *.example ${publicKey('ca')}`]
    const named = certificate('ca', '-h', '-n', 'gw.example')
    expect(verdict(named, lines)).toBe('fine')
    expect(verdict(named, lines, 'other.example')).toBe('its certificate is for other hosts')
    expect(verdict(named, lines, 'gw.elsewhere')).toBe('its certificate comes from another authority')
    expect(verdict(certificate('ca', '-h', '-n', '*.example'), lines, 'GW.example')).toBe('fine')
    expect(verdict(certificate('rsa-ca', '-h', '-n', 'gw.example'), [`@cert-authority * ${publicKey('rsa-ca')}`])).toBe(
      'fine',
    )
  })

  it('is refused when it is a user’s, asks for what we do not know, or was tampered with', () => {
    const lines = [`@cert-authority * ${publicKey('ca')}`]
    expect(verdict(certificate('ca', '-n', 'gw.example'), lines)).toBe(
      'its certificate is not the certificate of a host',
    )
    const critical = certificate('ca', '-h', '-n', 'gw.example', '-O', 'critical:new@example=1')
    expect(verdict(critical, lines)).toBe('its certificate has a critical option')
    const whole = certificate('ca', '-h', '-n', 'gw.example')
    for (let at = 0; at < whole.length; at++) {
      const changed = Buffer.from(whole)
      changed[at] = (changed[at] ?? 0) ^ 1
      expect([at, verdict(changed, lines)]).not.toEqual([at, 'fine'])
      expect([at, verdict(whole.subarray(0, at), lines)]).toEqual([at, 'its certificate is malformed'])
    }
  })

  it('of another authority does not take the trust from a key that is known by itself', () => {
    const lines = [`@cert-authority * ${publicKey('ca')}`, `gw.example ${publicKey('host')}`]
    const foreign = certificate('other', '-h', '-n', 'gw.example')
    expect(verdict(foreign, lines)).toBe('fine')
    expect(verdict(foreign, [...lines, `@revoked * ${publicKey('other')}`])).toBe(
      'its certificate is revoked by line 3',
    )
  })
})
