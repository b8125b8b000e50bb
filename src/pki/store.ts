// What an authority has issued and revoked, in its folder: `issued/SERIAL.pem` is a copy of each certificate, `ca-crl.pem`
// says which of them are not good any more. There is no index that could disagree with them.
import { X509Certificate } from 'node:crypto'
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { type CertificateFacts, certificateFacts } from './certificate-facts.ts'
import { type CrlFacts, isCrlOf, readCrl, splitCrls } from './crl.ts'
import { PkiError } from './errors.ts'
import { authorityFiles, type KeyedCertificate, replaceFile, serverFiles } from './files.ts'

const SERVER_AUTH = '1.3.6.1.5.5.7.3.1'

/** A certificate that this folder's authority answers for. */
export interface Issued {
  readonly certificate: X509Certificate
  readonly facts: CertificateFacts
  readonly kind: 'authority' | 'server' | 'client'
  readonly state: 'valid' | 'expired' | 'revoked'
  /** Where it is in use, or else its copy in `issued`. */
  readonly file: string
  /** Whose it is: the name of the client's folder, if it lies in one. */
  readonly folder: string | undefined
}

/** One authority of a folder; `privateKeyPem` is undefined where the key is kept elsewhere. */
export interface KnownAuthority {
  readonly certificate: X509Certificate
  readonly certificatePem: string
  readonly privateKeyPem: string | undefined
  /** Its revocation list as PEM, and read. */
  readonly crlPem: string | undefined
  readonly crl: CrlFacts | undefined
}

/** The root's files, where the authority is an intermediate one. The key is needed for nothing else and can go. */
export function rootFiles(dir: string): { readonly cert: string; readonly key: string } {
  return { cert: join(dir, 'root-cert.pem'), key: join(dir, 'root-key.pem') }
}

/** The revocation lists: one of the authority, and one of the root if there is a root. */
export function crlFile(dir: string): string {
  return join(dir, 'ca-crl.pem')
}

/** The folder's authorities, who signs leaves first. Throws PkiError if there is none, or the list can not be read. */
export function readAuthorities(dir: string): readonly KnownAuthority[] {
  const bundle = readIfThere(authorityFiles(dir).cert)
  const blocks = bundle === undefined ? [] : certificateBlocks(bundle)
  if (blocks.length === 0) {
    const hint = 'the authority is not there: make one with `nbdgate certs init`'
    throw new PkiError('NO_AUTHORITY', `${authorityFiles(dir).cert}: ${hint}`)
  }
  const lists = readLists(dir)
  const [root] = certificateBlocks(readIfThere(rootFiles(dir).cert) ?? '')
  return blocks.map((certificatePem, at) => {
    const certificate = new X509Certificate(certificatePem)
    const own = lists.findLast(({ crl }) => isCrlOf(crl, certificate))
    const key = at === 0 ? authorityFiles(dir).key : certificatePem === root ? rootFiles(dir).key : undefined
    const privateKeyPem = key === undefined ? undefined : readIfThere(key)
    return { certificate, certificatePem, privateKeyPem, crlPem: own?.pem, crl: own?.crl }
  })
}

/** The authority's key and bundle, for signing. Throws PkiError if the key is elsewhere. */
export function signingKey(authority: KnownAuthority, dir: string): KeyedCertificate {
  const { certificatePem, privateKeyPem } = authority
  if (privateKeyPem !== undefined) return { certificatePem, privateKeyPem }
  const who = certificateFacts(authority.certificate).subject
  throw new PkiError('NO_AUTHORITY', `${dir}: the key of ${who} is not here, and only it can do that`)
}

/** Writes the lists, at once. */
export function writeCrls(dir: string, lists: readonly (string | undefined)[]): string {
  replaceFile(crlFile(dir), lists.filter(list => list !== undefined).join(''), 0o644)
  return crlFile(dir)
}

/** Lists that are of none of these authorities: somebody put them there for the gateway, and they stay. */
export function otherCrls(dir: string, authorities: readonly KnownAuthority[]): readonly string[] {
  const isKnown = (crl: CrlFacts) => authorities.some(({ certificate }) => isCrlOf(crl, certificate))
  return readLists(dir).flatMap(({ pem, crl }) => (isKnown(crl) ? [] : [pem]))
}

/** Runs while nobody else changes the lists: of two revocations at once one would be lost. Throws PkiError if somebody is. */
export async function withCrlLock<T>(dir: string, work: () => Promise<T>): Promise<T> {
  const lock = `${crlFile(dir)}.lock`
  try {
    writeFileSync(lock, `${process.pid}\n`, { flag: 'wx', mode: 0o600 })
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause && cause.code === 'EEXIST')) throw cause
    throw new PkiError('EXISTS', `${lock}: another command changes the list; remove the file if none does`, { cause })
  }
  try {
    return await work()
  } finally {
    rmSync(lock, { force: true })
  }
}

