import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Config } from '../../../src/config/config.ts'
import { ConfigError } from '../../../src/config/errors.ts'
import { loadConfig, parseConfig } from '../../../src/config/load.ts'

const FULL = `version: 1
state: ./state
log: { level: warn, file: gate.log }
doors:
  - tls: 0.0.0.0:10809
    mode: selective
    cert: ../certs/server-cert.pem
    key: /abs/server-key.pem
    client-ca: ca.pem
    crl: crl.pem
    client-cert: optional
  - tcp: "[fd00::1]:0"
    from: [10.8.0.0/24, "::ffff:10.9.0.0/112", fd00::/8]
  - unix: state/nbd.sock
    mode: "0660"
exports:
  - name: disk
    description: the lab's disk
    upstream: nbd+unix:///disk?socket=up.sock
    allow:
      - who: cert:cn=alice
        rights: write
      - who: [uid:7, address:10.0.0.0/8]
        rights: read
        until: 2027-01-01T01:00:00+01:00
    deny: [cert:cn=eve, [uid:8, gid:9]]
    doors: [tls, unix]
    limits: { sessions: 16 }
    sharing: single-writer
    when-busy: wait=30s
    holder: identity+address
    require-luks: true
    luks-at: 1MiB
    luks-format: true
  - name: ""
    upstream: { uri: "nbds://h/x", ca: ca.pem, cert: c.pem, key: k.pem }
  - name: file
    upstream: { file: images/disk.img }
limits:
  sessions: 10
  sessions-per-address: 2
  max-startups: "3:50:8"
  per-source-penalties: { authfail: 1s, invalid: 0s, max: 1h, exempt: [192.0.2.0/24] }
  negotiation: 5s
  idle: 1h
  drain: 5m
  in-flight-bytes: 16MiB
  in-flight-bytes-total: 2GiB
leases: { vanished-after: 10s }
`

describe('a configuration with every key', () => {
  const config = parseConfig(FULL, '/etc/nbdgate/nbdgate.yaml')

  test('has its paths made absolute from the folder of the file', () => {
    expect(config).toMatchObject({
      file: '/etc/nbdgate/nbdgate.yaml',
      state: '/etc/nbdgate/state',
      audit: { onFailure: 'refuse', rotateBytes: 64 * 1024 * 1024 },
      log: { level: 'warn', file: '/etc/nbdgate/gate.log' },
    })
  })

  test('has its doors with the lines that they begin on', () => {
    expect(config.doors).toEqual([
      {
        kind: 'tls',
        host: '0.0.0.0',
        port: 10809,
        mode: 'selective',
        cert: '/etc/certs/server-cert.pem',
        key: '/abs/server-key.pem',
        clientCa: '/etc/nbdgate/ca.pem',
        crl: '/etc/nbdgate/crl.pem',
        clientCert: 'optional',
        source: 'nbdgate.yaml:5',
      },
      {
        kind: 'tcp',
        host: 'fd00::1',
        port: 0,
        from: [
          { family: 4, network: 0x0a080000n, prefix: 24, text: '10.8.0.0/24' },
          { family: 4, network: 0x0a090000n, prefix: 16, text: '10.9.0.0/16' },
          { family: 6, network: 0xfdn << 120n, prefix: 8, text: 'fd00::/8' },
        ],
        source: 'nbdgate.yaml:12',
      },
      { kind: 'unix', path: '/etc/nbdgate/state/nbd.sock', mode: 0o660, source: 'nbdgate.yaml:14' },
    ])
  })

  test('has its exports with the lines of their rules', () => {
    expect(config.exports).toEqual([
      {
        name: 'disk',
        description: "the lab's disk",
        upstream: { kind: 'unix', path: '/etc/nbdgate/up.sock', export: 'disk', tls: false },
        allow: [
          { who: ['cert:cn=alice'], rights: 'write', source: 'nbdgate.yaml:21' },
          {
            who: ['uid:7', 'address:10.0.0.0/8'],
            rights: 'read',
            untilMs: 1_798_761_600_000,
            source: 'nbdgate.yaml:23',
          },
        ],
        deny: [
          { who: ['cert:cn=eve'], source: 'nbdgate.yaml:26' },
          { who: ['uid:8', 'gid:9'], source: 'nbdgate.yaml:26' },
        ],
        doors: ['tls', 'unix'],
        limits: { sessions: 16 },
        sharing: { mode: 'single-writer', whenBusy: { kind: 'wait', ms: 30_000 }, holder: 'identity+address' },
        luks: { atBytes: 1_048_576, mayFormat: true },
        outage: { reconnectMs: 60_000, replayBytes: 0 },
        source: 'nbdgate.yaml:17',
      },
      {
        name: '',
        upstream: {
          kind: 'tcp',
          host: 'h',
          port: 10809,
          export: 'x',
          tls: true,
          ca: '/etc/nbdgate/ca.pem',
          cert: '/etc/nbdgate/c.pem',
          key: '/etc/nbdgate/k.pem',
        },
        allow: [],
        deny: [],
        limits: {},
        sharing: { mode: 'readers-or-writer', whenBusy: { kind: 'refuse' }, holder: 'identity' },
        outage: { reconnectMs: 60_000, replayBytes: 0 },
        source: 'nbdgate.yaml:35',
      },
      {
        name: 'file',
        upstream: { kind: 'file', path: '/etc/nbdgate/images/disk.img' },
        allow: [],
        deny: [],
        limits: {},
        sharing: { mode: 'readers-or-writer', whenBusy: { kind: 'refuse' }, holder: 'identity' },
        outage: { reconnectMs: 60_000, replayBytes: 0 },
        source: 'nbdgate.yaml:37',
      },
    ])
  })

  test('has its limits in milliseconds', () => {
    expect(config.limits).toEqual({
      sessions: 10,
      sessionsPerAddress: 2,
      maxStartups: { start: 3, rate: 0.5, full: 8 },
      penalties: {
        costMs: { authfail: 1000, 'grace-exceeded': 10_000, invalid: 0 },
        minMs: 15_000,
        maxMs: 3_600_000,
        exempt: [{ family: 4, network: 0xc0000200n, prefix: 24, text: '192.0.2.0/24' }],
      },
      negotiationMs: 5000,
      idleMs: 3_600_000,
      drainMs: 300_000,
      inFlightBytes: 16 * 1024 ** 2,
      totalInFlightBytes: 2 * 1024 ** 3,
    })
    expect(config.leases).toEqual({ vanishedMs: 10_000 })
    const etcd =
      'leases: { etcd: "https://[::1]:2379/", ca: ca.pem, user: u, password-file: p, ttl: 5s, prefix: /a/, name: gw1 }'
    expect(
      parseConfig(`version: 1\ndoors: [{ unix: s }]\nexports: []\n${etcd}\n`, '/etc/n/c.yaml').leases.etcd,
    ).toEqual({
      endpoints: ['https://[::1]:2379'],
      ca: '/etc/n/ca.pem',
      login: { user: 'u', passwordFile: '/etc/n/p' },
      ttlMs: 5000,
      prefix: '/a/',
      name: 'gw1',
    })
  })
})

