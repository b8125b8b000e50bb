/**
 * OpenSSH certificates of users and hosts (PROTOCOL.certkeys): decoded, and checked against authorities that are trusted. ssh2 can
 * not do it: its parser takes the nonce of a certificate for the key.
 */
import { decodePublicKey, fingerprintOf, type PublicKey, readKey, verifySignature } from './public-key.ts'
import { SshReader } from './reader.ts'

/** What a certificate says; nothing of it is believed before `certificateProblem` has said so. */
export interface Certificate {
  readonly key: PublicKey
  /** The same key outside its certificate, as it goes over the wire. */
  readonly plainBlob: Buffer
  readonly serial: bigint
  readonly isUser: boolean
  readonly isHost: boolean
  readonly keyId: string
  readonly principals: readonly string[]
  /** Milliseconds of the epoch; `Infinity`: for ever. */
  readonly validAfterMs: number
  readonly validBeforeMs: number
  readonly criticalOptions: ReadonlyMap<string, Buffer>
  readonly extensions: ReadonlySet<string>
  /** The key that signed it, as it goes over the wire. */
  readonly authorityBlob: Buffer
  readonly signed: Buffer
  readonly signature: Buffer
}

/** Certificate type → type of the key inside. */
const KEY_TYPES: ReadonlyMap<string, string> = new Map(
  ['ssh-ed25519', 'ecdsa-sha2-nistp256', 'ecdsa-sha2-nistp384', 'ecdsa-sha2-nistp521', 'ssh-rsa'].map(type => [
    `${type}-cert-v01@openssh.com`,
    type,
  ]),
)

const USER = 1
const HOST = 2

/** Whether an algorithm of a login, `rsa-sha2-256-cert-v01@openssh.com` say, is one of certificates. */
export function isCertificateAlgorithm(algorithm: string): boolean {
  return algorithm.endsWith('-cert-v01@openssh.com')
}

/** Decodes a certificate; undefined when it is malformed, or of a kind that we do not take. */
export function decodeCertificate(blob: Buffer): Certificate | undefined {
  try {
    return readCertificate(blob)
  } catch {
    return undefined
  }
}

function readCertificate(blob: Buffer): Certificate | undefined {
  const reader = new SshReader(blob)
  const type = KEY_TYPES.get(reader.text())
  if (type === undefined) return undefined
  reader.string() // the nonce
  const from = reader.offset
  const key = readKey(type, reader)
  if (key === undefined) return undefined
  const plainBlob = Buffer.concat([lengthOf(type), Buffer.from(type), blob.subarray(from, reader.offset)])
  const serial = reader.uint64()
  const kind = reader.uint32()
  const [isUser, isHost] = [kind === USER, kind === HOST]
  const keyId = reader.text()
  const principals = strings(reader.string())
  const [validAfterMs, validBeforeMs] = [milliseconds(reader.uint64()), milliseconds(reader.uint64())]
  const criticalOptions = options(reader.string())
  const extensions = new Set(options(reader.string()).keys())
  reader.string() // reserved
  const authorityBlob = reader.string()
  const signed = blob.subarray(0, reader.offset)
  const signature = reader.string()
  if (!reader.atEnd) return undefined
  const validity = { validAfterMs, validBeforeMs, criticalOptions, extensions }
  const facts = { key: { type, key, fingerprint: fingerprintOf(plainBlob) }, plainBlob, serial, isUser, isHost, keyId }
  return { ...facts, principals, ...validity, authorityBlob, signed, signature }
}

/** Why nobody may log in with a certificate at a moment, whoever vouches for it; undefined when it is in order. */
export function certificateProblem(certificate: Certificate, nowMs: number): string | undefined {
  const { isUser, validAfterMs, validBeforeMs, criticalOptions } = certificate
  if (!isUser) return 'it is the certificate of a host'
  if (nowMs < validAfterMs) return 'it is not valid yet'
  if (nowMs >= validBeforeMs) return 'it has expired'
  const unknown = [...criticalOptions.keys()].find(name => name !== 'source-address')
  if (unknown !== undefined) return `it has the critical option ${JSON.stringify(unknown.slice(0, 64))}`
  const authority = decodePublicKey(certificate.authorityBlob)
  // A certificate can not sign another one: decodePublicKey takes plain keys only.
  if (authority === undefined) return 'its authority has no key that is taken'
  if (!verifySignature(authority, certificate.signed, certificate.signature))
    return "its authority's signature is wrong"
  return undefined
}

/** The networks of `source-address`, as written; undefined: from anywhere. */
export function sourceAddresses(certificate: Certificate): readonly string[] | undefined {
  const option = certificate.criticalOptions.get('source-address')
  if (option === undefined) return undefined
  try {
    return new SshReader(option).text().split(',')
  } catch {
    return []
  }
}

function strings(bytes: Buffer): readonly string[] {
  const reader = new SshReader(bytes)
  const list: string[] = []
  while (!reader.atEnd) list.push(reader.text())
  return list
}

function options(bytes: Buffer): ReadonlyMap<string, Buffer> {
  const reader = new SshReader(bytes)
  const map = new Map<string, Buffer>()
  while (!reader.atEnd) {
    const name = reader.text()
    if (map.has(name)) throw new RangeError('an option stands there twice')
    map.set(name, reader.string())
  }
  return map
}

/** 2^64 - 1 is "for ever"; so is all that Date can not hold. */
function milliseconds(seconds: bigint): number {
  return seconds > 8_640_000_000_000n ? Number.POSITIVE_INFINITY : Number(seconds) * 1000
}

function lengthOf(text: string): Buffer {
  const length = Buffer.alloc(4)
  length.writeUInt32BE(Buffer.byteLength(text))
  return length
}
