// `nbdgate certs list, renew, revoke, crl, p12`: what happens to certificates after they were made.
import type { X509Certificate } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Command, Option } from 'commander'
import { REVOCATION_REASONS, type Revocation, type RevocationReason } from '../pki/crl.ts'
import { PkiError } from '../pki/errors.ts'
import { clientFiles, loadAuthority, replaceFile, serverFiles } from '../pki/files.ts'
import {
  crlFile,
  findIssued,
  hasIssued,
  type Issued,
  type KnownAuthority,
  listIssued,
  otherCrls,
  parseSerial,
  readAuthorities,
  recordIssued,
  signingKey,
  withCrlLock,
  writeCrls,
} from '../pki/store.ts'
import { type AnswerFlags, answer, JSON_OPTION } from './answer.ts'
import { madeOf, parseDays, print, printable } from './certs-words.ts'
import { newPassword } from './password.ts'

interface Flags extends AnswerFlags {
  readonly dir: string
  readonly days?: number
  readonly force?: boolean
}

/** `nbdgate certs list`. */
export function listCommand(): Command {
  return inFolder('list')
    .description('list what the authority has issued: serial number, subject, kind, end, state')
    .option('--json', 'as JSON')
    .action((flags: Flags) => {
      const rows = listIssued(flags.dir, Date.now()).map(each => ({
        serial: each.facts.serial,
        subject: each.facts.subject,
        kind: each.kind,
        notAfter: new Date(each.facts.notAfterMs).toISOString(),
        state: each.state,
        file: each.file,
      }))
      if (flags.json === true) return print(JSON.stringify(rows, undefined, 2))
      print(
        ...rows.map(({ serial, subject, kind, notAfter, state }) =>
          [state.padEnd(7), notAfter.slice(0, 10), kind.padEnd(9), serial.padEnd(32), printable(subject)].join('  '),
        ),
      )
    })
}

/** `nbdgate certs revoke`. */
export function revokeCommand(): Command {
  return crlMaking('revoke')
    .description('revoke certificates: all that a name still has, or the one with a serial number')
    .argument('<name>', 'client folder, common name, or serial number')
    .addOption(
      new Option('--reason <reason>', 'why, in the words of RFC 5280').choices(Object.keys(REVOCATION_REASONS)),
    )
    .option('--force', 'a serial number that is not known here; or begin a new list where the old one was lost')
    .action(async (name: string, flags: Flags & { readonly reason?: RevocationReason }) => {
      const found = findIssued(listIssued(flags.dir, Date.now()), name)
      const live = found.filter(({ state }) => state !== 'revoked')
      const serial = found.length > 0 ? undefined : parseSerial(name)
      if (found.length > 0 && live.length === 0) throw new PkiError('EXISTS', `${name} is revoked already`)
      if (live.length === 0 && (serial === undefined || flags.force !== true)) throw unknown(name, flags.dir)
      const valid = live.filter(({ state }) => state === 'valid')
      const targets = valid.length > 0 ? valid : live
      const crl = await renewCrls(flags, (authority, isRoot) => {
        const own = targets.filter(({ certificate }) => certificate.checkIssued(authority.certificate))
        const serials = own.map(({ facts }) => facts.serial)
        if (serial !== undefined && !isRoot) serials.push(serial)
        return serials.map(each => ({ serial: each, reason: flags.reason }))
      })
      const serials = [...targets.map(({ facts }) => facts.serial), ...(serial === undefined ? [] : [serial])]
      answer(
        flags,
        { revoked: serials, lists: crl },
        ...targets.map(({ facts }) => `revoked: ${facts.serial} ${printable(facts.subject)}`),
        ...(serial === undefined ? [] : [`revoked: ${serial}`]),
        ...crl.map(listLine),
        'A gateway that has this file as its `crl` takes it at once, and ends the sessions of what is revoked.',
      )
    })
}

