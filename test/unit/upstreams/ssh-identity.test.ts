import { spawnSync } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { loadIdentity } from '../../../src/upstreams/ssh-identity.ts'

const dir = mkdtempSync(join(tmpdir(), 'nbdgate-identity-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))

function written(text: string): string {
  const file = join(dir, 'key')
  writeFileSync(file, text)
  return file
}

describe('a private key', () => {
  it('is taken without passphrase, and refused with one', () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const plain = privateKey.export({ format: 'pem', type: 'pkcs8' }).toString()
    expect(loadIdentity(written(plain))).toEqual({ text: plain })
    for (const type of ['pkcs8', 'sec1'] as const) {
      const locked = privateKey.export({ format: 'pem', type, cipher: 'aes-128-cbc', passphrase: 'secret' }).toString()
      expect(loadIdentity(written(locked))).toMatchObject({ problem: expect.stringContaining('passphrase') })
    }
  })

  it('is not a public one, nor a file that is not there', () => {
    const { publicKey } = generateKeyPairSync('ed25519')
    const text = publicKey.export({ format: 'pem', type: 'spki' }).toString()
    expect(loadIdentity(written(text))).toMatchObject({ problem: expect.stringContaining('is no private key') })
    expect(loadIdentity(join(dir, 'gone'))).toMatchObject({ problem: expect.stringContaining('can not be read') })
  })

  it.skipIf(spawnSync('ssh-keygen', ['-?']).error !== undefined)('is told apart in the form of OpenSSH, too', () => {
    for (const [name, passphrase] of [
      ['plain', ''],
      ['locked', 'secret'],
    ] as const) {
      const file = join(dir, name)
      spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', passphrase, '-f', file])
      expect('problem' in loadIdentity(file)).toBe(passphrase !== '')
    }
  })
})
