/**
 * Seals: the head of a trail at some moment, signed with an Ed25519 key that the gateway does not have. Whoever can write
 * the trail can write another one that hangs together; what was sealed can not be left out or changed any more. A seal is
 * a line of JSON like a record, and the signature is over the line up to the comma before `"signature"`.
 */
import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { AuditError } from './errors.ts'
import type { Head } from './trail-record.ts'

/** A seal as it was read. */
export interface Seal extends Head {
  readonly time: string
  /** SHA-256 of the public key (SubjectPublicKeyInfo): `SHA256:` and 64 hexadecimal digits. */
  readonly key: string
  readonly signed: Buffer
  readonly signature: Buffer
}

/** The line of a seal, without a newline. */
export function makeSeal(head: Head, time: string, key: KeyObject): string {
  const { seq, hash } = head
  const body = JSON.stringify({ seal: 1, seq, hash, time, key: keyName(createPublicKey(key)) }).slice(0, -1)
  return `${body},"signature":"${sign(null, Buffer.from(body), key).toString('base64')}"}`
}

/** Reads a line; undefined if it is no seal. Does not look at the signature. */
export function parseSeal(line: Buffer): Seal | undefined {
  const text = line.toString('latin1')
  const form =
    /^(\{"seal":1,"seq":(\d{1,15}),"hash":"([0-9a-f]{64})","time":"([^"\\]*)","key":"(SHA256:[0-9a-f]{64})"),"signature":"([A-Za-z0-9+/]{86}==)"\}$/
  const [, body, seq, hash, time, key, signature] = form.exec(text) ?? []
  if (!body || !hash || time === undefined || !key || !signature) return undefined
  const bytes = Buffer.from(signature, 'base64')
  // 86 digits hold 516 bits: the four that are left over must be zero, or one signature would have 16 spellings.
  if (bytes.toString('base64') !== signature) return undefined
  return { seq: Number(seq), hash, time, key, signed: Buffer.from(body, 'latin1'), signature: bytes }
}

/** Whether this key has made the seal, another one has by its own account, or nobody has. */
export function judgeSeal(seal: Seal, key: KeyObject): 'holds' | 'other key' | 'false' {
  if (seal.key !== keyName(key)) return 'other key'
  return verify(null, seal.signed, key, seal.signature) ? 'holds' : 'false'
}

/** Reads a private key (PEM, without a passphrase) to seal with. @throws AuditError SEAL */
export function loadSealKey(file: string): KeyObject {
  return load(file, 'private', pem => createPrivateKey(pem))
}

/** Reads the public key (PEM; the private one will do) that seals are checked with. @throws AuditError SEAL */
export function loadPublicKey(file: string): KeyObject {
  return load(file, 'public', pem => createPublicKey(pem))
}

function load(file: string, what: string, read: (pem: Buffer) => KeyObject): KeyObject {
  const hint = `an Ed25519 ${what} key in PEM is needed: openssl genpkey -algorithm ed25519`
  const pem = readText(file)
  let key: KeyObject
  try {
    key = read(pem)
  } catch (error) {
    throw new AuditError('SEAL', `${file}: ${hint}`, { cause: error })
  }
  if (key.asymmetricKeyType !== 'ed25519') throw new AuditError('SEAL', `${file}: ${hint}`)
  return key
}

function readText(file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : ''
    throw new AuditError('SEAL', `${file}: can not be read: ${code}`, { cause: error })
  }
}

function keyName(key: KeyObject): string {
  const der = key.export({ type: 'spki', format: 'der' })
  return `SHA256:${createHash('sha256').update(der).digest('hex')}`
}