/** `nbdgate certs crl`. */
export function crlCommand(): Command {
  return crlMaking('crl')
    .description('sign the revocation list again, with a new date, before the old one ends')
    .option('--force', 'begin a new list where the old one was lost')
    .action(async (flags: Flags) => {
      const lists = await renewCrls(flags, () => [])
      answer(flags, { lists }, ...lists.map(listLine))
    })
}

/** `nbdgate certs renew`. */
export function renewCommand(): Command {
  return inFolder('renew')
    .description('make a certificate again, with the same names and new dates')
    .argument('<name>', 'client folder, or a name of the server certificate')
    .option('--days <number>', 'how long it is valid (default: as when it was made first)', parseDays)
    .option('--same-key', 'keep the key, where rules name it (cert:spki=) or the client made off with it')
    .option('--force', 'renew what is revoked, too')
    .option(...JSON_OPTION)
    .action(async (name: string, flags: Flags & { readonly sameKey?: boolean }) => {
      const authority = loadAuthority(flags.dir)
      const old = renewable(name, flags.dir)
      if (old.state === 'revoked' && flags.force !== true) {
        throw new PkiError('EXISTS', `${name} is revoked: --force renews it all the same`)
      }
      const files = old.kind === 'server' ? serverFiles(flags.dir) : clientFiles(flags.dir, old.folder ?? name)
      const { renewLeaf } = await import('../pki/renewal.ts')
      const key = flags.sameKey === true ? ('same' as const) : undefined
      const renewed = renewLeaf(authority, old.certificate.toString(), { days: flags.days, key })
      if (renewed.privateKeyPem !== undefined) replaceFile(files.key, renewed.privateKeyPem, 0o600)
      replaceFile(files.cert, renewed.certificatePem, 0o644)
      if (old.kind === 'client') replaceFile(files.ca, authority.certificatePem, 0o644)
      recordIssued(flags.dir, renewed.certificatePem)
      recordIssued(flags.dir, old.certificate.toString())
      const end = new Date(old.facts.notAfterMs).toISOString().slice(0, 10)
      const keep =
        old.state === 'valid' ? [`The old one is good until ${end}: nbdgate certs revoke ${old.facts.serial}`] : []
      const facts = {
        ...madeOf(files),
        sameKey: key !== undefined,
        old: { serial: old.facts.serial, state: old.state },
      }
      answer(
        flags,
        facts,
        `${files.cert}: ${printable(old.facts.subject)}`,
        `${files.key}: ${key ?? 'a new'} key`,
        ...keep,
      )
    })
}

/** `nbdgate certs p12`. */
export function pkcs12Command(): Command {
  return inFolder('p12')
    .description('put certificate, chain and key of a client into one file behind a password: client.p12')
    .argument('<name>', 'client folder')
    .option('--password-file <file>', 'its first line is the password; without it the terminal is asked')
    .option('--force', 'overwrite what is there')
    .option(...JSON_OPTION)
    .action(async (name: string, flags: Flags & { readonly passwordFile?: string }) => {
      const files = clientFiles(flags.dir, name)
      const target = join(files.dir, 'client.p12')
      if (existsSync(target) && flags.force !== true) {
        throw new PkiError('EXISTS', `${target}: is there already; --force overwrites it`)
      }
      const [certificatePem, privateKeyPem, authorityPem] = [files.cert, files.key, files.ca].map(readPart)
      const password = await newPassword(flags.passwordFile)
      const { encodePkcs12 } = await import('../pki/pkcs12.ts')
      const leaf = { certificatePem: certificatePem ?? '', privateKeyPem: privateKeyPem ?? '' }
      replaceFile(target, encodePkcs12(leaf, authorityPem ?? '', password), 0o600)
      answer(flags, { file: target }, `${target}: keep it secret`)
    })
}

function inFolder(name: string): Command {
  return new Command(name).option('--dir <folder>', 'where the authority lies', 'certs')
}

