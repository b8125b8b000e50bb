// Key material that is already there: read it, and say in one sentence what is wrong with it before a socket is opened.
// OpenSSL would say it too, but for the first client that comes, and without the file's name.
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import { type CrlFacts, readCrl, splitCrls } from './crl.ts'
import { checkCrls } from './crl-check.ts'
import { MaterialError } from './errors.ts'
import { loadPsks, type PskTable } from './psk.ts'
import { readText, warnAboutMode } from './read-text.ts'
import { Trust } from './trust.ts'

/** Files of a TLS door. `clientCa`: who may vouch for clients. `crl`: which of their certificates are revoked. `psk`: keys. */
export interface ServerMaterialFiles {
  readonly cert: string
  readonly key: string
  readonly clientCa?: string | undefined
  readonly crl?: string | undefined
  readonly psk?: string | undefined
}

/** Files for dialling an `nbds://` upstream. Without `ca`, Node's own list of authorities counts. */
export interface ClientMaterialFiles {
  readonly ca?: string | undefined
  readonly cert?: string | undefined
  readonly key?: string | undefined
}

/** PEM texts for node:tls, and what an operator should know although it works. */
export interface ServerMaterial {
  readonly cert: string
  readonly key: string
  readonly ca?: string
  /** One PEM text a CRL: of a text with two, OpenSSL as Node calls it sees only the first. */
  readonly crl?: string[]
  readonly psk?: PskTable
  /** What `ca` and `crl` say of certificates that were accepted before; there with `ca`. */
  readonly trust?: Trust
  readonly warnings: readonly string[]
}

/** As ServerMaterial, for the other end: `cert` and `key` are there together or not at all. */
export interface ClientMaterial {
  readonly cert?: string
  readonly key?: string
  readonly ca?: string
  readonly warnings: readonly string[]
}

/** `nowMs`: the clock, for tests. */
export interface MaterialOptions {
  readonly nowMs?: number | undefined
}

const SERVER_AUTH = '1.3.6.1.5.5.7.3.1'
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'
const MS_PER_DAY = 86_400_000
const EXPIRES_SOON_DAYS = 14

/** Loads and checks the material of a TLS door. Throws MaterialError for the first thing that is wrong. */
export function loadServerMaterial(files: ServerMaterialFiles, options: MaterialOptions = {}): ServerMaterial {
  const nowMs = options.nowMs ?? Date.now()
  const warnings: string[] = []
  const pair = loadPair(files.cert, files.key, SERVER_AUTH, nowMs, warnings)
  const ca = files.clientCa === undefined ? undefined : loadAuthorities(files.clientCa, nowMs, warnings)
  const crl = files.crl === undefined ? undefined : loadCrls(files.crl)
  if (ca !== undefined && crl !== undefined && files.clientCa !== undefined && files.crl !== undefined) {
    const { crls } = crl
    checkCrls({ file: files.crl, crls, caFile: files.clientCa, authorities: ca.authorities, nowMs }, warnings)
  }
  const psk = files.psk === undefined ? undefined : loadPsks(files.psk)
  warnings.push(...(psk?.warnings ?? []))
  return {
    ...pair,
    ...(ca === undefined ? {} : { ca: ca.text, trust: makeTrust(ca.text, crl?.texts, files.crl) }),
    ...(crl === undefined ? {} : { crl: crl.texts }),
    ...(psk === undefined ? {} : { psk: psk.keys }),
    warnings,
  }
}

/** Loads and checks the material for an `nbds://` upstream. Throws MaterialError for the first thing that is wrong. */
export function loadClientMaterial(files: ClientMaterialFiles, options: MaterialOptions = {}): ClientMaterial {
  const nowMs = options.nowMs ?? Date.now()
  const warnings: string[] = []
  const { cert, key } = files
  if (cert !== undefined && key === undefined) throw new MaterialError('INCOMPLETE', cert, 'the certificate has no key')
  if (key !== undefined && cert === undefined) throw new MaterialError('INCOMPLETE', key, 'the key has no certificate')
  const pair = cert === undefined || key === undefined ? {} : loadPair(cert, key, CLIENT_AUTH, nowMs, warnings)
  const ca = files.ca === undefined ? undefined : loadAuthorities(files.ca, nowMs, warnings)
  return { ...pair, ...(ca === undefined ? {} : { ca: ca.text }), warnings }
}

/** Loads the certificates of a PEM file, one or more, whatever their dates. Throws MaterialError. */
export function loadCertificates(file: string): [X509Certificate, ...X509Certificate[]] {
  const [first, ...rest] = parseCertificates(file, readText(file))
  if (first === undefined) throw notPem(file, 'holds no certificate in PEM form')
  return [first, ...rest]
}

