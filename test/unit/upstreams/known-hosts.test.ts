import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { hostKeys, judgeHostKey } from '../../../src/upstreams/known-hosts.ts'

// ssh-ed25519 keys of 32 equal bytes, by hand: the length and the name of the algorithm, the length of the key.
const blob = (byte: string) => Buffer.from(`0000000b7373682d6564323535313900000020${byte.repeat(32)}`, 'hex')
const line = (hosts: string, byte: string) => `${hosts} ssh-ed25519 ${blob(byte).toString('base64')}`
const verdict = (text: string, host: string, port: number, byte: string) =>
  judgeHostKey(hostKeys(text, host, port), blob(byte)).verdict

describe('a host key', () => {
  it('is told with the lines that decide', () => {
    const text = `# comment\n${line('gw', 'aa')}\n\n${line('*', 'bb')}\n@revoked ${line('gw', 'cc')}`
    const judged = (byte: string) => judgeHostKey(hostKeys(text, 'gw', 22), blob(byte))
    expect(judged('bb')).toEqual({ verdict: 'known', lines: [4] })
    expect(judged('cc')).toEqual({ verdict: 'revoked', lines: [5] })
    expect(judged('dd')).toEqual({ verdict: 'changed', lines: [2, 4] })
  })

  it('is known under its own name and port only', () => {
    const text = `# comment\n\n${line('gw,10.0.0.1', 'aa')} a comment\r\n${line('[gw]:2222', 'bb')}\n`
    expect(verdict(text, 'gw', 22, 'aa')).toBe('known')
    expect(verdict(text, 'GW', 22, 'aa')).toBe('known')
    expect(verdict(text, '10.0.0.1', 22, 'aa')).toBe('known')
    expect(verdict(text, 'gw', 2222, 'bb')).toBe('known')
    expect(verdict(text, 'gw', 2222, 'aa')).toBe('changed')
    expect(verdict(text, 'gw', 22, 'bb')).toBe('changed')
    expect(verdict(text, 'gw', 2223, 'aa')).toBe('unknown')
    expect(verdict(text, 'gw2', 22, 'aa')).toBe('unknown')
  })

  it('is known by wildcards, unless a negation rules the host out', () => {
    const text = line('*.lab,!bad.lab,10.0.?.1', 'aa')
    expect(verdict(text, 'a.lab', 22, 'aa')).toBe('known')
    expect(verdict(text, '10.0.7.1', 22, 'aa')).toBe('known')
    expect(verdict(text, 'bad.lab', 22, 'aa')).toBe('unknown')
    expect(verdict(text, '10.0.77.1', 22, 'aa')).toBe('unknown')
    expect(verdict(line('!bad', 'aa'), 'good', 22, 'aa')).toBe('unknown')
    expect(verdict(line(`${'*a'.repeat(40)}b`, 'aa'), 'a'.repeat(250), 22, 'aa')).toBe('unknown')
  })

  it('that is revoked is refused, whatever else is written', () => {
    expect(verdict(`${line('gw', 'aa')}\n@revoked ${line('*', 'aa')}`, 'gw', 22, 'aa')).toBe('revoked')
  })

  it('of an authority does not stand for the host', () => {
    expect(verdict(`@cert-authority ${line('*', 'aa')}`, 'gw', 22, 'aa')).toBe('certificates only')
  })

  it.each([
    ['an unknown marker', `@trusted ${line('gw', 'aa')}`],
    ['the marker of no marker', `@none ${line('gw', 'aa')}`],
    ['another algorithm than its key', line('gw', 'aa').replace('ssh-ed25519', 'ssh-rsa')],
    ['no key', 'gw ssh-ed25519'],
    ['a cut key', 'gw ssh-ed25519 AAAA'],
    ['a hash of another kind', line('|2|AAAA|AAAA', 'aa')],
    ['an empty hash', line('|1||', 'aa')],
  ])('is not known by a line with %s', (_, text) => {
    expect(verdict(text, 'gw', 22, 'aa')).toBe('unknown')
  })
})

const hasKeygen = spawnSync('ssh-keygen', ['-?']).error === undefined

describe.skipIf(!hasKeygen)('known_hosts as ssh-keygen reads it', () => {
  const names = ['gw', 'other', '10.0.0.1', 'a.lab', 'bad.lab', '[gw]:2222', '[10.0.0.1]:2222']
  const text = ['gw,10.0.0.1', '[gw]:2222', '*.lab,!bad.lab', 'oth?r,!other'].map(hosts => line(hosts, 'aa')).join('\n')

  it.each([{ hashed: false }, { hashed: true }])('finds the same hosts, hashed $hashed', ({ hashed }) => {
    const dir = mkdtempSync(join(tmpdir(), 'nbdgate-known-'))
    try {
      const file = join(dir, 'known_hosts')
      writeFileSync(file, `${text}\n`)
      if (hashed) spawnSync('ssh-keygen', ['-q', '-H', '-f', file])
      const written = readFileSync(file, 'utf8')
      expect(written.includes('|1|')).toBe(hashed)
      for (const name of names) {
        const [, host = name, port = '22'] = /^\[(.*)\]:(\d+)$/.exec(name) ?? []
        const theirs = spawnSync('ssh-keygen', ['-F', name, '-f', file]).status === 0
        expect([name, verdict(written, host, Number(port), 'aa')]).toEqual([name, theirs ? 'known' : 'unknown'])
      }
    } finally {
      rmSync(dir, { recursive: true, force: true })
    }
  })
})