function crlMaking(name: string): Command {
  return inFolder(name)
    .option('--days <number>', 'until the next list is due (default: 397)', parseDays)
    .option(...JSON_OPTION)
}

/** A list that was signed. */
interface Signed {
  readonly file: string
  readonly issuer: string
  readonly number: string
  readonly revoked: number
  readonly nextUpdate: string
}

/** Signs the list of every authority whose key is here, with what `added` has for it. */
function renewCrls(...args: Parameters<typeof signCrls>): Promise<readonly Signed[]> {
  readAuthorities(args[0].dir) // without an authority there is nothing to lock
  return withCrlLock(args[0].dir, () => signCrls(...args))
}

async function signCrls(
  flags: Flags,
  added: (authority: KnownAuthority, isRoot: boolean) => readonly Revocation[],
): Promise<readonly Signed[]> {
  const authorities = readAuthorities(flags.dir)
  if (authorities[0]?.crl === undefined && hasIssued(flags.dir) && flags.force !== true) {
    // A new list would make good again what an older one revoked.
    const hint = 'restore it, or --force begins a new one that revokes nothing of before'
    throw new PkiError('EXISTS', `${crlFile(flags.dir)}: the revocation list is lost: ${hint}`)
  }
  const { nextCrl } = await import('../pki/revocation.ts')
  const lists = authorities.map((authority, at) => {
    const isRoot = at > 0
    const wanted = added(authority, isRoot)
    if (isRoot && wanted.length === 0 && authority.privateKeyPem === undefined) return authority.crlPem
    const days = isRoot ? daysLeft(authority.certificate) : flags.days
    return nextCrl(signingKey(authority, flags.dir), authority.crlPem, wanted, { days })
  })
  writeCrls(flags.dir, [...lists, ...otherCrls(flags.dir, authorities)])
  return readAuthorities(flags.dir).flatMap(({ crl }) => (crl === undefined ? [] : [signedOf(flags.dir, crl)]))
}

function signedOf(dir: string, { issuer, number, revoked, nextUpdateMs }: NonNullable<KnownAuthority['crl']>): Signed {
  const nextUpdate = new Date(nextUpdateMs ?? 0).toISOString()
  return { file: crlFile(dir), issuer, number: String(number), revoked: revoked.size, nextUpdate }
}

function listLine({ file, issuer, number, revoked, nextUpdate }: Signed): string {
  return `${file}: number ${number} of ${printable(issuer)}: ${revoked} revoked, next by ${nextUpdate.slice(0, 10)}`
}

/** A root's list lives as long as the root: its key is to be kept where it takes a walk to get at. */
export function daysLeft(certificate: X509Certificate): number {
  return (Date.parse(certificate.validTo) - Date.now()) / 86_400_000
}

/** The newest certificate of a client's folder, or else the server's. Throws PkiError. */
function renewable(name: string, dir: string): Issued {
  const found = findIssued(listIssued(dir, Date.now()), name)
  const inUse = found.find(({ folder }) => folder === name) ?? found.find(({ file }) => file === serverFiles(dir).cert)
  // A server certificate goes by any of its names.
  const server = listIssued(dir, Date.now()).find(({ file }) => file === serverFiles(dir).cert)
  const named = server !== undefined && [...server.facts.dnsNames, ...server.facts.ips].includes(name)
  const best = inUse ?? (named ? server : undefined)
  if (best === undefined) throw unknown(name, dir)
  return best
}

function unknown(name: string, dir: string): PkiError {
  const hint = 'nbdgate certs list shows what there is'
  return new PkiError('BAD_NAME', `${dir}: nothing that was issued here goes by ${JSON.stringify(name)}: ${hint}`)
}

function readPart(file: string): string {
  if (existsSync(file)) return readFileSync(file, 'utf8')
  throw new PkiError('BAD_NAME', `${file}: is not there`)
}
