/**
 * Names out of what visitors and configurations are called, fit for paths, volumes and arguments: they begin with a letter or a
 * digit, have nothing in them but those and `-` `_` `.`, and no two things share one.
 */
import { createHash, randomBytes } from 'node:crypto'
import type { Per } from '../config/config.ts'
import { type Identity, keyOf, nameOf } from '../policy/identity.ts'

const MAX_PREFIX = 32
const MAX_PLAIN = 48
const PLAIN = /^[A-Za-z0-9][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*$/
const HASHED = /-[0-9a-f]{16}$/

/** As it is where it is harmless; else what can be read of it, and a hash. One that looks like the latter gets one too. */
export function safeName(name: string): string {
  const isPlain = name.length <= MAX_PLAIN && PLAIN.test(name) && !HASHED.test(name)
  return isPlain ? name : `${prefixOf(name)}-${hash16(name)}`
}

/** What a thing is prepared for. */
export interface Purpose {
  readonly export: string
  readonly per: Per
  /** Of whom is let in. */
  readonly identity: Identity
}

/** The name of what is prepared: another one each time for a connection, the same one always for an identity or an export. */
export function preparationId({ export: name, per, identity }: Purpose): string {
  const prefix = prefixOf(name)
  if (per === 'connection') return `${prefix}-${randomBytes(8).toString('hex')}`
  if (per === 'export') return `${prefix}-${hash16(JSON.stringify([name]))}`
  return `${prefix}-${prefixOf(nameOf(identity))}-${hash16(JSON.stringify([name, lastingKeyOf(identity)]))}`
}

/** Whether there is anything that tells an identity from others. */
export function isKnown(identity: Identity): boolean {
  return nameOf(identity) !== 'unknown'
}

/**
 * What tells an identity from others for longer than a certificate lasts: all names that its authority has certified, so that
 * a renewal changes nothing.
 */
function lastingKeyOf(identity: Identity): string {
  const { certificate } = identity
  if (certificate === undefined) return keyOf(identity)
  const { commonNames, organizations, organizationalUnits, dnsNames, emails, uris, ips } = certificate
  const names = [commonNames, organizations, organizationalUnits, dnsNames, emails, uris, ips]
  return names.every(each => each.length === 0) ? keyOf(identity) : `names ${JSON.stringify(names)}`
}

function prefixOf(name: string): string {
  const plain = name.slice(0, 4 * MAX_PREFIX).replace(/[^A-Za-z0-9]+/g, '-')
  return plain.replace(/^-+/, '').slice(0, MAX_PREFIX).replace(/-+$/, '') || 'x'
}

/** The first 64 bits of a SHA-256, in hexadecimal digits. */
export function hash16(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16)
}
