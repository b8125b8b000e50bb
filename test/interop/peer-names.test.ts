// Certificates of a true authority with names that try to be others, or to write a log line of their own. The rules hold
// for what a name is, in whatever encoding; the log has one line of JSON a fact, with nothing in it that moves a cursor.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { type KeyedCertificate, loadKeyed } from '../../src/pki/files.ts'
import type { AlternativeName } from '../../src/pki/names.ts'
import { test } from '../support/fixtures.ts'
import type { RunningGateway } from '../support/gateway.ts'
import type { TestPki } from '../support/pki.ts'
import { mintHostile, type RawValue, rawSubject } from '../unit/pki/workshop.ts'
import { config, tlsDoor, tlsOptions } from './configs.ts'
import { greeted, type RawClient } from './raw-client.ts'

const [UTF8, T61, IA5, UNIVERSAL, BMP, SEQUENCE, BIT_STRING] = [0x0c, 0x14, 0x16, 0x1c, 0x1e, 0x30, 0x03]
const GO = 7
const LIST = 3
const ACK = 1
const ERR_UNKNOWN = 0x8000_0006

const cn = (value: string | Uint8Array, tag = UTF8): RawValue => ({ type: 'CN', tag, value })
const dns = (value: string): AlternativeName => ({ kind: 'dns', value })
const email = (value: string): AlternativeName => ({ kind: 'email', value })
const uri = (value: string): AlternativeName => ({ kind: 'uri', value })
/** Two or four bytes a character, big-endian. */
const wide = (text: string, bytes: 2 | 4) =>
  Buffer.concat(
    [...text].map(character =>
      Buffer.from((character.codePointAt(0) ?? 0).toString(16).padStart(bytes * 2, '0'), 'hex'),
    ),
  )

interface Bearer {
  readonly subject: readonly RawValue[]
  readonly names?: readonly AlternativeName[]
}

const RULES = [
  'cert:cn=alice',
  'cert:cn=Zoë',
  'cert:o=lab',
  'cert:dns=alice.example',
  'cert:dns=*.alice.example',
  'cert:email=alice@example.com',
  'cert:uri=spiffe://lab/alice',
]

async function serve(dir: string, pki: TestPki, gateway: (yaml: string) => Promise<RunningGateway>) {
  const disk = join(dir, 'disk.img')
  await writeFile(disk, Buffer.alloc(4096))
  const allow = RULES.map(who => ({ who, rights: 'read' }))
  const one = { name: 'disk', upstream: { file: disk }, allow, deny: ['cert:cn=mallory'] }
  return await gateway(config([tlsDoor(pki)], [one]))
}

async function enter(port: number, pki: TestPki, bearer: Bearer): Promise<RawClient> {
  const minted: KeyedCertificate = mintHostile(
    loadKeyed(pki.ca),
    rawSubject(...bearer.subject),
    ...(bearer.names ?? []),
  )
  const client = await greeted({ host: '127.0.0.1', port })
  const { ca, servername } = tlsOptions(pki.alice)
  await client.startTls({ ca, servername, cert: minted.certificatePem, key: minted.privateKeyPem })
  return client
}

/** The type of GO's last reply, and how many exports LIST shows. */
async function outcome(client: RawClient): Promise<{ go: number | undefined; exports: number }> {
  const exports = (await client.option(LIST)).length - 1
  const data = Buffer.from('\0\0\0\x04disk\0\0', 'latin1')
  return { go: (await client.option(GO, data)).at(-1)?.type, exports }
}

function expectCleanLog(running: RunningGateway): void {
  const lines = running
    .stderr()
    .split('\n')
    .filter(line => line !== '')
  for (const line of lines) {
    expect(line).not.toMatch(/[\p{Cc}\p{Cf}\u2028\u2029]/u)
    expect(Object.keys(JSON.parse(line))).toEqual(expect.arrayContaining(['level', 'time', 'msg']))
    expect(line.length).toBeLessThan(2000)
  }
  // Nobody but the gateway says who came in.
  for (const line of running.log()) if (line.msg !== 'gateway ready') expect(line.who).not.toBe('cert:cn=root')
}

