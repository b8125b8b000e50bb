// `nbdgate certs`: a small certificate authority in a folder, and the lines to paste where its files are used.
// It reads its arguments, calls pki/, and prints; what comes after a certificate was made is in certs-life.ts.
import { X509Certificate } from 'node:crypto'
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { Command } from 'commander'
import { type CertificateFacts, certificateFacts, issuerName } from '../pki/certificate-facts.ts'
import {
  authorityFiles,
  clientFiles,
  hostKeyFiles,
  type KeyedCertificate,
  type LeafFiles,
  loadAuthority,
  loadKeyed,
  refuseToOverwrite,
  serverFiles,
  writeAuthority,
  writeClient,
  writeHostKey,
  writeKeyed,
  writeServer,
} from '../pki/files.ts'
import { loadCertificates } from '../pki/material.ts'
import { crlFile, recordIssued, rootFiles, writeCrls } from '../pki/store.ts'
import { type AnswerFlags, answer, JSON_OPTION } from './answer.ts'
import { crlCommand, daysLeft, listCommand, pkcs12Command, renewCommand, revokeCommand } from './certs-life.ts'
import { type Made, madeOf, parseDays, print, printable } from './certs-words.ts'
import { UsageError } from './errors.ts'
import { progressBar } from './progress-bar.ts'

interface MakeFlags extends AnswerFlags {
  readonly dir: string
  readonly days?: number
  readonly rsa?: boolean
  readonly force?: boolean
  readonly org?: string
  readonly unit?: string
}

interface InitFlags extends MakeFlags {
  readonly intermediate?: boolean
}

interface ClientFlags extends MakeFlags {
  readonly dns: readonly string[]
  readonly email: readonly string[]
  readonly uri: readonly string[]
}

/** `nbdgate certs`. Its actions throw PkiError, MaterialError or a file system error: one sentence, exit code 1. */
export function certsCommand(): Command {
  return new Command('certs')
    .description('a small certificate authority: make, show, renew and revoke certificates')
    .addCommand(initCommand())
    .addCommand(serverCommand())
    .addCommand(clientCommand())
    .addCommand(showCommand())
    .addCommand(listCommand())
    .addCommand(renewCommand())
    .addCommand(revokeCommand())
    .addCommand(crlCommand())
    .addCommand(pkcs12Command())
}

function initCommand(): Command {
  return makingCommand('init', '10 years')
    .description(
      'make the authority (ca-cert.pem, ca-key.pem), its empty ca-crl.pem, and an SSH host key if there is none',
    )
    .option('--intermediate', 'an authority below a root: root-cert.pem and root-key.pem, made if they are not there')
    .action(async (flags: InitFlags) => {
      const hostKey = await makeHostKey(flags.dir)
      // A folder of an earlier version: all that it lacked is there now.
      if (hostKey !== undefined && flags.force !== true && existsSync(authorityFiles(flags.dir).cert)) {
        answer(flags, { hostKey }, hostKeyLine(hostKey), 'the authority is there already, and stays as it is')
        return
      }
      refuseToOverwrite(authorityFiles(flags.dir), flags)
      const { facts, lines } = await makeAuthority(flags)
      const more = hostKey === undefined ? [] : [hostKeyLine(hostKey)]
      const next = 'Next: nbdgate certs server NAME, nbdgate certs client NAME'
      answer(flags, { ...facts, ...(hostKey !== undefined && { hostKey }) }, ...lines, ...more, '', next)
    })
}

interface Authority {
  readonly facts: { readonly authority: Made; readonly root?: Made; readonly crl: string }
  readonly lines: readonly string[]
}

/** The authority, below a root if there is to be one, and its list. */
async function makeAuthority(flags: InitFlags): Promise<Authority> {
  const { mintAuthority } = await import('../pki/mint.ts')
  const { emptyCrl } = await import('../pki/revocation.ts')
  const root = flags.intermediate === true ? await rootOf(flags) : undefined
  const name = root === undefined ? undefined : 'nbdgate issuing authority'
  const authority = mintAuthority({ ...mintOptions(flags), name, parent: root })
  const files = writeAuthority(flags.dir, authority, flags)
  const rootDays = root === undefined ? 0 : daysLeft(new X509Certificate(root.certificatePem))
  const rootCrl = root === undefined ? undefined : emptyCrl(root, { days: rootDays })
  const crl = writeCrls(flags.dir, [emptyCrl(authority), rootCrl])
  const above = rootFiles(flags.dir)
  const rootLines = root === undefined ? [] : [`${above.key}: take it away; only a new authority or its list needs it`]
  const made = madeOf(files)
  return {
    facts: { authority: made, ...(root !== undefined && { root: madeOf(above) }), crl },
    lines: [...madeLines(made), `${crl}: revokes nothing yet`, ...rootLines],
  }
}