/** Keeps a copy of what was issued, so that it can be listed and revoked when its folder has gone. */
export function recordIssued(dir: string, certificatePem: string): void {
  const [leaf = certificatePem] = certificateBlocks(certificatePem)
  const folder = join(dir, 'issued')
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  replaceFile(join(folder, `${new X509Certificate(leaf).serialNumber}.pem`), `${leaf}\n`, 0o644)
}

/** Whether this authority has kept copies: then it once had a revocation list, and one that is missing was lost. */
export function hasIssued(dir: string): boolean {
  return existsSync(join(dir, 'issued'))
}

/** All certificates, each once, the authority's first, then by their end. Throws as readAuthorities. */
export function listIssued(dir: string, nowMs: number): readonly Issued[] {
  const authorities = readAuthorities(dir)
  const found = new Map<string, Issued>()
  for (const file of certificateFiles(dir)) {
    for (const certificate of readCertificates(file)) {
      const issuer = authorities.find(
        each => certificate.checkIssued(each.certificate) && certificate.verify(each.certificate.publicKey),
      )
      if (issuer === undefined || found.has(certificate.fingerprint256)) continue
      const facts = certificateFacts(certificate)
      const expired = facts.notAfterMs <= nowMs
      const state = issuer.crl?.revoked.has(facts.serial) ? 'revoked' : expired ? 'expired' : 'valid'
      const folder = basename(file) === 'client-cert.pem' ? basename(dirname(file)) : undefined
      found.set(certificate.fingerprint256, { certificate, facts, kind: kindOf(certificate), state, file, folder })
    }
  }
  const rank = (each: Issued) => (each.kind === 'authority' ? 0 : 1)
  return [...found.values()].sort((a, b) => rank(a) - rank(b) || a.facts.notAfterMs - b.facts.notAfterMs)
}

/** Those that go by a name: the folder, the common name, or (without one) the first DNS name; or else by a serial number. */
export function findIssued(all: readonly Issued[], name: string): readonly Issued[] {
  const byName = all.filter(({ facts, folder, kind }) => {
    const names = facts.commonNames.length > 0 ? facts.commonNames : facts.dnsNames.slice(0, 1)
    return kind !== 'authority' && (folder === name || names.includes(name))
  })
  if (byName.length > 0) return byName
  const serial = parseSerial(name)
  return serial === undefined ? [] : all.filter(({ facts }) => facts.serial === serial)
}

/** A serial number in hexadecimal digits, with or without colons, as OpenSSL and GnuTLS write it; undefined for other text. */
export function parseSerial(text: string): string | undefined {
  const digits = text.replaceAll(':', '').replace(/^0x/i, '').toUpperCase()
  if (!/^[0-9A-F]{1,40}$/.test(digits)) return undefined
  const even = digits.length % 2 === 0 ? digits : `0${digits}`
  return even.replace(/^(00)+(?=..)/, '')
}

function kindOf(certificate: X509Certificate): Issued['kind'] {
  if (certificate.ca) return 'authority'
  return certificate.keyUsage?.includes(SERVER_AUTH) === true ? 'server' : 'client'
}

/** Files in use come before copies: what is listed names the file that somebody knows. */
function certificateFiles(dir: string): readonly string[] {
  const folders = readdirSync(dir, { withFileTypes: true }).filter(
    entry => entry.isDirectory() && entry.name !== 'issued',
  )
  const copies = hasIssued(dir) ? readdirSync(join(dir, 'issued')).filter(name => name.endsWith('.pem')) : []
  return [
    authorityFiles(dir).cert,
    serverFiles(dir).cert,
    ...folders.map(({ name }) => join(dir, name, 'client-cert.pem')),
    ...copies.sort().map(name => join(dir, 'issued', name)),
  ].filter(file => lstatSync(file, { throwIfNoEntry: false }) !== undefined)
}

/** Of a chain all; a file that holds something else holds nothing that we have issued. */
function readCertificates(file: string): readonly X509Certificate[] {
  try {
    return certificateBlocks(readFileSync(file, 'utf8')).map(block => new X509Certificate(block))
  } catch {
    return []
  }
}

function readLists(dir: string): readonly { readonly pem: string; readonly crl: CrlFacts }[] {
  const text = readIfThere(crlFile(dir))
  try {
    return splitCrls(text ?? '').map(pem => ({ pem, crl: readCrl(pem) }))
  } catch (cause) {
    throw new PkiError('NO_AUTHORITY', `${crlFile(dir)}: the revocation list can not be read`, { cause })
  }
}

function certificateBlocks(text: string): string[] {
  return text.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? []
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined
    throw new PkiError('NO_AUTHORITY', `${file}: can not be read`, { cause })
  }
}