function loadPair(
  certFile: string,
  keyFile: string,
  usage: string,
  nowMs: number,
  warnings: string[],
): { cert: string; key: string } {
  const cert = readText(certFile)
  const [leaf] = parseCertificates(certFile, cert)
  if (leaf === undefined) throw notPem(certFile, 'holds no certificate in PEM form')
  const key = readText(keyFile)
  if (!leaf.checkPrivateKey(parsePrivateKey(keyFile, key))) {
    throw new MaterialError('KEY_MISMATCH', keyFile, `the key does not match the certificate ${certFile}`)
  }
  checkValidity(certFile, leaf, nowMs, warnings)
  if (leaf.keyUsage !== undefined && !leaf.keyUsage.includes(usage)) {
    const role = usage === SERVER_AUTH ? 'server' : 'client'
    warnings.push(`${certFile}: the certificate is not meant for a TLS ${role}; its peers may refuse it`)
  }
  warnAboutMode(keyFile, 'private key', warnings)
  return { cert, key }
}

/** `authorities`: those that have not expired. */
function loadAuthorities(
  file: string,
  nowMs: number,
  warnings: string[],
): { readonly text: string; readonly authorities: readonly X509Certificate[] } {
  const text = readText(file)
  const all = parseCertificates(file, text)
  if (all.length === 0) throw notPem(file, 'holds no certificate in PEM form')
  if (!all.every(certificate => certificate.ca)) {
    throw new MaterialError('NOT_A_CA', file, 'the certificate is not a CA certificate')
  }
  // Of a bundle some may be past; only if nobody is left to vouch, nobody could come in.
  const living = all.filter(certificate => Date.parse(certificate.validTo) > nowMs)
  for (const certificate of living.length > 0 ? living : all) checkValidity(file, certificate, nowMs, warnings)
  if (living.length < all.length)
    warnings.push(`${file}: ${all.length - living.length} of ${all.length} certificates expired`)
  return { text, authorities: living }
}

function loadCrls(file: string): { readonly texts: string[]; readonly crls: readonly CrlFacts[] } {
  const texts = splitCrls(readText(file))
  if (texts.length === 0) throw notPem(file, 'holds no CRL in PEM form')
  try {
    createSecureContext({ crl: texts })
    return { texts, crls: texts.map(readCrl) }
  } catch (cause) {
    throw notPem(file, 'the CRL can not be read', cause)
  }
}

function makeTrust(ca: string, crl: readonly string[] | undefined, crlFile: string | undefined): Trust {
  try {
    return new Trust(ca, crl)
  } catch (cause) {
    throw notPem(crlFile ?? '', 'the CRL can not be read', cause)
  }
}

function checkValidity(file: string, certificate: X509Certificate, nowMs: number, warnings: string[]): void {
  const notBeforeMs = Date.parse(certificate.validFrom)
  const notAfterMs = Date.parse(certificate.validTo)
  const at = (ms: number) => new Date(ms).toISOString()
  if (nowMs < notBeforeMs) {
    throw new MaterialError('NOT_YET_VALID', file, `the certificate is not valid before ${at(notBeforeMs)}`)
  }
  if (nowMs >= notAfterMs) throw new MaterialError('EXPIRED', file, `the certificate expired on ${at(notAfterMs)}`)
  if (notAfterMs - nowMs < EXPIRES_SOON_DAYS * MS_PER_DAY) {
    warnings.push(`${file}: the certificate expires on ${at(notAfterMs)}`)
  }
}

function parseCertificates(file: string, text: string): X509Certificate[] {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? []
  try {
    return blocks.map(block => new X509Certificate(block))
  } catch (cause) {
    throw notPem(file, 'the certificate can not be read', cause)
  }
}

function parsePrivateKey(file: string, text: string): KeyObject {
  if (/-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED/m.test(text)) {
    throw new MaterialError('KEY_ENCRYPTED', file, 'the key is protected by a passphrase')
  }
  if (!/-----BEGIN ([A-Z]+ )?PRIVATE KEY-----/.test(text)) throw notPem(file, 'holds no private key in PEM form')
  try {
    return createPrivateKey(text)
  } catch {
    // No cause: an error about a key shall not carry anything of the key.
    throw notPem(file, 'the private key can not be read')
  }
}

function notPem(file: string, why: string, cause?: unknown): MaterialError {
  return new MaterialError('NOT_PEM', file, why, cause === undefined ? undefined : { cause })
}
