/**
 * The form of a configuration (design, chapter 3), for zod: keys, types, defaults, and the texts that editors show. Text
 * with a form of its own (times, addresses, URIs) is parsed here, so that its problems come with the others'. What
 * concerns several places at once is in cross-checks.ts.
 */

import * as z from 'zod'
import { MAX_STRING_BYTES } from '../protocol/constants.ts'
import { parseCidr } from './cidr.ts'
import { parseEndpoint } from './endpoint.ts'
import { parseEtcdUrl } from './etcd-url.ts'
import { limits } from './limits-schema.ts'
import { outageKeys } from './outage-schema.ts'
import { type Parsed, parsed, unparsed } from './parsed.ts'
import { count, text } from './schema-parts.ts'
import { parseAge, parseDuration, parseRate, parseSize } from './units.ts'
import { MAX_CONNECTIONS, parseUpstreamUri } from './upstream-uri.ts'
import { parseWhenBusy } from './when-busy.ts'

/** Smaller files would be more of them than anybody wants. */
const MIN_ROTATE_BYTES = 64 * 1024

const SECTOR_BYTES = 512

/** How long a visitor may be unreachable: three probes need their time. */
const MIN_VANISHED_MS = 3000
const DEFAULT_VANISHED_MS = 30_000
/** How often an upstream may be asked what it has. */
const MIN_REFRESH_MS = 1000

const LEASES_FORM = 'must be memory, { vanished-after: 30s }, or { etcd: [https://HOST:2379], … }'

/** An election of etcd takes a second or two with its own settings; all leases would run out in it. */
const MIN_TTL_MS = 2000
const MAX_TTL_MS = 600_000

const path = z
  .string()
  .min(1, 'a path can not be empty')
  .refine(value => !value.includes('\0'), 'a path can not contain a NUL')
const nbdString = z.string().refine(isNbdString, `must be at most ${MAX_STRING_BYTES} bytes of UTF-8, without a NUL`)
const endpoint = text(parseEndpoint)
const who = z
  .union([z.string(), z.array(z.string()).min(1, 'an empty list would hold for everybody; write who is meant')], {
    error: '`who` must be text or a list of texts',
  })
  .describe(
    'anyone, address:CIDR, cert:cn= o= ou= dns= email= uri= ip= fingerprint=SHA256:… spki=SHA256:…, psk:NAME, ssh:user= key=SHA256:… principal=, uid:N, gid:N, group:NAME. Of a list all must hold.',
  )

const ofAll = { sessions: count.optional().describe('Connections at once by this door, from accept to close.') }

const balancers = {
  ...ofAll,
  'proxy-protocol': z
    .array(text(parseCidr).refine(({ prefix }) => prefix > 0, 'everybody would be believed; name the balancers'))
    .min(1, 'needs at least one network')
    .optional()
    .describe('Balancers: a PROXY header (v1 or v2) is demanded from these networks, and believed.'),
}

const tlsDoor = z
  .strictObject({
    tls: endpoint.describe('HOST:PORT to listen on for NBD with STARTTLS.'),
    mode: z
      .enum(['forced', 'selective'])
      .default('forced')
      .describe('forced: nothing without TLS. selective: visitors without TLS may look for what rules grant them.'),
    cert: path.describe("The server's certificate and its chain, PEM."),
    key: path.describe('Its private key, PEM.'),
    'client-ca': path.optional().describe('Certificates (PEM) that client certificates must come from.'),
    crl: path.optional().describe('Revoked certificates, PEM.'),
    psk: path.optional().describe('Pre-shared keys: NAME:HEX lines, as psktool writes them.'),
    'client-cert': z
      .enum(['required', 'optional'])
      .default('required')
      .describe('Whether a visitor must present a certificate (or a key of `psk`).'),
    ...balancers,
  })
  .describe('TLS door.')

const sshDoor = z
  .strictObject({
    ssh: endpoint.describe('HOST:PORT to listen on for SSH.'),
    'host-keys': z
      .union([path, z.array(path).min(1, 'needs at least one key')], {
        error: '`host-keys` must be a path or a list of paths',
      })
      .describe("The host's private keys, as ssh-keygen and `nbdgate certs init` write them."),
    'authorized-keys': path.optional().describe("Who may log in: a file in the format of OpenSSH's authorized_keys."),
    'user-ca': path.optional().describe('Authorities whose user certificates log in as each of their principals.'),
    'revoked-keys': path.optional().describe('Public keys or fingerprints that may not log in, one a line.'),
    ...balancers,
  })
  .describe('SSH door.')

