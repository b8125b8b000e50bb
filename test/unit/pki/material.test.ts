import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { MaterialError, type MaterialErrorCode } from '../../../src/pki/errors.ts'
import {
  type ClientMaterialFiles,
  loadCertificates,
  loadClientMaterial,
  loadServerMaterial,
  type ServerMaterialFiles,
} from '../../../src/pki/material.ts'
import { mintAuthority, mintClient, mintServer } from '../../../src/pki/mint.ts'
import { Trust } from '../../../src/pki/trust.ts'
import { openssl, temporaryFolder } from './workshop.ts'

const AUTHORITY = mintAuthority()
const OTHER_AUTHORITY = mintAuthority({ name: 'other' })
const OLD_AUTHORITY = mintAuthority({ name: 'old', days: 1, now: new Date('2020-01-01T00:00:00Z') })
const SERVER = mintServer(AUTHORITY, { names: ['gw.example'] })
const CLIENT = mintClient(AUTHORITY, { name: 'alice' })

interface Shelf extends ServerMaterialFiles {
  readonly clientCa: string
  put(name: string, text: string): string
}

/** A folder with material that is all right. */
function shelf(): Shelf {
  const dir = temporaryFolder()
  const put = (name: string, text: string) => {
    writeFileSync(join(dir, name), text, { mode: 0o600 })
    return join(dir, name)
  }
  return {
    cert: put('server-cert.pem', SERVER.certificatePem),
    key: put('server-key.pem', SERVER.privateKeyPem),
    clientCa: put('ca-cert.pem', AUTHORITY.certificatePem),
    put,
  }
}

function revocationList(authority: { certificatePem: string; privateKeyPem: string }): string {
  const dir = temporaryFolder()
  writeFileSync(join(dir, 'ca.pem'), authority.certificatePem)
  writeFileSync(join(dir, 'key.pem'), authority.privateKeyPem)
  writeFileSync(join(dir, 'index'), '')
  writeFileSync(
    join(dir, 'ca.cnf'),
    '[ca]\ndefault_ca=x\n[x]\ndatabase=index\ndefault_md=sha256\ndefault_crl_days=30\n',
  )
  return openssl(['ca', '-config', 'ca.cnf', '-gencrl', '-keyfile', 'key.pem', '-cert', 'ca.pem'], dir)
}

function failure(load: () => unknown): MaterialError {
  try {
    load()
  } catch (error) {
    if (error instanceof MaterialError) return error
    throw error
  }
  throw new Error('nothing was wrong')
}

function expectFailure(load: () => unknown, code: MaterialErrorCode, file: string, sentence: string): void {
  const error = failure(load)
  expect(error).toMatchObject({ code, file, message: `${file}: ${sentence}` })
}