/** The root that is there, or a new one. */
async function rootOf(flags: MakeFlags): Promise<KeyedCertificate> {
  const files = rootFiles(flags.dir)
  if (existsSync(files.cert)) return loadKeyed(files)
  const { mintAuthority } = await import('../pki/mint.ts')
  const root = mintAuthority({ ...mintOptions(flags), name: 'nbdgate root authority', pathLength: 1 })
  writeKeyed(flags.dir, files, root)
  return root
}

/** Makes an SSH host key where there is none; its file. --force leaves it alone: clients know it by heart. */
async function makeHostKey(dir: string): Promise<string | undefined> {
  const { key } = hostKeyFiles(dir)
  if (existsSync(key)) return undefined
  const { mintHostKey } = await import('../pki/ssh-host-key.ts')
  writeHostKey(dir, mintHostKey('nbdgate'))
  return key
}

function hostKeyLine(key: string): string {
  return `${key}: host key of the SSH door, keep it secret`
}

function serverCommand(): Command {
  return makingCommand('server', '397')
    .description('make a certificate for the gateway: server-cert.pem and server-key.pem')
    .argument('<name...>', 'DNS names and IP addresses that clients dial; the first one is the common name')
    .action(async (names: string[], flags: MakeFlags) => {
      const authority = loadAuthority(flags.dir)
      refuseToOverwrite(serverFiles(flags.dir), flags)
      const { mintServer } = await import('../pki/mint.ts')
      const server = mintServer(authority, { ...mintOptions(flags), names })
      const files = writeServer(flags.dir, server, flags)
      recordIssued(flags.dir, server.certificatePem)
      const made = madeOf(files)
      answer(flags, made, ...madeLines(made), '', "In the gateway's configuration:", '', ...doorLines(files))
    })
}

function clientCommand(): Command {
  return makingCommand('client', '825')
    .description('make a folder NAME with a certificate for each client')
    .argument('<name...>', 'who the clients are: common name, and name of the folder')
    .option('--dns <name>', 'a further name: host name (repeatable)', collect, [])
    .option('--email <address>', 'a further name: mail address (repeatable)', collect, [])
    .option('--uri <uri>', 'a further name: URI (repeatable)', collect, [])
    .action(makeClients)
}

/** All of them, or none where one is there already. */
async function makeClients(names: readonly string[], flags: ClientFlags): Promise<void> {
  const further = [...flags.dns, ...flags.email, ...flags.uri]
  if (names.length > 1 && further.length > 0) throw new UsageError('--dns, --email and --uri are of one client')
  const authority = loadAuthority(flags.dir)
  for (const name of names) refuseToOverwrite(clientFiles(flags.dir, name), flags)
  const { mintClient } = await import('../pki/mint.ts')
  const host = serverName(serverFiles(flags.dir).cert) ?? 'HOST'
  const bar = progressBar(names.length)
  const all: (Made & { readonly ca: string })[] = []
  for (const [done, name] of names.entries()) {
    bar.draw(done)
    const more = { dnsNames: flags.dns, emails: flags.email, uris: flags.uri }
    const client = mintClient(authority, { ...mintOptions(flags), name, ...more })
    const material = { ...client, authorityPem: authority.certificatePem }
    const files = writeClient(flags.dir, name, material, flags)
    recordIssued(flags.dir, client.certificatePem)
    bar.clear()
    const made = { ...madeOf(files), ca: files.ca }
    all.push(made)
    if (flags.json === true) continue
    print(...madeLines(made), files.ca)
    if (names.length === 1) print('', ...clientLines(files, host))
  }
  answer(flags, all)
}

function showCommand(): Command {
  return new Command('show')
    .description('print what a certificate says, as the rules of `allow` see it')
    .argument('<file>', 'a PEM file with one or more certificates')
    .option('--json', 'as JSON')
    .action((file: string, flags: { readonly json?: boolean }) => {
      const [first, ...rest] = loadCertificates(file).map(describe)
      if (flags.json === true) {
        print(JSON.stringify({ file, ...first, ...(rest.length === 0 ? {} : { chain: rest }) }, undefined, 2))
      } else {
        print(...[first, ...rest].flatMap((certificate, at) => [...(at === 0 ? [] : ['']), ...factLines(certificate)]))
      }
    })
}