const tcpDoor = z
  .strictObject({
    tcp: endpoint.describe('HOST:PORT to listen on, without encryption.'),
    from: z
      .array(text(parseCidr))
      .min(1, 'needs at least one network')
      .describe('Networks whose visitors come in; others are closed at accept.'),
    ...balancers,
  })
  .describe('Door without encryption, for a VPN or a trusted network.')

const unixDoor = z
  .strictObject({
    unix: path.describe('Path of the Unix socket.'),
    mode: text(parseMode).prefault('0600').describe('Permissions of the socket, octal, in quotes: "0660".'),
    ...ofAll,
  })
  .describe('Unix socket door.')

const uri = text(parseUpstreamUri).describe('NBD URI: nbd://, nbds://, nbd+unix://, nbds+unix:// or nbd+ssh://.')
const longUri = z.strictObject({
  uri: text(parseUpstreamUri).describe('NBD URI.'),
  ca: path.optional().describe("Certificates (PEM) that the upstream's must come from."),
  cert: path.optional().describe('Our client certificate, PEM.'),
  key: path.optional().describe('Its private key, PEM.'),
  identity: path.optional().describe('For nbd+ssh://: our private key.'),
  'known-hosts': path.optional().describe('For nbd+ssh://: the keys of hosts, as OpenSSH keeps them.'),
  'proxy-protocol': z
    .enum(['v2'])
    .optional()
    .describe('Tells the upstream who the client is, in a PROXY header in front of NBD; it has to expect one.'),
  connections: z
    .int({ error: `must be a number from 1 to ${MAX_CONNECTIONS}`, abort: true })
    .min(1, `must be a number from 1 to ${MAX_CONNECTIONS}`)
    .max(MAX_CONNECTIONS, `must be a number from 1 to ${MAX_CONNECTIONS}`)
    .optional()
    .describe('Connections that each session is spread over, for lines with a long round trip.'),
})

const argv = z
  .array(z.string().refine(value => !value.includes('\0'), 'an argument can not contain a NUL'))
  .min(1, 'needs a program')
const wait = text(parseDuration).refine(ms => ms > 0, { error: 'must be more than 0', abort: true })

const spawn = z.strictObject({
  spawn: argv.describe(
    'A server that is started when it is needed: program and arguments, with {socket}. No shell reads this.',
  ),
  activation: z
    .boolean()
    .default(false)
    .describe('The server gets its listening socket as systemd hands it over; {socket} is not needed then.'),
  export: nbdString.default('').describe('The export to ask the server for.'),
  linger: text(parseDuration).prefault('10s').describe('How long the server stays when nobody uses it.'),
  start: wait.prefault('10s').describe('How long it may take until it listens.'),
})

const upstream = z
  .union(
    [
      uri,
      longUri,
      z.strictObject({
        file: path.describe(
          'File or block device, served without a server behind; "{overlay}" is what `prepare` made.',
        ),
      }),
      spawn,
      z
        .array(z.union([uri, longUri], { error: 'each of a list is an NBD URI, or { uri: …, ca:, cert:, key: }' }))
        .min(1, 'needs at least one upstream')
        .describe('Several ways to the same storage, tried in this order.'),
    ],
    {
      error:
        'an upstream is an NBD URI, { uri: …, ca:, cert:, key: }, { file: PATH }, { spawn: [PROGRAM, …] }, or a list of URIs',
    },
  )
  .describe('What is behind the export.')

const server = z.union([uri, longUri], { error: '`from` is an NBD URI, or { uri: …, ca:, cert:, key: }' })

const rates = {
  read: text(parseRate).optional().describe('Bytes of READs a second: 200MB/s.'),
  write: text(parseRate).optional().describe('Bytes of WRITEs a second: 100MB/s.'),
  iops: count.optional().describe('Requests a second.'),
}

const allowRule = z.strictObject({
  who,
  rights: z.enum(['read', 'write']).describe('write includes read.'),
  until: z.iso
    .datetime({ offset: true, error: 'must be a time like 2027-01-01T00:00:00Z, with its time zone' })
    .transform(time => Date.parse(time))
    .optional()
    .describe('The rule ends at this moment: 2027-01-01T00:00:00Z.'),
  limits: z
    .strictObject({ sessions: count.optional().describe('Sessions at once.'), ...rates })
    .optional()
    .describe('For each identity that comes in by this rule, all its sessions of the export together.'),
})

