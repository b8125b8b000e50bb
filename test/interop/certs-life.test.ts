// The life of a certificate, by the built `nbdgate certs` and judged by others: openssl, GnuTLS's certtool, and a gateway
// that nbdinfo and qemu-img want to come in at.
import { readFileSync } from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect } from 'vitest'
import { Cmd, Opt, Rep } from '../../src/protocol/constants.ts'
import { test } from '../support/fixtures.ts'
import { MAIN, type RunningGateway } from '../support/gateway.ts'
import { type RunResult, run, runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { config } from './configs.ts'
import { greeted, infoData } from './raw-client.ts'

type StartGateway = (yaml: string) => Promise<RunningGateway>

interface Row {
  readonly serial: string
  readonly subject: string
  readonly kind: string
  readonly notAfter: string
  readonly state: string
}

/** `nbdgate certs` in a folder. */
function workshop(dir: string) {
  const certs = join(dir, 'certs')
  const command = (args: readonly string[]) => [process.execPath, MAIN, 'certs', ...args, '--dir', certs]
  return {
    path: (...parts: string[]) => join(certs, ...parts),
    make: (...args: string[]) => runOk(command(args)),
    fails: (...args: string[]) => run(command(args)),
    list: async () => JSON.parse(await runOk(command(['list', '--json']))) as Row[],
  }
}

type Workshop = ReturnType<typeof workshop>

async function authority(dir: string, ...flags: string[]): Promise<Workshop> {
  const shop = workshop(dir)
  await shop.make('init', ...flags)
  await shop.make('server', 'localhost', '127.0.0.1', ...flags.filter(flag => flag === '--rsa'))
  for (const name of ['alice', 'bob']) await shop.make('client', name, ...flags.filter(flag => flag === '--rsa'))
  return shop
}

/** A gateway with a door of this authority, and an export that both clients may read. */
async function serve(dir: string, shop: Workshop, gateway: StartGateway): Promise<RunningGateway> {
  const disk = join(dir, 'disk.img')
  await writeFile(disk, Buffer.alloc(1024 * 1024))
  const files = { cert: 'server-cert.pem', key: 'server-key.pem', 'client-ca': 'ca-cert.pem', crl: 'ca-crl.pem' }
  const door = Object.fromEntries(Object.entries(files).map(([key, file]) => [key, shop.path(file)]))
  const allow = ['alice', 'bob'].map(name => ({ who: `cert:cn=${name}`, rights: 'read' }))
  return await gateway(config([{ tls: '127.0.0.1:0', ...door }], [{ name: 'disk', upstream: { file: disk }, allow }]))
}

function nbdinfo(port: number, folder: string): Promise<RunResult> {
  return run(['nbdinfo', '--json', `nbds://localhost:${port}/disk?tls-certificates=${folder}`])
}

async function qemuInfo(port: number, folder: string): Promise<RunResult> {
  const credentials = `tls-creds-x509,id=t,dir=${folder},endpoint=client`
  const image = `driver=nbd,host=localhost,port=${port},export=disk,tls-creds=t`
  return await run(['qemu-img', 'info', '--object', credentials, '--image-opts', image])
}

function opensslVerify(shop: Workshop, leaf: string): Promise<RunResult> {
  const files = ['-CAfile', shop.path('ca-cert.pem'), '-CRLfile', shop.path('ca-crl.pem')]
  return run(['openssl', 'verify', '-x509_strict', '-crl_check_all', ...files, leaf])
}

function gnutlsVerify(shop: Workshop, leaf: string): Promise<RunResult> {
  const files = ['--load-ca-certificate', shop.path('ca-cert.pem'), '--load-crl', shop.path('ca-crl.pem')]
  return run(['certtool', '--verify', ...files, '--infile', leaf])
}

requires(
  'openssl',
  'certtool',
  'nbdinfo',
  'qemu-img',
)('the life of a certificate', () => {
  describe.each([
    ['ECDSA', []],
    ['RSA', ['--rsa']],
    ['ECDSA with an intermediate authority', ['--intermediate']],
  ] as const)('%s', (_name, flags) => {
    test('one that is revoked is refused by OpenSSL, GnuTLS and the gateway, and no other is', async ({
      dir,
      gateway,
    }) => {
      const shop = await authority(dir, ...flags)
      const leaves = ['alice', 'bob'].map(name => shop.path(name, 'client-cert.pem'))
      for (const leaf of leaves) {
        expect(await opensslVerify(shop, leaf)).toMatchObject({ code: 0 })
        expect((await gnutlsVerify(shop, leaf)).stdout).toContain('The certificate is trusted')
      }
      expect(await shop.make('revoke', 'bob', '--reason', 'keyCompromise')).toMatch(
        /number 2 of .*: 1 revoked, next by/,
      )
      const [alice = '', bob = ''] = leaves
      expect(await opensslVerify(shop, alice)).toMatchObject({ code: 0 })
      expect(await opensslVerify(shop, bob)).toMatchObject({ code: 2, stderr: expect.stringContaining('revoked') })
      expect((await gnutlsVerify(shop, alice)).stdout).toContain('The certificate is trusted')
      expect((await gnutlsVerify(shop, bob)).stdout).toContain('The certificate chain is revoked')

      const running = await serve(dir, shop, gateway)
      const port = running.port('tls')
      expect(await nbdinfo(port, shop.path('alice'))).toMatchObject({ code: 0 })
      expect(await qemuInfo(port, shop.path('alice'))).toMatchObject({ code: 0 })
      expect((await nbdinfo(port, shop.path('bob'))).code).not.toBe(0)
      expect(await running.waitForLog(line => line.msg === 'tls failed')).toMatchObject({ reason: 'revoked' })
      expect((await qemuInfo(port, shop.path('bob'))).code).not.toBe(0)
    })

    test('one that is renewed has the same names, and comes in', async ({ dir, gateway }) => {
      const shop = await authority(dir, ...flags)
      const names = async (file: string) => {
        const parts = ['-noout', '-subject', '-ext', 'subjectAltName,keyUsage,extendedKeyUsage,subjectKeyIdentifier']
        return await runOk(['openssl', 'x509', '-in', file, ...parts])
      }
      const file = shop.path('alice', 'client-cert.pem')
      const [before, key] = [await names(file), readFileSync(shop.path('alice', 'client-key.pem'), 'utf8')]
      await rename(shop.path('alice', 'client-key.pem'), shop.path('alice', 'away'))
      await shop.make('renew', 'alice', '--same-key', '--days', '2000')
      await rename(shop.path('alice', 'away'), shop.path('alice', 'client-key.pem'))
      expect(await names(file)).toBe(before)
      const running = await serve(dir, shop, gateway)
      expect(await nbdinfo(running.port('tls'), shop.path('alice'))).toMatchObject({ code: 0 })

      const said = await shop.make('renew', 'alice')
      expect(said).toMatch(/The old one is good until .*: nbdgate certs revoke [0-9A-F]{32}\n/)
      expect(readFileSync(shop.path('alice', 'client-key.pem'), 'utf8')).not.toBe(key)
      const withoutKey = (text: string) => text.replace(/Subject Key Identifier: *\n.*\n/, '')
      expect(withoutKey(await names(file))).toBe(withoutKey(before))
      expect(await nbdinfo(running.port('tls'), shop.path('alice'))).toMatchObject({ code: 0 })
      await shop.make('renew', 'localhost')
      expect(await opensslVerify(shop, shop.path('server-cert.pem'))).toMatchObject({ code: 0 })

      // All that alice ever had, and still has.
      expect((await shop.make('revoke', 'alice')).match(/^revoked: /gm)).toHaveLength(3)
      expect((await shop.list()).filter(({ state }) => state === 'revoked').map(({ subject }) => subject)).toEqual([
        'CN=alice',
        'CN=alice',
        'CN=alice',
      ])
      expect(await shop.fails('renew', 'alice')).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('is revoked'),
      })
    })

    test('PKCS #12 opens with its password, in OpenSSL and GnuTLS, and with no other', async ({ dir }) => {
      const shop = await authority(dir, ...flags)
      const secret = join(dir, 'password')
      await writeFile(secret, 'pässwörd 1\n', { mode: 0o600 })
      await shop.make('p12', 'alice', '--password-file', secret)
      const file = shop.path('alice', 'client.p12')
      const open = ['openssl', 'pkcs12', '-in', file, '-nodes']
      const opened = await runOk([...open, '-passin', `file:${secret}`])
      expect(opened).toMatch(/subject=CN = alice\n/)
      expect(opened).toContain('BEGIN PRIVATE KEY')
      expect(opened.match(/BEGIN CERTIFICATE/g)).toHaveLength(flags[0] === '--intermediate' ? 3 : 2)
      expect(await run([...open, '-passin', 'pass:wrong'])).toMatchObject({ code: 1 })
      const info = ['certtool', '--p12-info', '--inder', '--infile', file, '--password', 'pässwörd 1']
      expect(await runOk(info, { env: { LC_ALL: 'C.UTF-8' } })).toContain('BEGIN ENCRYPTED PRIVATE KEY')
      expect(await shop.fails('p12', 'bob')).toMatchObject({
        code: 2,
        stderr: expect.stringContaining('--password-file'),
      })
    })
  })

  test('the list tells serial number, kind, end and state, of what has gone too', async ({ dir }) => {
    const shop = await authority(dir)
    await rename(shop.path('bob'), join(dir, 'bob-took-it-away'))
    const before = await shop.list()
    expect(before.map(({ kind, subject, state }) => [kind, subject, state])).toEqual([
      ['authority', 'CN=nbdgate authority', 'valid'],
      ['server', 'CN=localhost', 'valid'],
      ['client', 'CN=alice', 'valid'],
      ['client', 'CN=bob', 'valid'],
    ])
    await shop.make('revoke', before[3]?.serial.toLowerCase().replace(/..(?=.)/g, '$&:') ?? '')
    expect((await shop.list()).map(({ state }) => state)).toEqual(['valid', 'valid', 'valid', 'revoked'])
    expect(await shop.make('list')).toMatch(/^revoked {2}\d{4}-\d\d-\d\d {2}client {5}[0-9A-F]{32} {2}CN=bob$/m)
  })

  test('a list that was lost is not begun anew by mistake, and a name that is unknown revokes nothing', async ({
    dir,
  }) => {
    const shop = await authority(dir)
    expect(await shop.fails('revoke', 'carol')).toMatchObject({ code: 1, stderr: expect.stringContaining('"carol"') })
    expect(await shop.fails('revoke', '00AB')).toMatchObject({ code: 1 })
    expect(await shop.make('revoke', '00AB', '--force')).toContain('revoked: AB\n')
    expect(await shop.fails('revoke', 'nbdgate authority')).toMatchObject({ code: 1 })
    await rename(shop.path('ca-crl.pem'), join(dir, 'lost.pem'))
    expect(await shop.fails('crl')).toMatchObject({ code: 1, stderr: expect.stringContaining('is lost') })
    await shop.make('crl', '--force', '--days', '3')
    const text = await runOk(['openssl', 'crl', '-in', shop.path('ca-crl.pem'), '-noout', '-text'])
    expect(text).toContain('No Revoked Certificates')
  })

  test('both ends send their chain: who trusts the root alone believes the other', async ({ dir, gateway }) => {
    const shop = await authority(dir, '--intermediate')
    const root = readFileSync(shop.path('root-cert.pem'), 'utf8')
    const disk = join(dir, 'disk.img')
    await writeFile(disk, Buffer.alloc(1024 * 1024))
    const files = { cert: 'server-cert.pem', key: 'server-key.pem', 'client-ca': 'root-cert.pem', crl: 'ca-crl.pem' }
    const door = Object.fromEntries(Object.entries(files).map(([key, file]) => [key, shop.path(file)]))
    const allow = [{ who: 'cert:cn=alice', rights: 'read' }]
    const exports = [{ name: 'disk', upstream: { file: disk }, allow }]
    const running = await gateway(config([{ tls: '127.0.0.1:0', ...door }], exports))
    await writeFile(shop.path('alice', 'ca-cert.pem'), root)
    expect(await nbdinfo(running.port('tls'), shop.path('alice'))).toMatchObject({ code: 0 })
    // The list of the intermediate is of no authority in client-ca, but needed for the chains that clients send.
    expect(running.log().filter(({ msg }) => msg === 'key material')).toHaveLength(1)
    const chain = ['-CAfile', shop.path('root-cert.pem'), '-untrusted', shop.path('server-cert.pem')]
    await runOk(['openssl', 'verify', '-x509_strict', ...chain, shop.path('server-cert.pem')])
  })

  test('what is revoked under a running gateway ends its session, and no other', async ({ dir, gateway }) => {
    const shop = await authority(dir)
    const running = await serve(dir, shop, gateway)
    const enter = async (name: string) => {
      const read = (file: string) => readFileSync(shop.path(name, file), 'utf8')
      const [ca, cert, key] = [read('ca-cert.pem'), read('client-cert.pem'), read('client-key.pem')]
      const client = await greeted({ host: '127.0.0.1', port: running.port('tls') })
      await client.startTls({ ca, cert, key, servername: 'localhost' })
      expect((await client.option(Opt.GO, infoData('disk'))).at(-1)?.type).toBe(Rep.ACK)
      return client
    }
    const [alice, bob] = [await enter('alice'), await enter('bob')]
    await shop.make('revoke', 'bob')
    const ended = await running.waitForLog(line => line.msg === 'session ended')
    expect(ended).toMatchObject({ who: 'cert:cn=bob', why: 'no longer allowed: certificate: revoked' })
    await bob.closed()
    alice.request(Cmd.READ, 7n, 0n, 512)
    expect(await alice.simpleReply(512)).toMatchObject({ error: 0, cookie: 7n })
  })

  test('two commands at once lose nothing, and a list of others stays', async ({ dir }) => {
    const shop = await authority(dir)
    const partner = workshop(join(dir, 'partner'))
    await partner.make('init')
    const theirs = readFileSync(partner.path('ca-crl.pem'), 'utf8')
    await writeFile(shop.path('ca-crl.pem'), readFileSync(shop.path('ca-crl.pem'), 'utf8') + theirs)
    const both = await Promise.all(['alice', 'bob'].map(name => shop.fails('revoke', name)))
    const refused = both.filter(({ code }) => code !== 0)
    for (const { code, stderr } of refused) expect([code, stderr]).toEqual([1, expect.stringContaining('crl.pem.lock')])
    const revoked = (await shop.list()).filter(({ state }) => state === 'revoked')
    expect(revoked).toHaveLength(2 - refused.length)
    expect(readFileSync(shop.path('ca-crl.pem'), 'utf8')).toContain(theirs)
  })

  test('the root key can be elsewhere while the authority below it works', async ({ dir, gateway }) => {
    const shop = await authority(dir, '--intermediate')
    await rename(shop.path('root-key.pem'), join(dir, 'root-key.pem'))
    await shop.make('client', 'carol')
    expect(await shop.make('revoke', 'carol')).toMatch(
      /number 2 of CN=nbdgate issuing.*\n.*number 1 of CN=nbdgate root/,
    )
    const [issuing] = await shop.list()
    expect(await shop.fails('revoke', issuing?.serial ?? '')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('the key of CN=nbdgate root authority is not here'),
    })
    const running = await serve(dir, shop, gateway)
    expect(await nbdinfo(running.port('tls'), shop.path('alice'))).toMatchObject({ code: 0 })

    await rename(join(dir, 'root-key.pem'), shop.path('root-key.pem'))
    await shop.make('revoke', issuing?.serial ?? '')
    const again = await serve(dir, shop, gateway)
    expect((await nbdinfo(again.port('tls'), shop.path('alice'))).code).not.toBe(0)
    expect(await again.waitForLog(line => line.msg === 'tls failed')).toMatchObject({ reason: 'revoked' })
  })
})