function makingCommand(name: string, defaultDays: string): Command {
  return new Command(name)
    .option('--dir <folder>', 'where the authority lies', 'certs')
    .option('--days <number>', `how long it is valid (default: ${defaultDays})`, parseDays)
    .option('--rsa', 'RSA with 3072 bits, not ECDSA on P-256')
    .option('--force', 'overwrite what is there')
    .option('--org <name>', 'organization, O=')
    .option('--unit <name>', 'organizational unit, OU=')
    .option(...JSON_OPTION)
}

function collect(value: string, before: readonly string[]): readonly string[] {
  return [...before, value]
}

function mintOptions(flags: MakeFlags) {
  return {
    key: flags.rsa === true ? ('rsa' as const) : ('ecdsa' as const),
    days: flags.days,
    organization: flags.org,
    organizationalUnit: flags.unit,
  }
}

function madeLines({ subject, notAfter, cert, key }: Made): string[] {
  return [`${cert}: ${printable(subject)}, until ${notAfter.slice(0, 10)}`, `${key}: keep it secret`]
}

function doorLines(files: LeafFiles): string[] {
  const crl = crlFile(files.dir)
  const path = (file: string) => (/^[\w./-]+$/.test(resolve(file)) ? resolve(file) : JSON.stringify(resolve(file)))
  return [
    'doors:',
    '  - tls: 0.0.0.0:10809',
    `    cert: ${path(files.cert)}`,
    `    key: ${path(files.key)}`,
    `    client-ca: ${path(files.ca)}`,
    ...(existsSync(crl) ? [`    crl: ${path(crl)}`] : []),
  ]
}

/** The first name that a client can dial, from the server certificate beside the authority, if there is one. */
function serverName(cert: string): string | undefined {
  if (!existsSync(cert)) return undefined
  const { dnsNames, ips } = certificateFacts(loadCertificates(cert)[0])
  return [...dnsNames, ...ips].find(name => !name.startsWith('*'))
}

function clientLines(files: LeafFiles, host: string): string[] {
  const dir = resolve(files.dir)
  const uriHost = host.includes(':') ? `[${host}]` : host
  const query = dir.split('/').map(encodeURIComponent).join('/')
  // QemuOpts: a comma in a value is doubled.
  const credentials = `tls-creds-x509,id=tls0,dir=${dir.replaceAll(',', ',,')},endpoint=client`
  const image = `driver=nbd,host=${host.replaceAll(',', ',,')},port=10809,export=EXPORT,tls-creds=tls0`
  const kernel = ['-cacertfile', files.ca, '-certfile', files.cert, '-keyfile', files.key].map(word =>
    word.startsWith('-') ? word : quote(resolve(word)),
  )
  return [
    'With libnbd (nbdinfo, nbdcopy, fio, nbdfuse):',
    `  nbdinfo ${quote(`nbds://${uriHost}/EXPORT?tls-certificates=${query}`)}`,
    'With qemu:',
    `  qemu-img info --object ${quote(credentials)} --image-opts ${quote(image)}`,
    'As a block device of the Linux kernel:',
    `  nbd-client ${quote(host)} 10809 /dev/nbd0 -N EXPORT -enable-tls ${kernel.join(' ')} -tlshostname ${quote(host)}`,
  ]
}

interface Description extends CertificateFacts {
  readonly issuer: string
  readonly notBefore: string
  readonly notAfter: string
  readonly authority: boolean
}

function describe(certificate: X509Certificate): Description {
  return {
    ...certificateFacts(certificate),
    issuer: issuerName(certificate),
    notBefore: new Date(certificate.validFrom).toISOString(),
    notAfter: new Date(certificate.validTo).toISOString(),
    authority: certificate.ca,
  }
}

function factLines(certificate: Description | undefined): string[] {
  if (certificate === undefined) return []
  const rows: [string, readonly string[]][] = [
    ['subject', [certificate.subject]],
    ['issuer', [certificate.issuer]],
    ['valid', [`${certificate.notBefore} to ${certificate.notAfter}`]],
    ['authority', [certificate.authority ? 'yes' : 'no']],
    ['serial', [certificate.serial]],
    ['cert:cn=', certificate.commonNames],
    ['cert:o=', certificate.organizations],
    ['cert:ou=', certificate.organizationalUnits],
    ['cert:dns=', certificate.dnsNames],
    ['cert:email=', certificate.emails],
    ['cert:uri=', certificate.uris],
    ['cert:ip=', certificate.ips],
    ['cert:fingerprint=', [`SHA256:${certificate.fingerprint}`]],
    ['cert:spki=', [`SHA256:${certificate.spki}`]],
  ]
  // A rule is printed in one word, ready to be pasted after `who:`.
  return rows.flatMap(([label, values]) =>
    values.map(value => printable(label.endsWith('=') ? label + value : `${label.padEnd(10)} ${value}`)),
  )
}

function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}