const exportKind = z.enum(['tls', 'ssh', 'tcp', 'unix'], { error: 'must be tls, ssh, tcp or unix' })

const exportEntry = z.strictObject({
  name: nbdString
    .optional()
    .describe('The name that clients ask for; "" is the default export. With `from`: which ones, `*` is any text.'),
  description: nbdString.optional().describe('Shown to those who may use the export.'),
  upstream: upstream.optional(),
  from: server.optional().describe('Instead of `upstream`: publishes all exports that this server lists.'),
  prefix: nbdString.optional().describe('With `from`: what stands in front of the names that it lists.'),
  refresh: text(parseDuration)
    .refine(ms => ms >= MIN_REFRESH_MS, { error: 'must be at least 1s', abort: true })
    .optional()
    .describe('With `from`: how often it is asked; 30s without this.'),
  allow: z.array(allowRule).default([]).describe('Who may do what. No rule, no entry.'),
  deny: z.array(who).default([]).describe('Who may not; beats allow.'),
  doors: z
    .array(exportKind)
    .min(1, 'an empty list would shut every door; leave it out or name one')
    .optional()
    .describe('Doors that lead here; all of them without this.'),
  limits: z
    .strictObject({ sessions: count.optional().describe('Sessions of this export at once.'), ...rates })
    .prefault({})
    .describe('For all sessions of the export together.'),
  sharing: z
    .enum(['exclusive', 'readers-or-writer', 'single-writer', 'cluster', 'read-only'])
    .default('readers-or-writer')
    .describe('Who may be on the export at once. Connections of one identity are one.'),
  'when-busy': text(parseWhenBusy)
    .prefault('refuse')
    .describe('What comes of who is one too many: refuse, read-only, or wait=30s.'),
  holder: z
    .enum(['identity', 'identity+address'])
    .default('identity')
    .describe('What is one: an identity wherever it comes from, or an identity at one address.'),
  ...outageKeys,
  align: z
    .boolean()
    .default(false)
    .describe(
      'Requests that are not whole blocks of the server are made so: of writes the blocks around are read first.',
    ),
  'require-luks': z
    .boolean()
    .default(false)
    .describe('Give it out only with a LUKS header on it, and keep that there.'),
  'luks-at': text(parseSize)
    .refine(bytes => bytes % SECTOR_BYTES === 0, { error: 'must be a multiple of 512 bytes', abort: true })
    .prefault('0B')
    .describe('Where the LUKS header is: 1MiB for a partition that begins there.'),
  'luks-format': z.boolean().default(false).describe('Writers may overwrite the LUKS header with something else.'),
  prepare: argv.optional().describe('Program that makes ready what the upstream needs, before it is touched.'),
  cleanup: argv.optional().describe('Program that undoes that, when nobody needs it any more.'),
  authorize: argv
    .optional()
    .describe('Program that is asked too, with facts as JSON on its standard input: exit 0 lets the visitor in.'),
  per: z
    .enum(['connection', 'identity', 'export'])
    .optional()
    .describe('What is prepared: a thing for each connection, for each identity (kept), or one for the export.'),
  'hook-timeout': wait.prefault('30s').describe('How long `prepare`, `cleanup` and `authorize` may take each.'),
})

const leasesMap = z.strictObject({
  etcd: z
    .union([text(parseEtcdUrl), z.array(text(parseEtcdUrl)).min(1, 'needs at least one member')], {
      error: '`etcd` must be a URL or a list of URLs',
    })
    .optional()
    .describe('Members of an etcd cluster that keeps the leases for several gateways: https://10.0.0.5:2379.'),
  ca: path.optional().describe("Certificates (PEM) that etcd's must come from."),
  cert: path.optional().describe('Our client certificate for etcd, PEM.'),
  key: path.optional().describe('Its private key, PEM.'),
  user: z.string().min(1, 'a name can not be empty').optional().describe("Our name, where etcd's auth is on."),
  'password-file': path.optional().describe('Its password: the first line of a file.'),
  ttl: text(parseDuration)
    .refine(ms => ms >= MIN_TTL_MS && ms <= MAX_TTL_MS, { error: 'must be from 2s to 10m', abort: true })
    .optional()
    .describe('How long leases outlive the last word of the gateway that holds them; 10s without this.'),
  prefix: z
    .string()
    .regex(/^[\x21-\x7e]{1,200}$/, 'must be 1 to 200 printable ASCII characters without a space')
    .optional()
    .describe('What the keys in etcd begin with; /nbdgate/ without this.'),
  name: z
    .string()
    .regex(/^[\x21-\x7e]{1,64}$/, 'must be 1 to 64 printable ASCII characters without a space')
    .optional()
    .describe("This gateway's name for the others and for `lease list`; the host's name without this."),
  'vanished-after': text(parseDuration)
    .refine(ms => ms >= MIN_VANISHED_MS, { error: 'must be at least 3s', abort: true })
    .prefault('30s')
    .describe('How long a visitor may be unreachable before its sessions end and its leases are free.'),
})

