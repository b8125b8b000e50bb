// Pre-shared keys at the TLS door, from the file that GnuTLS's psktool makes: nbdinfo, qemu-img and openssl come in with
// theirs, and nobody comes in with the name alone.
import { readFileSync } from 'node:fs'
import { chmod, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect } from 'vitest'
import { Cmd, Opt, Rep } from '../../src/protocol/constants.ts'
import { test } from '../support/fixtures.ts'
import { MAIN, type RunningGateway } from '../support/gateway.ts'
import type { TestPki } from '../support/pki.ts'
import { type RunResult, run, runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { config, type Entry, nbdsUri, tlsDoor } from './configs.ts'
import { greeted, infoData } from './raw-client.ts'

const KEYS = ['alice', 'bob']

async function makeKeys(dir: string): Promise<string> {
  const file = join(dir, 'keys.psk')
  for (const name of KEYS) await runOk(['psktool', '-u', name, '-p', file])
  await chmod(file, 0o600)
  return file
}

interface Place {
  readonly dir: string
  readonly pki: TestPki
  readonly gateway: (yaml: string) => Promise<RunningGateway>
}

async function serve({ dir, pki, gateway }: Place, more: Entry = {}): Promise<RunningGateway> {
  const disk = join(dir, 'disk.img')
  await writeFile(disk, Buffer.alloc(1024 * 1024))
  const allow = [
    { who: 'psk:alice', rights: 'write' },
    { who: 'psk:bob', rights: 'read' },
    { who: 'cert:cn=alice', rights: 'read' },
  ]
  const door = tlsDoor(pki, { psk: await makeKeys(dir), ...more })
  // Visitors of several names at once: leases are tested elsewhere.
  return await gateway(config([door], [{ name: 'disk', upstream: { file: disk }, sharing: 'cluster', allow }]))
}

function nbdinfo(port: number, user: string, file: string): Promise<RunResult> {
  return run(['nbdinfo', '--json', `nbds://${user}@localhost:${port}/disk?tls-psk-file=${file}`])
}

/** qemu takes a folder with the file keys.psk. */
function qemuInfo(port: number, user: string, dir: string): Promise<RunResult> {
  const credentials = `tls-creds-psk,id=t,dir=${dir},endpoint=client,username=${user}`
  const image = `driver=nbd,host=localhost,port=${port},export=disk,tls-creds=t`
  return run(['qemu-img', 'info', '--object', credentials, '--image-opts', image])
}

requires(
  'psktool',
  'nbdinfo',
  'qemu-img',
  'openssl',
)('a door with pre-shared keys', () => {
  test('lets nbdinfo and qemu-img in by name, each with its own rights', async ({ dir, pki, gateway }) => {
    const running = await serve({ dir, pki, gateway })
    const port = running.port('tls')
    const keys = join(dir, 'keys.psk')
    for (const [user, readOnly] of [
      ['alice', false],
      ['bob', true],
    ] as const) {
      const { code, stdout } = await nbdinfo(port, user, keys)
      expect(code).toBe(0)
      expect(JSON.parse(stdout)).toMatchObject({ TLS: true, exports: [{ is_read_only: readOnly }] })
      const opened = await running.waitForLog(line => line.msg === 'session opened' && line.who === `psk:${user}`)
      expect(opened).toMatchObject({ cipher: 'TLSv1.3 TLS_AES_128_GCM_SHA256', rights: readOnly ? 'read' : 'write' })
      expect(await qemuInfo(port, user, dir)).toMatchObject({ code: 0 })
    }
    // Who has a certificate comes in as before.
    expect(await run(['nbdinfo', '--json', nbdsUri(port, 'disk', pki.alice)])).toMatchObject({ code: 0 })
    expect(await running.waitForLog(line => line.who === 'cert:cn=alice')).toBeDefined()
    for (const line of readFileSync(keys, 'utf8').trim().split('\n')) {
      expect(running.stderr()).not.toContain(line.split(':')[1])
    }
  })

  test('speaks TLS 1.2 with clients that know nothing else', async ({ dir, pki, gateway }) => {
    const running = await serve({ dir, pki, gateway })
    const priorities = join(dir, 'gnutls.conf')
    await writeFile(priorities, '[overrides]\ndisabled-version = tls1.3\n')
    const uri = `nbds://alice@localhost:${running.port('tls')}/disk?tls-psk-file=${join(dir, 'keys.psk')}`
    await runOk(['nbdinfo', uri], { env: { GNUTLS_SYSTEM_PRIORITY_FILE: priorities } })
    expect(await running.waitForLog(line => line.msg === 'session opened')).toMatchObject({
      who: 'psk:alice',
      cipher: 'TLSv1.2 TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256',
    })
  })

  test('refuses a wrong key and an unknown name, in the same way', async ({ dir, pki, gateway }) => {
    const running = await serve({ dir, pki, gateway })
    const port = running.port('tls')
    const wrong = join(dir, 'wrong.psk')
    await writeFile(wrong, `alice:${'42'.repeat(32)}\ncarol:${'42'.repeat(32)}\n`)
    const told = []
    for (const user of ['alice', 'carol']) {
      const { code, stderr } = await nbdinfo(port, user, wrong)
      expect(code).not.toBe(0)
      told.push(stderr.replaceAll(user, 'USER'))
      const line = await running.waitForLog(
        ({ msg, err }) => msg === 'tls failed' && JSON.stringify(err).includes(user),
      )
      expect(line).toMatchObject({ reason: 'wrong key' })
    }
    expect(told[0]).toBe(told[1])
  })

  test('ends the session of a key that is taken out or changed, and no other', async ({ dir, pki, gateway }) => {
    const running = await serve({ dir, pki, gateway })
    const keys = join(dir, 'keys.psk')
    const [alice = '', bob = ''] = readFileSync(keys, 'utf8').trim().split('\n')
    const enter = async (line: string) => {
      const [identity = '', hex = ''] = line.split(':')
      const client = await greeted({ host: '127.0.0.1', port: running.port('tls') })
      const psk = Buffer.from(hex, 'hex')
      await client.startTls({ pskCallback: () => ({ psk, identity }), checkServerIdentity: () => undefined })
      expect((await client.option(Opt.GO, infoData('disk'))).at(-1)?.type).toBe(Rep.ACK)
      return client
    }
    const sessions = { alice: await enter(alice), bob: await enter(bob) }
    await writeFile(`${keys}.new`, `${alice}\nbob:${'42'.repeat(32)}\n`, { mode: 0o600 })
    await rename(`${keys}.new`, keys)
    const ended = await running.waitForLog(line => line.msg === 'session ended')
    expect(ended).toMatchObject({ who: 'psk:bob', why: 'no longer allowed: psk: wrong key' })
    await sessions.bob.closed()
    sessions.alice.request(Cmd.READ, 7n, 0n, 512)
    expect(await sessions.alice.simpleReply(512)).toMatchObject({ error: 0, cookie: 7n })
    // A file that is broken changes nothing.
    await writeFile(`${keys}.new`, 'alice:c0ffee\n', { mode: 0o600 })
    await rename(`${keys}.new`, keys)
    await running.waitForLog(line => String(line.msg).startsWith('reload failed'))
    expect(running.stderr()).not.toContain('c0ffee')
    sessions.alice.request(Cmd.READ, 8n, 0n, 512)
    expect(await sessions.alice.simpleReply(512)).toMatchObject({ error: 0, cookie: 8n })
  })

  test('does not let anybody in who has neither key nor certificate', async ({ dir, pki, gateway }) => {
    const running = await serve({ dir, pki, gateway })
    const bare = join(dir, 'bare')
    await runOk(['mkdir', bare])
    await runOk(['cp', pki.ca.cert, join(bare, 'ca-cert.pem')])
    expect((await run(['nbdinfo', nbdsUri(running.port('tls'), 'disk', { dir: bare })])).code).not.toBe(0)
    expect(await running.waitForLog(line => line.msg === 'tls failed')).toMatchObject({ reason: 'no certificate' })
  })

  test('can be a door for keys alone: a certificate opens nothing there', async ({ dir, pki, gateway }) => {
    const disk = join(dir, 'disk.img')
    await writeFile(disk, Buffer.alloc(1024 * 1024))
    const { 'client-ca': _, ...door } = tlsDoor(pki, { psk: await makeKeys(dir) })
    const allow = [{ who: 'psk:alice', rights: 'read' }]
    const running = await gateway(config([door], [{ name: 'disk', upstream: { file: disk }, allow }]))
    const port = running.port('tls')
    expect(await nbdinfo(port, 'alice', join(dir, 'keys.psk'))).toMatchObject({ code: 0 })
    expect((await run(['nbdinfo', nbdsUri(port, 'disk', pki.alice)])).code).not.toBe(0)
    expect(await running.waitForLog(line => line.msg === 'tls failed')).toMatchObject({ reason: 'no certificate' })
  })

  describe('nbdgate check', () => {
    const check = (file: string) => run([process.execPath, MAIN, 'check', file])

    async function written(dir: string, pki: TestPki, keys: string): Promise<string> {
      await writeFile(join(dir, 'keys.psk'), keys, { mode: 0o600 })
      const file = join(dir, 'nbdgate.yaml')
      const door = tlsDoor(pki, { psk: 'keys.psk' })
      await writeFile(file, config([door], [{ name: 'disk', upstream: { file: 'x' }, allow: [] }]))
      return file
    }

    test('names the line of the key file that is broken', async ({ dir, pki }) => {
      const file = await written(dir, pki, `alice:${'00'.repeat(16)}\nbob:c0ffee\n`)
      const { code, stderr } = await check(file)
      expect(code).toBe(2)
      expect(stderr).toMatch(
        /nbdgate\.yaml:\d+:\d+: .*keys\.psk:2: the key has 3 bytes: it needs 16, and psktool makes 32\n/,
      )
      expect(stderr).not.toContain('c0ffee')
    })

    test('refuses a key file that everybody may read', async ({ dir, pki }) => {
      const file = await written(dir, pki, `alice:${'00'.repeat(16)}\n`)
      await chmod(join(dir, 'keys.psk'), 0o644)
      expect(await check(file)).toMatchObject({ code: 2, stderr: expect.stringContaining('chmod 600 it') })
    })
  })
})