describe('loadServerMaterial', () => {
  it('hands over the text of every file', () => {
    const files = shelf()
    const list = revocationList(AUTHORITY)
    const material = loadServerMaterial({ ...files, crl: files.put('ca-crl.pem', list) })
    expect(material).toEqual({
      trust: expect.any(Trust),
      cert: SERVER.certificatePem,
      key: SERVER.privateKeyPem,
      ca: AUTHORITY.certificatePem,
      crl: [list],
      warnings: [],
    })
  })

  it('leaves out what was not named', () => {
    const { cert, key } = shelf()
    expect(Object.keys(loadServerMaterial({ cert, key })).sort()).toEqual(['cert', 'key', 'warnings'])
  })

  it('hands over each revocation list of a file, because Node reads one a text', () => {
    const files = shelf()
    const [first, second] = [revocationList(AUTHORITY), revocationList(OTHER_AUTHORITY)]
    const material = loadServerMaterial({ ...files, crl: files.put('crl.pem', `# mine\n${first}${second}`) })
    expect(material.crl).toEqual([first, second])
  })

  it.each(['cert', 'key', 'clientCa', 'crl'] as const)('names the %s that is missing', part => {
    const files = shelf()
    const gone = join(temporaryFolder(), 'gone.pem')
    expectFailure(() => loadServerMaterial({ ...files, [part]: gone }), 'UNREADABLE', gone, 'there is no such file')
  })

  it('names a folder that is no file', () => {
    const files = shelf()
    const dir = join(temporaryFolder(), 'folder')
    mkdirSync(dir)
    expectFailure(() => loadServerMaterial({ ...files, cert: dir }), 'UNREADABLE', dir, 'is a folder, not a file')
  })

  it('names a file that may not be read', () => {
    const files = shelf()
    chmodSync(files.cert, 0o644)
    chmodSync(files.key, 0o000)
    // root may read everything: be nobody for a moment
    const root = process.geteuid?.() === 0
    if (root) chmodSync(dirname(files.key), 0o755)
    if (root) process.seteuid?.(65_534)
    try {
      expectFailure(() => loadServerMaterial(files), 'UNREADABLE', files.key, 'the file may not be read')
    } finally {
      if (root) process.seteuid?.(0)
    }
  })

  it.each([
    ['cert', 'holds no certificate in PEM form'],
    ['key', 'holds no private key in PEM form'],
    ['clientCa', 'holds no certificate in PEM form'],
    ['crl', 'holds no CRL in PEM form'],
  ] as const)('names a %s that is not PEM', (part, sentence) => {
    const files = shelf()
    const wrong = files.put('wrong.pem', 'certificate, key and list: all of them missing\n')
    expectFailure(() => loadServerMaterial({ ...files, [part]: wrong }), 'NOT_PEM', wrong, sentence)
  })

  it('names a certificate where the key should be, and a key where the certificate should be', () => {
    const files = shelf()
    expectFailure(
      () => loadServerMaterial({ ...files, key: files.cert }),
      'NOT_PEM',
      files.cert,
      'holds no private key in PEM form',
    )
    expectFailure(
      () => loadServerMaterial({ ...files, cert: files.key }),
      'NOT_PEM',
      files.key,
      'holds no certificate in PEM form',
    )
  })

  it.each([
    ['cert', 'CERTIFICATE', 'the certificate can not be read'],
    ['key', 'PRIVATE KEY', 'the private key can not be read'],
    ['clientCa', 'CERTIFICATE', 'the certificate can not be read'],
    ['crl', 'X509 CRL', 'the CRL can not be read'],
  ] as const)('names a %s that is damaged, and does not quote it', (part, label, sentence) => {
    const files = shelf()
    const wrong = files.put('wrong.pem', `-----BEGIN ${label}-----\nc2VjcmV0\n-----END ${label}-----\n`)
    const load = () => loadServerMaterial({ ...files, [part]: wrong })
    expectFailure(load, 'NOT_PEM', wrong, sentence)
    expect(JSON.stringify(failure(load), Object.getOwnPropertyNames(failure(load)))).not.toMatch(/c2Vjc|secret/)
  })

  it('names a key that is protected by a passphrase', () => {
    const files = shelf()
    const locked = files.put('locked.pem', openssl(['pkey', '-in', files.key, '-aes256', '-passout', 'pass:x']))
    const sentence = 'the key is protected by a passphrase'
    expectFailure(() => loadServerMaterial({ ...files, key: locked }), 'KEY_ENCRYPTED', locked, sentence)
  })

  it('names a key that does not match, and the certificate', () => {
    const files = shelf()
    const key = files.put('other-key.pem', CLIENT.privateKeyPem)
    const sentence = `the key does not match the certificate ${files.cert}`
    expectFailure(() => loadServerMaterial({ ...files, key }), 'KEY_MISMATCH', key, sentence)
  })

  it('names a certificate that expired, and one that is not valid yet', () => {
    const files = shelf()
    const now = new Date('2026-06-01T00:00:00Z')
    const authority = mintAuthority({ now })
    const server = mintServer(authority, { names: ['a'], days: 30, now })
    const cert = files.put('dated-cert.pem', server.certificatePem)
    const key = files.put('dated-key.pem', server.privateKeyPem)
    const at = (time: string) => () => loadServerMaterial({ cert, key }, { nowMs: Date.parse(time) })
    expectFailure(at('2026-07-01T00:00:00Z'), 'EXPIRED', cert, 'the certificate expired on 2026-07-01T00:00:00.000Z')
    const early = 'the certificate is not valid before 2026-05-31T23:55:00.000Z'
    expectFailure(at('2026-05-31T23:54:59Z'), 'NOT_YET_VALID', cert, early)
    expect(at('2026-06-10T00:00:00Z')().warnings).toEqual([])
    expect(at('2026-06-20T00:00:00Z')().warnings).toEqual([
      `${cert}: the certificate expires on 2026-07-01T00:00:00.000Z`,
    ])
  })

  it('names a client CA that is not a CA certificate, alone or in a bundle', () => {
    const files = shelf()
    for (const text of [CLIENT.certificatePem, AUTHORITY.certificatePem + CLIENT.certificatePem]) {
      const clientCa = files.put('not-a-ca.pem', text)
      const load = () => loadServerMaterial({ ...files, clientCa })
      expectFailure(load, 'NOT_A_CA', clientCa, 'the certificate is not a CA certificate')
    }
  })

  it('names a client CA that expired, unless another one of the bundle is left', () => {
    const files = shelf()
    const old = files.put('old.pem', OLD_AUTHORITY.certificatePem)
    const sentence = 'the certificate expired on 2020-01-02T00:00:00.000Z'
    expectFailure(() => loadServerMaterial({ ...files, clientCa: old }), 'EXPIRED', old, sentence)
    const both = files.put('both.pem', OLD_AUTHORITY.certificatePem + AUTHORITY.certificatePem)
    expect(loadServerMaterial({ ...files, clientCa: both }).warnings).toEqual([`${both}: 1 of 2 certificates expired`])
  })

  it('warns of a key that others may read', () => {
    const files = shelf()
    for (const [mode, warnings] of [
      [0o600, []],
      [0o640, [`${files.key}: others may read the private key (mode 0640): chmod 600 it`]],
      [0o604, [`${files.key}: others may read the private key (mode 0604): chmod 600 it`]],
    ] as const) {
      chmodSync(files.key, mode)
      expect(loadServerMaterial(files).warnings).toEqual(warnings)
    }
  })

  it('warns of a certificate that is meant for a client', () => {
    const files = shelf()
    const cert = files.put('client-cert.pem', CLIENT.certificatePem)
    const key = files.put('client-key.pem', CLIENT.privateKeyPem)
    expect(loadServerMaterial({ cert, key }).warnings).toEqual([
      `${cert}: the certificate is not meant for a TLS server; its peers may refuse it`,
    ])
  })
})

