/** Keys and certificates as the real ssh-keygen makes them, minted for one test file. */
import { spawnSync } from 'node:child_process'
import { createPrivateKey, type KeyObject, sign } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { encodeString } from '../../../src/protocol/ssh-string.ts'

export const isInstalled = spawnSync('ssh-keygen', ['-?']).error === undefined

/** A folder of keys. */
export interface Workshop {
  /** Makes a key; its public line without the line's end. */
  key(name: string, type?: string, bits?: number): string
  /** Certifies a key; the certificate's blob. */
  certify(authority: string, key: string, options: readonly string[]): Buffer
  readonly dir: string
  close(): void
}

export function workshop(): Workshop {
  const dir = mkdtempSync(join(tmpdir(), 'nbdg-keys-'))
  const keygen = (...args: string[]): void => {
    const { status, stderr } = spawnSync('ssh-keygen', ['-q', ...args], { cwd: dir, encoding: 'utf8' })
    if (status !== 0) throw new Error(`ssh-keygen ${args.join(' ')}: ${stderr}`)
  }
  return {
    dir,
    key: (name, type = 'ed25519', bits) => {
      const form = type === 'ed25519' ? [] : ['-m', 'PEM']
      keygen('-t', type, ...(bits === undefined ? [] : ['-b', String(bits)]), ...form, '-N', '', '-C', name, '-f', name)
      return readFileSync(join(dir, `${name}.pub`), 'utf8').trim()
    },
    certify: (authority, key, options) => {
      keygen('-s', authority, '-I', `id of ${key}`, ...options, `${key}.pub`)
      return blobOf(readFileSync(join(dir, `${key}-cert.pub`), 'utf8'))
    },
    close: () => rmSync(dir, { recursive: true, force: true }),
  }
}

/** The blob in a line with a key and no options. */
export function blobOf(line: string): Buffer {
  return Buffer.from(line.split(' ')[1] ?? '', 'base64')
}

/** Signs as an SSH client does; for keys that node:crypto reads (RSA and ECDSA in PEM). */
export function signAs(file: string, algorithm: string, hash: string, data: Buffer): Buffer {
  const key: KeyObject = createPrivateKey(readFileSync(file))
  if (key.asymmetricKeyType !== 'ec') {
    return Buffer.concat([encodeString(algorithm), encodeString(sign(hash, data, key))])
  }
  const wide = sign(hash, data, { key, dsaEncoding: 'ieee-p1363' })
  const numbers = [wide.subarray(0, wide.length / 2), wide.subarray(wide.length / 2)]
  // mpint: no leading zeros, but one in front of a set top bit.
  const mpint = (bytes: Buffer): Buffer => {
    const bare = bytes.subarray(bytes.findIndex(byte => byte !== 0))
    return encodeString((bare[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.alloc(1), bare]) : bare)
  }
  return Buffer.concat([encodeString(algorithm), encodeString(Buffer.concat(numbers.map(mpint)))])
}
