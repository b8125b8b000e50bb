// Who comes in, and what for: certificates, addresses and user ids against real clients.
import { chmod, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { ConnectionOptions } from 'node:tls'
import { describe, expect } from 'vitest'
import { Cmd, Err, Opt, Rep } from '../../src/protocol/constants.ts'
import { seededFile } from '../support/disk.ts'
import { test as base } from '../support/fixtures.ts'
import { run, runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { allow, config, type Entry, tcpDoor, tlsDoor, tlsOptions } from './configs.ts'
import { dial, exportInfo, greeted, infoData, type RawClient, told, u32 } from './raw-client.ts'

const HOST = '127.0.0.1'
const SECOND_MS = 1000
const MINUTES_PER_DAY = 1440
const READ_ONLY = 1 << 1

/** Exports by name, each with these rules, on one nbd-server. */
type Rules = Readonly<Record<string, Entry>>

const test = base.extend('exports', async ({ dir, nbdServer }) => {
  return async (rules: Rules): Promise<Entry[]> => {
    const file = await seededFile(join(dir, 'disk.img'), 1)
    const names = Object.keys(rules)
    const server = await nbdServer({
      exports: Object.fromEntries(names.map(name => [name, { file, flush: true, extra: 'trim = true' }])),
    })
    return names.map(name => ({ name, upstream: server.uri(name), ...rules[name] }))
  }
})

const ALICE_AND_BOB = { disk: { allow: [allow('alice', 'write'), allow('bob', 'read')] } }

async function go(client: RawClient, name: string): Promise<number | undefined> {
  return (await client.option(Opt.GO, infoData(name))).at(-1)?.type
}

/** A visitor inside TLS. */
async function secured(port: number, options: ConnectionOptions): Promise<RawClient> {
  const client = await greeted({ host: HOST, port })
  await client.startTls(options)
  return client
}

/** Tries to come in; what the server sent after the handshake. With TLS 1.3 the client's part of that always works. */
async function turnedDown(port: number, options: ConnectionOptions): Promise<Buffer> {
  const client = await greeted({ host: HOST, port })
  await client.startTls(options).catch(() => {})
  return await client.closed()
}

/** Runs commands of qemu-io on export `disk`, with these certificates. */
async function qemuIo(port: number, leaf: { readonly dir: string }, ...args: string[]): Promise<string> {
  const credentials = `tls-creds-x509,id=tls0,dir=${leaf.dir},endpoint=client`
  const image = `driver=nbd,server.type=inet,server.host=localhost,server.port=${port},export=disk,tls-creds=tls0`
  return await runOk(['qemu-io', '--object', credentials, ...args, '--image-opts', image])
}

requires('nbd-server', 'qemu-io')('rights of a certificate', () => {
  test('alice writes, and bob reads what she wrote', async ({ exports, gateway, pki }) => {
    const running = await gateway(config([tlsDoor(pki)], await exports(ALICE_AND_BOB)))
    const port = running.port('tls')
    await qemuIo(port, pki.alice, '-c', 'write -P 0xa5 1000 10', '-c', 'flush')
    expect(await qemuIo(port, pki.bob, '-r', '-c', 'read -P 0xa5 1000 10')).toMatch(/^read 10\/10 bytes/)
    const opened = (who: string) => running.waitForLog(line => line.msg === 'session opened' && line.who === who)
    expect(await opened('cert:cn=alice')).toMatchObject({ export: 'disk', rights: 'write', door: 'tls' })
    expect(await opened('cert:cn=bob')).toMatchObject({ export: 'disk', rights: 'read', door: 'tls' })
  })

  test('who may read and writes all the same gets EPERM, and goes on', async ({ exports, gateway, pki }) => {
    const port = (await gateway(config([tlsDoor(pki)], await exports(ALICE_AND_BOB)))).port('tls')
    const bob = await secured(port, tlsOptions(pki.bob))
    const { flags } = exportInfo(await bob.option(Opt.GO, infoData('disk')))
    expect(flags & READ_ONLY).toBe(READ_ONLY)
    const content = async (cookie: bigint) => {
      bob.request(Cmd.READ, cookie, 0n, 65536)
      return (await bob.simpleReply(65536)).data
    }
    const before = await content(1n)
    bob.request(Cmd.WRITE, 2n, 0n, 65536, Buffer.alloc(65536))
    bob.request(Cmd.TRIM, 3n, 0n, 65536)
    bob.request(Cmd.WRITE_ZEROES, 4n, 0n, 65536)
    for (const cookie of [2n, 3n, 4n]) expect(await bob.simpleReply()).toMatchObject({ error: Err.PERM, cookie })
    expect(await content(5n)).toEqual(before)
    bob.request(Cmd.FLUSH, 6n, 0n, 0)
    expect(await bob.simpleReply()).toMatchObject({ error: 0, cookie: 6n })
    await bob.disconnect()
  })

  test('a valid certificate without a rule opens nothing and shows nothing', async ({ exports, gateway, pki }) => {
    const running = await gateway(config([tlsDoor(pki)], await exports(ALICE_AND_BOB)))
    const client = await secured(running.port('tls'), tlsOptions(pki.client('carol')))
    expect(await client.option(Opt.LIST)).toMatchObject([{ type: Rep.ACK }])
    expect(await go(client, 'disk')).toBe(Rep.ERR_UNKNOWN)
    const line = await running.waitForLog(({ msg }) => msg === 'refused')
    expect(line).toMatchObject({ who: 'cert:cn=carol', export: 'disk', level: 'warn' })
  })

  test('deny beats allow, and a rule ends at its moment', async ({ exports, gateway, pki }) => {
    const rules = {
      denied: { allow: [{ who: 'anyone', rights: 'write' }], deny: ['cert:cn=alice'] },
      past: { allow: [{ ...allow('alice', 'write'), until: '2020-01-01T00:00:00Z' }] },
      fading: { allow: [{ ...allow('alice', 'write'), until: '2020-01-01T00:00:00Z' }, allow('alice', 'read')] },
      future: { allow: [{ ...allow('alice', 'write'), until: '2999-01-01T00:00:00Z' }] },
    }
    const port = (await gateway(config([tlsDoor(pki)], await exports(rules)))).port('tls')
    const alice = await secured(port, tlsOptions(pki.alice))
    expect(await go(alice, 'denied')).toBe(Rep.ERR_UNKNOWN)
    expect(await go(alice, 'past')).toBe(Rep.ERR_UNKNOWN)
    const flagsOf = async (name: string) => exportInfo(await alice.option(Opt.INFO, infoData(name))).flags
    expect((await flagsOf('fading')) & READ_ONLY).toBe(READ_ONLY)
    expect((await flagsOf('future')) & READ_ONLY).toBe(0)
    expect(await go(await secured(port, tlsOptions(pki.bob)), 'denied')).toBe(Rep.ACK)
  })
})

requires('nbd-server')('a certificate that is not accepted', () => {
  test.for([
    ['of another authority', 'unknown CA'],
    ['that is missing', 'no certificate'],
    ['that has expired', 'expired'],
    ['that is not valid yet', 'not yet valid'],
    ['meant for servers', 'wrong purpose'],
  ] as const)('%s ends the connection, and the log says: %s', async ([_title, reason], { exports, gateway, pki }) => {
    const minutesFromNow = (minutes: number) => new Date(Date.now() + minutes * 60 * SECOND_MS)
    const { cert: _cert, key: _key, ...nothing } = tlsOptions(pki.alice)
    const comes: Record<typeof reason, () => ConnectionOptions> = {
      'unknown CA': () => tlsOptions(pki.mallory),
      'no certificate': () => nothing,
      // Inside the life of its authority, which begins five minutes before it was made.
      expired: () => tlsOptions(pki.client('late', { now: minutesFromNow(-4), days: 1 / MINUTES_PER_DAY })),
      'not yet valid': () => tlsOptions(pki.client('early', { now: minutesFromNow(MINUTES_PER_DAY) })),
      'wrong purpose': () => tlsOptions(pki.server),
    }
    const anyone = { disk: { allow: [{ who: 'anyone', rights: 'write' }] } }
    const running = await gateway(config([tlsDoor(pki)], await exports(anyone)))
    const certificate = comes[reason]()
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const options: ConnectionOptions = { ...certificate, minVersion: version, maxVersion: version }
      expect(await turnedDown(running.port('tls'), options)).toHaveLength(0)
    }
    const lines = () => running.log().filter(({ msg }) => msg === 'tls failed')
    await running.waitForLog(() => lines().length === 2)
    expect(lines().map(line => line.reason)).toEqual([reason, reason])
    expect(lines()[0]).toMatchObject({ level: 'warn', peer: expect.stringContaining(`${HOST}:`) })
    // Nothing but the certificate was wrong.
    expect(await go(await secured(running.port('tls'), tlsOptions(pki.alice)), 'disk')).toBe(Rep.ACK)
  })
})

requires(
  'nbd-server',
  'nbd-client',
  'nbdinfo',
)('TLS itself', () => {
  test('nbd-client, which speaks TLS 1.2 only, gets its list', async ({ exports, gateway, pki }) => {
    const running = await gateway(config([tlsDoor(pki)], await exports(ALICE_AND_BOB)))
    const files = ['-certfile', pki.alice.cert, '-keyfile', pki.alice.key, '-cacertfile', pki.alice.ca]
    const where = [HOST, String(running.port('tls')), '-tlshostname', 'localhost']
    expect(await runOk(['nbd-client', '-l', ...where, ...files])).toContain('\ndisk\n')
  })

  test('TLS 1.2 with an AEAD suite is good enough; older versions and CBC are not', async ({
    exports,
    gateway,
    pki,
  }) => {
    const running = await gateway(config([tlsDoor(pki)], await exports(ALICE_AND_BOB)))
    const port = running.port('tls')
    const only = (version: 'TLSv1.1' | 'TLSv1.2', ciphers: string): ConnectionOptions => {
      return { ...tlsOptions(pki.alice), minVersion: version, maxVersion: version, ciphers }
    }
    const good = await greeted({ host: HOST, port })
    const socket = await good.startTls(only('TLSv1.2', 'ECDHE-ECDSA-AES128-GCM-SHA256'))
    expect(socket.getProtocol()).toBe('TLSv1.2')
    expect(await go(good, 'disk')).toBe(Rep.ACK)
    expect(await turnedDown(port, only('TLSv1.1', 'DEFAULT@SECLEVEL=0'))).toHaveLength(0)
    expect(await turnedDown(port, only('TLSv1.2', 'ECDHE-ECDSA-AES128-SHA256'))).toHaveLength(0)
    const failed = () => running.log().filter(line => line.reason === 'handshake failed')
    await running.waitForLog(() => failed().length === 2)
  })

  test.for(['TLSv1.2', 'TLSv1.3'] as const)(
    'a session of %s can not be resumed',
    async (version, { exports, gateway, pki }) => {
      const running = await gateway(config([tlsDoor(pki)], await exports(ALICE_AND_BOB)))
      const address = { host: HOST, port: running.port('tls') }
      const options = { ...tlsOptions(pki.alice), minVersion: version, maxVersion: version }
      const first = await greeted(address)
      const socket = await first.startTls(options)
      let session: Buffer | undefined
      // TLS 1.3 sends tickets after the handshake; those of an OpenSSL without tickets name a cache that there is not.
      socket.on('session', (ticket: Buffer) => {
        session = ticket
      })
      expect(await go(first, 'disk')).toBe(Rep.ACK)
      session ??= socket.getSession()
      await first.disconnect()
      const second = await greeted(address)
      const resumed = await second.startTls({ ...options, ...(session === undefined ? {} : { session }) })
      expect(resumed.isSessionReused()).toBe(false)
      expect(await go(second, 'disk')).toBe(Rep.ACK)
    },
  )

  test('a forced door gives nothing away in plaintext', async ({ exports, gateway, pki }) => {
    const anyone = { disk: { allow: [{ who: 'anyone', rights: 'write' }] } }
    const port = (await gateway(config([tlsDoor(pki)], await exports(anyone)))).port('tls')
    const client = await greeted({ host: HOST, port })
    for (const option of [Opt.LIST, Opt.STRUCTURED_REPLY, Opt.SET_META_CONTEXT, 99]) {
      expect(await client.option(option)).toMatchObject([{ type: Rep.ERR_TLS_REQD }])
    }
    for (const option of [Opt.INFO, Opt.GO]) {
      for (const name of ['disk', 'nothing']) {
        expect(await client.option(option, infoData(name))).toMatchObject([{ type: Rep.ERR_TLS_REQD }])
      }
    }
    expect(await client.option(Opt.ABORT)).toMatchObject([{ type: Rep.ACK }])
    const old = await greeted({ host: HOST, port })
    old.write(Buffer.from('IHAVEOPT'), u32(Opt.EXPORT_NAME), u32(4), Buffer.from('disk'))
    expect(await old.closed()).toHaveLength(0)
    const plain = await run(['nbdinfo', `nbd://localhost:${port}/disk?tls-certificates=/nonexistent`])
    expect(plain.code).not.toBe(0)
  })

  test('a selective door shows in plaintext what may go in plaintext', async ({ exports, gateway, pki }) => {
    const rules = {
      open: { allow: [{ who: 'address:127.0.0.1/32', rights: 'read' }] },
      secret: { allow: [{ who: 'anyone', rights: 'write' }], doors: ['tls'] },
    }
    const doors = [tlsDoor(pki, { mode: 'selective' })]
    const port = (await gateway(config(doors, await exports(rules)))).port('tls')
    const client = await greeted({ host: HOST, port })
    const names = async () =>
      (await client.option(Opt.LIST))
        .filter(({ type }) => type === Rep.SERVER)
        .map(({ data }) => data.subarray(4).toString())
    expect(await names()).toEqual(['open'])
    const secret = told(await client.option(Opt.GO, infoData('secret')))
    expect(secret).toEqual(told(await client.option(Opt.GO, infoData('nothing'))))
    expect(secret).toEqual([expect.stringMatching(/^80000005 /)])
    expect(await go(await greeted({ host: HOST, port }), 'open')).toBe(Rep.ACK)
    await client.startTls(tlsOptions(pki.alice))
    expect(await names()).toEqual(['open', 'secret'])
    expect(await go(client, 'nothing')).toBe(Rep.ERR_UNKNOWN)
    expect(await go(client, 'secret')).toBe(Rep.ACK)
  })
})

requires('nbd-server', 'nbdinfo')('other doors', () => {
  test('a tcp door closes at accept on who comes from elsewhere', async ({ exports, gateway }) => {
    const anyone = { disk: { allow: [{ who: 'anyone', rights: 'write' }] } }
    const doors = [tcpDoor({ from: ['192.0.2.0/24', '2001:db8::/32'] })]
    const running = await gateway(config(doors, await exports(anyone)))
    const client = await dial({ host: HOST, port: running.port('tcp') })
    expect(await client.closed()).toHaveLength(0)
    expect(await running.waitForLog(({ msg }) => msg === 'turned away')).toMatchObject({ reason: 'from' })
  })

  test('a tcp door has no TLS to offer', async ({ exports, gateway }) => {
    const anyone = { disk: { allow: [{ who: 'anyone', rights: 'write' }] } }
    const port = (await gateway(config([tcpDoor()], await exports(anyone)))).port('tcp')
    const client = await greeted({ host: HOST, port })
    expect(await client.option(Opt.STARTTLS)).toMatchObject([{ type: Rep.ERR_POLICY }])
    expect(await go(client, 'disk')).toBe(Rep.ACK)
  })

  describe.runIf(process.getuid?.() === 0)('the unix door', () => {
    const NOBODY = 65534

    test('knows its visitor by user id', async ({ exports, gateway, dir }) => {
      const rules = {
        ours: { allow: [{ who: 'uid:0', rights: 'write' }] },
        theirs: { allow: [{ who: `uid:${NOBODY}`, rights: 'read' }] },
      }
      await gateway(config([{ unix: './nbd.sock', mode: '0666' }], await exports(rules)))
      await chmod(dir, 0o711)
      const socket = join(dir, 'nbd.sock')
      const nbdinfo = async (uid: number, name: string) => {
        const as = ['setpriv', `--reuid=${uid}`, '--clear-groups']
        return (await run([...as, 'nbdinfo', `nbd+unix:///${name}?socket=${socket}`])).code
      }
      expect(await nbdinfo(0, 'ours')).toBe(0)
      expect(await nbdinfo(0, 'theirs')).toBe(1)
      expect(await nbdinfo(NOBODY, 'ours')).toBe(1)
      expect(await nbdinfo(NOBODY, 'theirs')).toBe(0)
    })

    test('lets in whom its mode lets in', async ({ exports, gateway, dir }) => {
      const anyone = { disk: { allow: [{ who: 'anyone', rights: 'write' }] } }
      await gateway(config([{ unix: './nbd.sock', mode: '0600' }], await exports(anyone)))
      await chmod(dir, 0o711)
      const socket = join(dir, 'nbd.sock')
      expect((await stat(socket)).mode & 0o777).toBe(0o600)
      const uri = `nbd+unix:///disk?socket=${socket}`
      const other = await run(['setpriv', `--reuid=${NOBODY}`, '--clear-groups', 'nbdinfo', uri])
      expect(other).toMatchObject({ code: 1, stderr: expect.stringContaining('Permission denied') })
      expect(await runOk(['nbdinfo', '--size', uri])).toBe('1048576\n')
    })
  })
})