const leases = z
  .union(
    [
      text(value => (value === 'memory' ? parsed(value) : unparsed(LEASES_FORM))).transform(
        (): z.output<typeof leasesMap> => ({ 'vanished-after': DEFAULT_VANISHED_MS }),
      ),
      leasesMap,
    ],
    { error: LEASES_FORM },
  )
  .describe('Who is on which export. memory: known to this gateway alone. With `etcd`: to all gateways that name it.')

const log = z.strictObject({
  level: z.enum(['debug', 'info', 'warn', 'error']).default('info'),
  file: path.optional().describe('Instead of standard error.'),
})

const audit = z
  .strictObject({
    'on-failure': z
      .enum(['refuse', 'warn'])
      .default('refuse')
      .describe('When the trail can not be written. refuse: nobody new gets in. warn: they do, and the log says so.'),
    'rotate-size': text(parseSize)
      .refine(bytes => bytes >= MIN_ROTATE_BYTES, { error: 'must be at least 64KiB', abort: true })
      .prefault('64MiB')
      .describe('A file of this size is followed by a new one; the chain goes on.'),
  })
  .describe('The audit trail, audit.jsonl in the state folder.')

/** The whole file. Input is what YAML gives, output has times as numbers and addresses in their parts. */
export const configSchema = z
  .strictObject({
    version: z.literal(1).describe('Version of this format.'),
    state: path.optional().describe('Folder for what has to survive a restart: the audit trail. Made 0700.'),
    audit: audit.optional(),
    admin: z
      .strictObject({
        socket: path
          .optional()
          .describe('Unix socket for `nbdgate sessions`, `kick`, `reload` and `drain`; full control, mode 0600.'),
        http: endpoint
          .optional()
          .describe('HOST:PORT to look on: metrics, health, sessions. Loopback, or elsewhere with `token-file`.'),
        'token-file': path.optional().describe('File whose first line is the token that `http` demands.'),
      })
      .optional()
      .describe('How the running gateway is looked at and told what to do.'),
    workers: z
      .union([z.enum(['auto'], { error: 'must be auto or a number' }), count.max(256, 'must be at most 256')])
      .default('auto')
      .describe('Processes that sessions run in. auto: one for each core. 1: the main process, no others.'),
    log: log.prefault({}).describe('JSON lines on standard error, or in a file.'),
    doors: z
      .array(
        z.union([tlsDoor, sshDoor, tcpDoor, unixDoor], {
          error: 'a door has exactly one of `tls`, `ssh`, `tcp` and `unix`',
        }),
      )
      .min(1, 'needs at least one door')
      .describe('How visitors come in.'),
    exports: z.array(exportEntry).describe('What they find.'),
    groups: z
      .record(z.string().regex(/^[\w.-]+$/, 'a name of letters, digits, dots, dashes and underscores'), z.array(who))
      .default({})
      .describe('Named lists of `who`, for rules: group:NAME. Whoever one entry holds for is in the group.'),
    limits: limits.prefault({}),
    leases: leases.prefault({}),
    overlays: z
      .strictObject({
        keep: text(parseAge)
          .optional()
          .describe('How long after its last use a disk of `per: identity` is kept; without it for ever.'),
      })
      .optional()
      .describe('What `per: identity` has made.'),
  })
  .describe('Configuration of nbdgate.')

/** A file that keeps to the schema, defaults filled in. */
export type CheckedFile = z.output<typeof configSchema>

function isNbdString(value: string): boolean {
  // A lone surrogate has no UTF-8: two different names would come out as the same bytes.
  return !/[\0\p{Surrogate}]/u.test(value) && Buffer.byteLength(value) <= MAX_STRING_BYTES
}

function parseMode(value: string): Parsed<number> {
  const isMode = /^0?[0-7]{3}$/.test(value)
  return isMode ? parsed(Number.parseInt(value, 8)) : unparsed('must be octal permissions like "0660"')
}