describe('a configuration with what is required only', () => {
  test('gets the defaults', () => {
    const config: Config = parseConfig(
      'version: 1\ndoors:\n  - tls: "[::]:10809"\n    cert: c\n    key: k\n    client-ca: a\n  - unix: s\nexports: []\n',
      '/n.yaml',
    )
    expect(config).toEqual({
      file: '/n.yaml',
      log: { level: 'info' },
      doors: [
        {
          kind: 'tls',
          host: '::',
          port: 10809,
          mode: 'forced',
          cert: '/c',
          key: '/k',
          clientCa: '/a',
          clientCert: 'required',
          source: 'n.yaml:3',
        },
        { kind: 'unix', path: '/s', mode: 0o600, source: 'n.yaml:7' },
      ],
      exports: [],
      groups: [],
      limits: {
        sessions: 1000,
        sessionsPerAddress: 64,
        maxStartups: { start: 500, rate: 0.3, full: 900 },
        penalties: {
          costMs: { authfail: 5000, 'grace-exceeded': 10_000, invalid: 10_000 },
          minMs: 15_000,
          maxMs: 600_000,
          exempt: [
            { family: 4, network: 0x7f000000n, prefix: 8, text: '127.0.0.0/8' },
            { family: 6, network: 1n, prefix: 128, text: '::1/128' },
          ],
        },
        negotiationMs: 10_000,
        idleMs: 0,
        drainMs: 30_000,
        inFlightBytes: 64 * 1024 ** 2,
        totalInFlightBytes: 512 * 1024 ** 2,
      },
      workers: 'auto',
      leases: { vanishedMs: 30_000 },
    })
  })

  test('may use anchors and aliases', () => {
    const text = 'version: 1\ndoors: [{ unix: &s s }]\nexports:\n  - name: *s\n    upstream: { file: *s }\n'
    expect(parseConfig(text, '/n.yaml').exports[0]?.name).toBe('s')
  })
})

describe('loadConfig', () => {
  let folder = ''
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'nbdgate-config-'))
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  const messageOf = (name: string): string => {
    try {
      loadConfig(join(folder, name))
    } catch (error) {
      if (error instanceof ConfigError) return error.message.replace(`${folder}/`, '')
      throw error
    }
    return 'no problem'
  }

  test('reads a file, also one with a byte order mark', () => {
    writeFileSync(join(folder, 'bom.yaml'), '\ufeffversion: 1\ndoors: [{ unix: s }]\nexports: []\n')
    expect(loadConfig(join(folder, 'bom.yaml')).doors).toMatchObject([{ path: join(folder, 's') }])
  })

  test('says that a file is not there', () => {
    expect(messageOf('none.yaml')).toBe('none.yaml:1:1: this can not be read: there is no such file')
  })

  test('says that a file is a folder', () => {
    expect(messageOf('.')).toMatch(/:1:1: this can not be read: it is a folder$/)
  })

  test('says that a file is not UTF-8', () => {
    writeFileSync(join(folder, 'latin1.yaml'), Buffer.from([0x61, 0x3a, 0x20, 0xe9, 0x0a]))
    expect(messageOf('latin1.yaml')).toBe('latin1.yaml:1:1: this can not be read: it is not UTF-8')
  })
})
