// Where minted certificates lie. The names are those that nbdkit (`--tls-certificates=DIR`), libnbd
// (`tls-certificates=DIR`) and qemu (`tls-creds-x509,dir=DIR`) look for.
import { randomBytes } from 'node:crypto'
import { chmodSync, lstatSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PkiError } from './errors.ts'
import type { HostKeyTexts } from './ssh-host-key.ts'

/** A certificate with its key, as PEM (what we make ourselves: PKCS #8, without a passphrase). */
export interface KeyedCertificate {
  readonly certificatePem: string
  readonly privateKeyPem: string
}

/** Where the parts of a leaf lie; `dir` is what nbdkit, libnbd and qemu take. */
export interface LeafFiles {
  readonly dir: string
  readonly ca: string
  readonly cert: string
  readonly key: string
}

/** Without `force`, nothing that exists is overwritten. */
export interface WriteOptions {
  readonly force?: boolean | undefined
}

/** The authority's files in a folder. */
export function authorityFiles(dir: string): { readonly cert: string; readonly key: string } {
  return { cert: join(dir, 'ca-cert.pem'), key: join(dir, 'ca-key.pem') }
}

/** The server's files in a folder. */
export function serverFiles(dir: string): LeafFiles {
  return {
    dir,
    ca: authorityFiles(dir).cert,
    cert: join(dir, 'server-cert.pem'),
    key: join(dir, 'server-key.pem'),
  }
}

/** The SSH host key's files in a folder, named as OpenSSH names them. */
export function hostKeyFiles(dir: string): { readonly key: string; readonly publicKey: string } {
  const key = join(dir, 'ssh_host_ed25519_key')
  return { key, publicKey: `${key}.pub` }
}

/** Writes a host key, 0600. Throws PkiError if one is there already: clients that know it would refuse another. */
export function writeHostKey(dir: string, { privateText, publicText }: HostKeyTexts): void {
  const files = hostKeyFiles(dir)
  makeFolder(dir)
  createFile(files.key, privateText, 0o600)
  replaceFile(files.publicKey, publicText, 0o644)
}

/** A client's files, in a folder of its own. Throws PkiError for a name that is no folder name. */
export function clientFiles(dir: string, name: string): LeafFiles {
  const own = join(dir, parseFolderName(name))
  return {
    dir: own,
    ca: join(own, 'ca-cert.pem'),
    cert: join(own, 'client-cert.pem'),
    key: join(own, 'client-key.pem'),
  }
}

/** A name that stays inside its parent folder and that no program takes for an option. Throws PkiError. */
export function parseFolderName(name: string): string {
  const refuse = (why: string) =>
    new PkiError('BAD_NAME', `the client name ${JSON.stringify(name)} can not be a folder's name: it ${why}`)
  if (name.trim() === '' || name !== name.trim()) throw refuse('is empty or has spaces around it')
  if (/[/\\]/.test(name)) throw refuse('has a slash in it')
  if (/[\p{C}\p{Zl}\p{Zp}]/u.test(name)) throw refuse('has control characters in it')
  if (/^[-.~]/.test(name)) throw refuse(`starts with ${JSON.stringify(name[0])}`)
  if (/\.(pem|md)$/i.test(name)) throw refuse('looks like one of the files beside it')
  if (name === 'issued') throw refuse('is the one for copies of what was issued')
  if (Buffer.byteLength(name) > 255) throw refuse('is longer than 255 bytes')
  return name
}

/** Reads the authority of a folder. Throws PkiError if a part is missing or can not be read. */
export function loadAuthority(dir: string): KeyedCertificate {
  return loadKeyed(authorityFiles(dir))
}

/** Reads an authority whose files have other names. Throws as `loadAuthority`. */
export function loadKeyed(files: { readonly cert: string; readonly key: string }): KeyedCertificate {
  return { certificatePem: readPart(files.cert), privateKeyPem: readPart(files.key) }
}

/** Writes a certificate and its key under other names. Throws as `writeAuthority`. */
export function writeKeyed(
  dir: string,
  files: { readonly cert: string; readonly key: string },
  pair: KeyedCertificate,
  options: WriteOptions = {},
): void {
  makeFolder(dir)
  writePair(files, pair, options)
}

/** Writes a new authority. Throws PkiError if a file is there already, or what the file system throws. */
export function writeAuthority(
  dir: string,
  authority: KeyedCertificate,
  options: WriteOptions = {},
): { readonly cert: string; readonly key: string } {
  const files = authorityFiles(dir)
  writeKeyed(dir, files, authority, options)
  return files
}

/** Writes a server's certificate and key beside the authority. Throws as `writeAuthority`. */
export function writeServer(dir: string, server: KeyedCertificate, options: WriteOptions = {}): LeafFiles {
  const files = serverFiles(dir)
  makeFolder(dir)
  writePair(files, server, options)
  return files
}

/** Writes a client's folder, with a copy of the authority's certificate in it. Throws as `writeAuthority`. */
export function writeClient(
  dir: string,
  name: string,
  client: KeyedCertificate & { readonly authorityPem: string },
  options: WriteOptions = {},
): LeafFiles {
  const files = clientFiles(dir, name)
  makeFolder(dir)
  makeFolder(files.dir)
  writePair(files, client, options)
  replaceFile(files.ca, client.authorityPem, 0o644)
  return files
}

/** Throws PkiError if a file is there: asked before a key is made, because an RSA key takes a while. */
export function refuseToOverwrite(files: { readonly cert: string; readonly key: string }, options: WriteOptions): void {
  if (options.force === true) return
  for (const file of [files.key, files.cert]) {
    // lstat: a dangling symbolic link is in the way too.
    if (lstatSync(file, { throwIfNoEntry: false }) !== undefined) throw exists(file)
  }
}

function writePair(
  files: { readonly cert: string; readonly key: string },
  pair: KeyedCertificate,
  options: WriteOptions,
): void {
  refuseToOverwrite(files, options)
  if (options.force === true) {
    replaceFile(files.key, pair.privateKeyPem, 0o600)
  } else {
    createFile(files.key, pair.privateKeyPem, 0o600)
  }
  replaceFile(files.cert, pair.certificatePem, 0o644)
}

// 'wx' also refuses to follow a symbolic link: two runs at once can not both believe that they made the key.
function createFile(file: string, text: string | Uint8Array, mode: number): void {
  try {
    writeFileSync(file, text, { flag: 'wx', mode })
  } catch (cause) {
    if (isErrno(cause, 'EEXIST')) throw exists(file)
    throw cause
  }
  chmodSync(file, mode) // whatever the umask was
}

/** Writes a file anew: never a moment with half of it, and never a key in a file that was open to others before. */
export function replaceFile(file: string, text: string | Uint8Array, mode: number): void {
  const fresh = `${file}.${randomBytes(6).toString('hex')}`
  try {
    createFile(fresh, text, mode)
    renameSync(fresh, file)
  } finally {
    rmSync(fresh, { force: true })
  }
}

function makeFolder(dir: string): void {
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 })
  } catch (cause) {
    if (!isErrno(cause, 'EEXIST') && !isErrno(cause, 'ENOTDIR')) throw cause
    throw new PkiError('EXISTS', `${dir}: there is a file where a folder should be`, { cause })
  }
}

function readPart(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    const hint = isErrno(cause, 'ENOENT')
      ? 'is not there: make an authority with `nbdgate certs init`'
      : 'can not be read'
    throw new PkiError('NO_AUTHORITY', `${file}: the authority ${hint}`, { cause })
  }
}

function exists(file: string): PkiError {
  return new PkiError('EXISTS', `${file}: is there already; --force overwrites it`)
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