describe('loadClientMaterial', () => {
  function files(): Required<{ [part in keyof ClientMaterialFiles]: string }> {
    const { put, clientCa } = shelf()
    return {
      ca: clientCa,
      cert: put('client-cert.pem', CLIENT.certificatePem),
      key: put('client-key.pem', CLIENT.privateKeyPem),
    }
  }

  it('hands over what was named, be it nothing', () => {
    const { ca, cert, key } = files()
    const pair = { cert: CLIENT.certificatePem, key: CLIENT.privateKeyPem }
    expect(loadClientMaterial({ ca, cert, key })).toEqual({ ...pair, ca: AUTHORITY.certificatePem, warnings: [] })
    expect(loadClientMaterial({ cert, key })).toEqual({ ...pair, warnings: [] })
    expect(loadClientMaterial({})).toEqual({ warnings: [] })
  })

  it('names a certificate without a key, and a key without a certificate', () => {
    const { cert, key } = files()
    expectFailure(() => loadClientMaterial({ cert }), 'INCOMPLETE', cert, 'the certificate has no key')
    expectFailure(() => loadClientMaterial({ key }), 'INCOMPLETE', key, 'the key has no certificate')
  })

  it('warns of a certificate that is meant for a server', () => {
    const { cert, key } = shelf()
    expect(loadClientMaterial({ cert, key }).warnings).toEqual([
      `${cert}: the certificate is not meant for a TLS client; its peers may refuse it`,
    ])
  })
})

describe('loadCertificates', () => {
  it('reads each certificate of a file, past or not', () => {
    const file = shelf().put('all.pem', SERVER.certificatePem + OLD_AUTHORITY.certificatePem)
    expect(loadCertificates(file).map(certificate => certificate.subject)).toEqual(['CN=gw.example', 'CN=old'])
  })

  it('names a file without one', () => {
    const { key } = shelf()
    expectFailure(() => loadCertificates(key), 'NOT_PEM', key, 'holds no certificate in PEM form')
  })
})
