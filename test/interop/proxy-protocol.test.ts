// Behind a balancer and in front of one: HAProxy as the real sender and receiver, with the real clients over TLS and SSH.
// The loopback's addresses are the hosts: clients at 127.0.0.1 and 127.0.0.3, the balancer at 127.0.0.2.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import type { ConnectionOptions } from 'node:tls'
import { expect } from 'vitest'
import { Opt, Rep } from '../../src/protocol/constants.ts'
import { seededFile, sha256 } from '../support/disk.ts'
import type { RunningGateway } from '../support/gateway.ts'
import { type Balancer, type BalancerOptions, startBalancer } from '../support/haproxy.ts'
import { run, runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { waitFor } from '../support/wait.ts'
import { config, type Entry, nbdsUri, tcpDoor, tlsDoor, tlsOptions } from './configs.ts'
import { infoData, RawClient } from './raw-client.ts'
import { test as withSsh } from './ssh-support.ts'

/** Which of them depends on whether the end or the reset is seen first. */
const GONE = ['visitor gone', 'visitor left']
const BALANCER = '127.0.0.2'
const BEHIND: Entry = { 'proxy-protocol': [BALANCER] }
const SENDERS = { v1: 'send-proxy', v2: 'send-proxy-v2' } as const

const test = withSsh
  .extend('balancer', async ({ dir }, { onCleanup }) => {
    const running: Balancer[] = []
    onCleanup(async () => {
      for (const { process } of running) await process.stop()
    })
    return async (options: BalancerOptions): Promise<Balancer> => {
      const started = await startBalancer(dir, `haproxy-${running.length}`, options)
      running.push(started)
      return started
    }
  })
  /** Connections that a test dials by hand, closed after it. */
  .extend('dial', async ({}, { onCleanup }) => {
    const sockets: Socket[] = []
    onCleanup(() => {
      for (const socket of sockets) socket.destroy()
    })
    return async (port: number, localAddress: string): Promise<{ client: RawClient; port: number | undefined }> => {
      const socket = connect({ host: '127.0.0.1', port, localAddress })
      sockets.push(socket)
      await once(socket, 'connect')
      return { client: new RawClient(socket), port: socket.localPort }
    }
  })
  /** An export of the real nbd-server, with these rules. */
  .extend('served', async ({ disk, nbdServer }) => {
    return async (...allow: readonly Entry[]): Promise<Entry> => {
      const server = await nbdServer({ exports: { disk: { file: disk, flush: true, fua: true } } })
      return { name: 'disk', upstream: server.uri('disk'), allow }
    }
  })

/** Copies out and in again, other content, by nbdcopy with several connections. */
async function expectBothWays(dir: string, disk: string, uri: string): Promise<void> {
  const copy = join(dir, 'copy.img')
  await runOk(['nbdcopy', uri, copy])
  expect(await sha256(copy)).toBe(await sha256(disk))
  const other = await seededFile(join(dir, 'other.img'), 16, 2)
  await runOk(['nbdcopy', '--flush', other, uri])
  expect(await sha256(disk)).toBe(await sha256(other))
}

/** Waits for so many lines of one message; each that is there has the client as its peer and the balancer as its way. */
async function passedOn(gateway: RunningGateway, msg: string, count: number, client = '127.0.0.1'): Promise<void> {
  const lines = () => gateway.log().filter(line => line.msg === msg)
  await waitFor(`${count} × ${msg}`, () => lines().length >= count, { describe: gateway.stderr })
  for (const line of lines()) {
    expect(line.peer).toMatch(new RegExp(`^${client.replaceAll('.', '\\.')}:\\d+$`))
    expect(line.via).toMatch(/^127\.0\.0\.2:\d+$/)
  }
}

async function goes(client: RawClient): Promise<number | undefined> {
  await client.greet()
  return (await client.option(Opt.GO, infoData('disk'))).at(-1)?.type
}

requires(
  'haproxy',
  'nbd-server',
  'nbdinfo',
  'nbdcopy',
  'ssh',
  'ssh-keygen',
)('behind HAProxy', () => {
  for (const [version, server] of Object.entries(SENDERS)) {
    test(`TLS with ${version}: rules, log and audit see the client`, async ({
      dir,
      disk,
      pki,
      served,
      gateway,
      balancer,
    }) => {
      const entry = await served({ who: ['cert:cn=alice', 'address:127.0.0.1'], rights: 'write' })
      const running = await gateway(config([tlsDoor(pki, BEHIND)], [entry], { state: './state' }))
      const { port } = await balancer({ port: running.port('tls'), server })
      await runOk(['nbdinfo', nbdsUri(port, 'disk', pki.alice)])
      await expectBothWays(dir, disk, nbdsUri(port, 'disk', pki.alice))
      expect((await run(['nbdinfo', nbdsUri(port, 'disk', pki.bob)])).code).not.toBe(0)
      await passedOn(running, 'session opened', 3)
      await passedOn(running, 'refused', 1)
      const trail = readFileSync(join(dir, 'state', 'audit.jsonl'), 'utf8')
        .trim()
        .split('\n')
      const kept = trail.map(text => JSON.parse(text)).filter(record => record.kind === 'session opened')
      expect(kept.length).toBeGreaterThanOrEqual(3)
      for (const record of kept) {
        expect(record).toMatchObject({
          peer: expect.stringMatching(/^127\.0\.0\.1:/),
          via: expect.stringMatching(/^127\.0\.0\.2:/),
        })
      }
    })

    test(`SSH with ${version}: from=, log and rules see the client`, async ({
      dir,
      disk,
      files,
      served,
      gateway,
      balancer,
      tunnel,
    }) => {
      const key = await files.key('user')
      files.authorize(`from="127.0.0.3" ${files.publicKey('user')}`)
      const entry = await served({ who: ['ssh:user=bob', 'address:127.0.0.3'], rights: 'write' })
      const running = await gateway(config([files.door(BEHIND)], [entry]))
      const { port } = await balancer({ port: running.port('ssh'), server })
      const socket = join(dir, 'l.sock')
      const from = (address: string) => ({ port, key, options: ['-o', `BindAddress=${address}`] })
      expect((await run(files.argv(from('127.0.0.4'), 'nbd'), { input: '' })).code).toBe(255)
      await running.waitForLog(({ msg, peer }) => msg === 'ssh login failed' && /^127\.0\.0\.4:/.test(String(peer)))
      await tunnel(from('127.0.0.3'), { [socket]: '/exports/disk' })
      await runOk(['nbdinfo', `nbd+unix:///?socket=${socket}`])
      await expectBothWays(dir, disk, `nbd+unix:///?socket=${socket}`)
      await passedOn(running, 'ssh login', 1, '127.0.0.3')
      await passedOn(running, 'session opened', 3, '127.0.0.3')
    })

    test(`plain TCP with ${version}: \`from\` and limits see each client`, async ({
      served,
      gateway,
      balancer,
      dial,
    }) => {
      const entry = await served({ who: 'anyone', rights: 'read' })
      const door = tcpDoor({ from: ['127.0.0.1', '127.0.0.3'], ...BEHIND })
      const limits = { 'sessions-per-address': 2 }
      const running = await gateway(config([door], [entry], { limits }))
      const { port } = await balancer({ port: running.port('tcp'), server })
      const first = await dial(port, '127.0.0.1')
      expect(await goes(first.client)).toBe(Rep.ACK)
      const opened = await running.waitForLog(({ msg }) => msg === 'session opened')
      expect(opened).toMatchObject({ peer: `127.0.0.1:${first.port}`, who: 'address:127.0.0.1' })
      expect(await goes((await dial(port, '127.0.0.1')).client)).toBe(Rep.ACK)
      for (const address of ['127.0.0.3', '127.0.0.3']) {
        expect(await goes((await dial(port, address)).client)).toBe(Rep.ACK)
      }
      const third = await dial(port, '127.0.0.1')
      expect(await third.client.closed()).toHaveLength(0)
      const stranger = await dial(port, '127.0.0.4')
      expect(await stranger.client.closed()).toHaveLength(0)
      const turned = () => running.log().filter(({ msg }) => msg === 'turned away')
      await waitFor('both are logged', () => turned().length >= 2)
      expect(turned()).toMatchObject([
        { peer: `127.0.0.1:${third.port}`, reason: 'sessions-per-address', via: expect.stringMatching(BALANCER) },
        { peer: `127.0.0.4:${stranger.port}`, reason: 'from', via: expect.stringMatching(BALANCER) },
      ])
    })

    test(`health checks with ${version} are visits of the balancer, and take nothing`, async ({
      served,
      gateway,
      balancer,
      dial,
    }) => {
      const entry = await served({ who: 'anyone', rights: 'read' })
      const more = { log: { level: 'debug' }, limits: { sessions: 3 } }
      const running = await gateway(config([tcpDoor(BEHIND)], [entry], more))
      const { port } = await balancer({ port: running.port('tcp'), server: `${server} check inter 50ms` })
      const checks = () =>
        running.log().filter(({ msg, peer }) => GONE.includes(String(msg)) && String(peer).startsWith(`${BALANCER}:`))
      await waitFor('health checks', () => checks().length >= 5, { describe: running.stderr })
      expect(await goes((await dial(port, '127.0.0.1')).client)).toBe(Rep.ACK)
      expect(running.log().filter(({ msg }) => msg === 'turned away')).toEqual([])
    })
  }

  test('a balancer that sends no header is cut off, and says so in the log', async ({
    pki,
    served,
    gateway,
    balancer,
  }) => {
    const running = await gateway(config([tlsDoor(pki, BEHIND)], [await served()]))
    const { port } = await balancer({ port: running.port('tls') })
    const socket = connect({ host: '127.0.0.1', port })
    socket.write('IHAVEOPT')
    socket.on('error', () => {})
    socket.resume()
    await once(socket, 'close')
    expect(await running.waitForLog(({ msg }) => msg === 'turned away')).toMatchObject({
      peer: expect.stringMatching(BALANCER),
      reason: 'proxy header',
      code: 'BAD_MAGIC',
    })
  })

  test('a header from an address that is not listed is garbage, and without one it comes in', async ({
    pki,
    served,
    gateway,
    dial,
  }) => {
    const entry = await served({ who: 'cert:cn=alice', rights: 'read' })
    const running = await gateway(config([tlsDoor(pki, BEHIND)], [entry]))
    const { client } = await dial(running.port('tls'), '127.0.0.3')
    client.write(Buffer.from('PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n'))
    await client.closed()
    expect(await running.waitForLog(({ msg }) => msg === 'protocol broken')).toMatchObject({
      peer: expect.stringMatching(/^127\.0\.0\.3:/),
    })
    await runOk(['nbdinfo', nbdsUri(running.port('tls'), 'disk', pki.alice)])
    const opened = running.log().find(({ msg }) => msg === 'session opened')
    expect(opened).toMatchObject({ peer: expect.stringMatching(/^127\.0\.0\.1:/) })
    expect(opened).not.toHaveProperty('via')
  })
})

requires(
  'haproxy',
  'nbd-server',
  'nbdinfo',
  'nbdcopy',
)('an upstream with proxy-protocol: v2', () => {
  for (const inner of ['tcp', 'tls'] as const) {
    test(`a second gateway, ${inner}, behind HAProxy and a first one, sees the client`, async ({
      dir,
      disk,
      pki,
      served,
      gateway,
      balancer,
    }) => {
      const far = { 'proxy-protocol': ['127.0.0.1'] }
      const entry = await served({ who: 'anyone', rights: 'write' })
      const doors = [inner === 'tcp' ? tcpDoor(far) : tlsDoor(pki, far)]
      const second = await gateway(config(doors, [entry]))
      const material = { ca: pki.ca.cert, cert: pki.bob.cert, key: pki.bob.key }
      const uri = `${inner === 'tcp' ? 'nbd' : 'nbds'}://localhost:${second.port(inner)}/disk`
      const upstream = { uri, 'proxy-protocol': 'v2', ...(inner === 'tcp' ? {} : material) }
      const allow = [{ who: 'cert:cn=alice', rights: 'write' }]
      const first = await gateway(config([tlsDoor(pki, BEHIND)], [{ name: 'disk', upstream, allow }]))
      const { port } = await balancer({ port: first.port('tls'), server: 'send-proxy' })
      await runOk(['nbdinfo', nbdsUri(port, 'disk', pki.alice)])
      await expectBothWays(dir, disk, nbdsUri(port, 'disk', pki.alice))
      const opened = (running: RunningGateway) => running.log().filter(({ msg }) => msg === 'session opened')
      // By address and port. A client that asks for contexts first may take more than one connection to the second.
      const peers = (running: RunningGateway) => new Set(opened(running).map(({ peer }) => String(peer)))
      await waitFor('the same clients in both', () => peers(first).size === peers(second).size)
      expect(peers(second).size).toBeGreaterThanOrEqual(3)
      expect(peers(second)).toEqual(peers(first))
      for (const { via } of opened(second)) expect(via).toMatch(/^127\.0\.0\.1:/)
    })
  }

  test('HAProxy with accept-proxy reads who the client is', async ({
    dir,
    disk,
    pki,
    nbdServer,
    gateway,
    balancer,
  }) => {
    const server = await nbdServer({ exports: { disk: { file: disk, flush: true } } })
    const receiver = await balancer({ port: server.port, bind: 'accept-proxy' })
    const upstream = { uri: `nbd://127.0.0.1:${receiver.port}/disk`, 'proxy-protocol': 'v2' }
    const entry = { name: 'disk', upstream, allow: [{ who: 'cert:cn=alice', rights: 'write' }] }
    const running = await gateway(config([tlsDoor(pki)], [entry]))
    await expectBothWays(dir, disk, nbdsUri(running.port('tls'), 'disk', pki.alice))
    const peers = running
      .log()
      .filter(({ msg }) => msg === 'session opened')
      .map(({ peer }) => String(peer).replace(':', ' '))
    expect(peers.length).toBeGreaterThanOrEqual(2)
    const logged = (): string => receiver.process.stdout()
    await waitFor('the log of HAProxy', () => peers.every(peer => logged().includes(peer)), { describe: logged })
  })

  for (const [version, certificate, cipher] of [
    ['TLSv1.3', 'alice', 'TLS_AES_128_GCM_SHA256'],
    ['TLSv1.2', 'alice', 'ECDHE-ECDSA-AES128-GCM-SHA256'],
    ['TLSv1.3', undefined, 'TLS_AES_128_GCM_SHA256'],
  ] as const) {
    test(`is told ${version}, the cipher and ${certificate ?? 'no certificate'} in front of NBD`, async ({
      pki,
      gateway,
      dial,
    }) => {
      const heard: Buffer[] = []
      const server = createServer(socket => socket.on('error', () => {}).on('data', chunk => heard.push(chunk)))
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      const address = server.address()
      const port = typeof address === 'object' ? address?.port : undefined
      const upstream = { uri: `nbd://127.0.0.1:${port}/disk`, 'proxy-protocol': 'v2' }
      const entry = { name: 'disk', upstream, allow: [{ who: 'address:127.0.0.3', rights: 'read' }] }
      const running = await gateway(config([tlsDoor(pki, { 'client-cert': 'optional' })], [entry]))
      const { client, port: own } = await dial(running.port('tls'), '127.0.0.3')
      await client.greet()
      const { ca, ...keys } = tlsOptions(pki.alice)
      const options: ConnectionOptions = certificate === undefined ? { servername: 'localhost' } : keys
      await client.startTls({ ...options, ...(ca === undefined ? {} : { ca }), maxVersion: version })
      client.write(Buffer.from('IHAVEOPT'), Buffer.from([0, 0, 0, 7, 0, 0, 0, 10]), infoData('disk'))
      await waitFor('a header', () => Buffer.concat(heard).length >= 16)
      server.close()
      const [header, facts] = headerOf(Buffer.concat(heard))
      // A server of NBD speaks first: of NBD there is nothing yet.
      expect(header.rest).toHaveLength(0)
      expect(header).toMatchObject({ source: '127.0.0.3', destination: '127.0.0.1', sourcePort: own })
      expect(facts).toEqual({
        client: certificate === undefined ? 0x01 : 0x07,
        verify: certificate === undefined ? 1 : 0,
        33: version,
        35: cipher,
        ...(certificate === undefined ? {} : { 34: certificate }),
      })
    })
  }
})

/** A v2 header of IPv4 with PP2_TYPE_SSL alone, taken apart by hand. */
function headerOf(bytes: Buffer) {
  expect(bytes.toString('latin1', 0, 14)).toBe('\r\n\r\n\0\r\nQUIT\n\x21\x11')
  const end = 16 + bytes.readUInt16BE(14)
  const header = {
    source: bytes.subarray(16, 20).join('.'),
    destination: bytes.subarray(20, 24).join('.'),
    sourcePort: bytes.readUInt16BE(24),
    rest: bytes.subarray(end),
  }
  expect([bytes[28], bytes.readUInt16BE(29)]).toEqual([0x20, end - 31])
  const facts: Record<string, unknown> = { client: bytes[31], verify: bytes.readUInt32BE(32) }
  for (let at = 36; at < end; at += 3 + bytes.readUInt16BE(at + 1)) {
    facts[String(bytes[at])] = bytes.toString('utf8', at + 3, at + 3 + bytes.readUInt16BE(at + 1))
  }
  return [header, facts] as const
}