test.for<[string, Bearer]>([
  ['a NUL behind the name', { subject: [cn('alice\0.evil')] }],
  ['a NUL before the name', { subject: [cn('\0alice')] }],
  ['a new line and a second name', { subject: [cn('bob\nCN=alice')] }],
  ['a log line of its own', { subject: [cn('x\r\n{"level":"info","msg":"session opened","who":"cert:cn=root"}')] }],
  ['terminal sequences', { subject: [cn('\u001b[2K\u001b[1Aalice\u0007')] }],
  ['text that runs backwards', { subject: [cn('\u202eecila')] }],
  ['a zero-width space', { subject: [cn('ali\u200bce')] }],
  ['a byte order mark', { subject: [cn('\ufeffalice')] }],
  ['letters of another alphabet', { subject: [cn('\u0430lice')] }],
  ['letters of another width', { subject: [cn('\uff41lice')] }],
  ['the letters of the same look, composed otherwise', { subject: [cn('Zoe\u0308')] }],
  ['other case', { subject: [cn('ALICE')] }],
  ['spaces around it', { subject: [cn(' alice '), cn('alice ')] }],
  ['a distinguished name in a name', { subject: [cn('bob, CN=alice'), cn('bob/CN=alice'), cn('bob+CN=alice')] }],
  ['4096 bytes', { subject: [cn('alice'.repeat(820).slice(0, 4096))] }],
  ['4096 line ends', { subject: [cn('\n'.repeat(4096))] }],
  [
    'the name in a wrong place',
    {
      subject: [
        { type: 'other', tag: UTF8, value: 'alice' },
        { type: 'O', tag: UTF8, value: 'alice' },
      ],
    },
  ],
  ['UTF-8 that calls itself T61', { subject: [cn('Zoë', T61)] }],
  ['bytes of two as characters of one', { subject: [cn(wide('alice', 2), T61)] }],
  ['a NUL in a DNS name', { subject: [], names: [dns('alice.example\0.evil.org'), dns('alice\0.example')] }],
  [
    'DNS names that go on',
    { subject: [], names: [dns('alice.example.'), dns('.alice.example'), dns('alice.example.evil.org')] },
  ],
  [
    'a list in one DNS name',
    { subject: [], names: [dns('evil.org, DNS:alice.example'), dns('evil.org","DNS:alice.example')] },
  ],
  ['a wildcard on the wrong side', { subject: [], names: [dns('*'), dns('*.example')] }],
  ['letters of IDN', { subject: [], names: [dns('xn--lice-53d.example')] }],
  [
    'mail addresses in mail addresses',
    {
      subject: [],
      names: [
        email('\0alice@example.com'),
        email('alice@example.com\0@evil.org'),
        email('alice@example.com@evil.org'),
        email('"alice@example.com"@evil.org'),
      ],
    },
  ],
  [
    'a URI that goes on',
    { subject: [], names: [uri('spiffe://lab/alice\0/x'), uri('spiffe://lab/alice/'), uri('SPIFFE://lab/alice')] },
  ],
])('%s matches no rule and breaks no log line', async ([, bearer], { dir, pki, gateway }) => {
  const running = await serve(dir, pki, gateway)
  const client = await enter(running.port('tls'), pki, bearer)
  expect(await outcome(client)).toEqual({ go: ERR_UNKNOWN, exports: 0 })
  expect(await running.waitForLog(line => line.msg === 'refused')).toMatchObject({ reason: 'no rule' })
  expectCleanLog(running)
})

test.for<[string, Bearer]>([
  ['UTF8String', { subject: [cn('alice')] }],
  ['BMPString', { subject: [cn(wide('Zoë', 2), BMP)] }],
  ['UniversalString', { subject: [cn(wide('Zoë', 4), UNIVERSAL)] }],
  ['T61String', { subject: [cn(Buffer.from('Zoë', 'latin1'), T61)] }],
  ['IA5String', { subject: [cn('alice', IA5)] }],
  ['one of several names', { subject: [cn('bob\nx'), cn('alice')] }],
  ['a DNS name in capitals', { subject: [], names: [dns('ALICE.Example')] }],
])('the same name as %s is the same name', async ([, bearer], { dir, pki, gateway }) => {
  const running = await serve(dir, pki, gateway)
  const client = await enter(running.port('tls'), pki, bearer)
  expect(await outcome(client)).toEqual({ go: ACK, exports: 1 })
  expectCleanLog(running)
})

test.for<[string, RawValue]>([
  ['a sequence', cn(Buffer.from('0c0161', 'hex'), SEQUENCE)],
  ['a bit string', cn(Buffer.from('00616c', 'hex'), BIT_STRING)],
])('a name that is %s does not hide the one that is denied', async ([, odd], { dir, pki, gateway }) => {
  const running = await serve(dir, pki, gateway)
  const subject = [cn('mallory'), odd, { type: 'O', tag: UTF8, value: 'lab' } as const]
  // The client has finished its handshake of TLS 1.3 when the gateway looks at the certificate.
  await enter(running.port('tls'), pki, { subject }).then(
    client => client.closed(),
    () => undefined,
  )
  expect(await running.waitForLog(line => line.msg === 'tls failed')).toMatchObject({ reason: 'certificate refused' })
  expect(running.log().map(({ msg }) => msg)).not.toContain('bug')
  expectCleanLog(running)
})
