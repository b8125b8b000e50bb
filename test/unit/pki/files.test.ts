import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import {
  clientFiles,
  loadAuthority,
  parseFolderName,
  writeAuthority,
  writeClient,
  writeServer,
} from '../../../src/pki/files.ts'
import { temporaryFolder } from './workshop.ts'

const FIRST = { certificatePem: 'certificate 1', privateKeyPem: 'key 1' }
const SECOND = { certificatePem: 'certificate 2', privateKeyPem: 'key 2' }
const EXISTS = expect.objectContaining({ code: 'EXISTS' })

function mode(path: string): string {
  return (statSync(path).mode & 0o777).toString(8)
}

describe('the files of the authority', () => {
  it('have the names that nbdkit, libnbd and qemu look for, in folders that only the owner can enter', () => {
    const dir = join(temporaryFolder(), 'certs')
    writeAuthority(dir, FIRST)
    writeServer(dir, FIRST)
    const client = writeClient(dir, 'alice', { ...SECOND, authorityPem: FIRST.certificatePem })
    expect(readdirSync(dir).sort()).toEqual(['alice', 'ca-cert.pem', 'ca-key.pem', 'server-cert.pem', 'server-key.pem'])
    expect(readdirSync(client.dir).sort()).toEqual(['ca-cert.pem', 'client-cert.pem', 'client-key.pem'])
    expect(readFileSync(client.ca, 'utf8')).toBe('certificate 1')
    expect(readFileSync(client.cert, 'utf8')).toBe('certificate 2')
    expect(readFileSync(client.key, 'utf8')).toBe('key 2')
    expect([mode(dir), mode(client.dir)]).toEqual(['700', '700'])
  })

  it('are open to others only where they are public, whatever the umask', () => {
    for (const umask of [0o000, 0o077]) {
      const before = process.umask(umask)
      try {
        const dir = join(temporaryFolder(), 'certs')
        const authority = writeAuthority(dir, FIRST)
        const server = writeServer(dir, FIRST)
        const client = writeClient(dir, 'alice', { ...SECOND, authorityPem: 'ca' })
        expect([authority.key, server.key, client.key].map(mode)).toEqual(['600', '600', '600'])
        expect([authority.cert, server.cert, client.cert, client.ca].map(mode)).toEqual(['644', '644', '644', '644'])
      } finally {
        process.umask(before)
      }
    }
  })

  it('leave the mode of a folder alone that was there before', () => {
    const dir = join(temporaryFolder(), 'certs')
    mkdirSync(dir, { mode: 0o755 })
    writeAuthority(dir, FIRST)
    expect(mode(dir)).toBe('755')
  })

  it('are not overwritten', () => {
    const dir = temporaryFolder()
    writeAuthority(dir, FIRST)
    writeServer(dir, FIRST)
    writeClient(dir, 'alice', { ...FIRST, authorityPem: 'ca 1' })
    expect(() => writeAuthority(dir, SECOND)).toThrow(EXISTS)
    expect(() => writeServer(dir, SECOND)).toThrow(EXISTS)
    expect(() => writeClient(dir, 'alice', { ...SECOND, authorityPem: 'ca 2' })).toThrow(EXISTS)
    expect(loadAuthority(dir)).toEqual(FIRST)
    expect(readFileSync(join(dir, 'server-key.pem'), 'utf8')).toBe('key 1')
    expect(readFileSync(clientFiles(dir, 'alice').key, 'utf8')).toBe('key 1')
    expect(readFileSync(clientFiles(dir, 'alice').ca, 'utf8')).toBe('ca 1')
  })

  it('stay untouched if only one of the two is there', () => {
    const dir = temporaryFolder()
    writeFileSync(join(dir, 'server-cert.pem'), 'mine')
    expect(() => writeServer(dir, SECOND)).toThrow(EXISTS)
    expect(readdirSync(dir)).toEqual(['server-cert.pem'])
    expect(readFileSync(join(dir, 'server-cert.pem'), 'utf8')).toBe('mine')
  })

  it('are not written through a symbolic link, not even a dangling one', () => {
    const dir = temporaryFolder()
    const elsewhere = join(temporaryFolder(), 'stolen.pem')
    symlinkSync(elsewhere, join(dir, 'ca-key.pem'))
    expect(() => writeAuthority(dir, FIRST)).toThrow(EXISTS)
    writeAuthority(dir, FIRST, { force: true })
    expect(existsSync(elsewhere)).toBe(false)
    expect(loadAuthority(dir)).toEqual(FIRST)
  })

  it('are replaced by force, the key private again and nothing left behind', () => {
    const dir = temporaryFolder()
    writeFileSync(join(dir, 'ca-key.pem'), 'old', { mode: 0o644 })
    const files = writeAuthority(dir, SECOND, { force: true })
    expect(loadAuthority(dir)).toEqual(SECOND)
    expect(mode(files.key)).toBe('600')
    expect(readdirSync(dir).sort()).toEqual(['ca-cert.pem', 'ca-key.pem'])
  })
})

describe('loadAuthority', () => {
  it('says how to make an authority if there is none', () => {
    const dir = temporaryFolder()
    expect(() => loadAuthority(dir)).toThrow(
      `${join(dir, 'ca-cert.pem')}: the authority is not there: make an authority`,
    )
  })
})

describe('the folder of a client', () => {
  it.each(['alice', 'alice@lab.example', 'Alice Smith', 'Zoë', 'a,b', 'host-7', '名前'])('may be called %j', name => {
    expect(parseFolderName(name)).toBe(name)
  })

  it.each([
    '',
    ' ',
    ' a',
    'a ',
    '.',
    '..',
    '.ssh',
    '../a',
    'a/b',
    '/etc',
    'a\\b',
    '-f',
    '~',
    'a\nb',
    'a\0b',
    'a\u202eb',
    'ca-key.pem',
    'README.md',
    'é'.repeat(128),
  ])('may not be called %j', name => {
    const dir = temporaryFolder()
    expect(() => writeClient(dir, name, { ...FIRST, authorityPem: 'ca' })).toThrow(
      expect.objectContaining({ code: 'BAD_NAME' }),
    )
    expect(readdirSync(dir)).toEqual([])
  })

  it('is not made where a file has its name', () => {
    const dir = temporaryFolder()
    writeFileSync(join(dir, 'alice'), '')
    expect(() => writeClient(dir, 'alice', { ...FIRST, authorityPem: 'ca' })).toThrow(EXISTS)
  })
})
