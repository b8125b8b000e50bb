/** What `nbdgate doctor` says of files: who may change what the gateway trusts, and how good keys are. */
import { accessSync, constants, statSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Config } from '../config/config.ts'
import { namedFiles, upstreamsOf } from '../config/named-files.ts'
import { loadCertificates } from '../pki/material.ts'
import { loadPsks } from '../pki/psk.ts'
import { type Finding, fine, problem, warning } from './doctor-finding.ts'

const OTHERS_WRITE = 0o002
const GROUP_WRITES = 0o020
const NOT_THE_OWNER = 0o077
const STICKY = 0o1000
const MIN_RSA_BITS = 2048
/** What psktool makes. */
const PSK_BYTES = 32
const MS_PER_DAY = 86_400_000
const SOON_DAYS = 14

/** Permissions of all that is named, and of what the gateway makes. */
export function fileFindings(config: Config): readonly Finding[] {
  const files = namedFiles(config)
  const open = files.flatMap(writableFinding)
  const made = [...stateFindings(config.state), ...socketFindings(config.admin?.socket)]
  return [...(open.length > 0 ? open : [fine('files', `${files.length} files, none that others may change`)]), ...made]
}

function writableFinding(file: string): readonly Finding[] {
  const mode = modeOf(file)
  if (mode === undefined || (mode & (OTHERS_WRITE | GROUP_WRITES)) === 0) return []
  const todo = `chmod go-w ${file}`
  return (mode & OTHERS_WRITE) !== 0
    ? [problem('files', `${file}: everybody may change it (mode ${octal(mode)}), and so who gets in`, todo)]
    : [warning('files', `${file}: its group may change it (mode ${octal(mode)}), and so who gets in`, todo)]
}

function stateFindings(state: string | undefined): readonly Finding[] {
  if (state === undefined) return []
  const mode = modeOf(state)
  if (mode === undefined) {
    return isWritable(dirname(state))
      ? [fine('state', `${state}: not there yet, made at the first start`)]
      : [
          problem(
            'state',
            `${state}: not there, and can not be made here`,
            `make it, for the gateway's user, mode 0700`,
          ),
        ]
  }
  if ((mode & NOT_THE_OWNER) !== 0) {
    const what = `${state}: open to others (mode ${octal(mode)}); the audit trail lies in it`
    return [
      (mode & (OTHERS_WRITE | GROUP_WRITES)) === 0
        ? warning('state', what, chmod(state))
        : problem('state', what, chmod(state)),
    ]
  }
  if (!isWritable(state)) {
    return [
      problem('state', `${state}: this user may not write there`, 'run doctor as the user of the gateway, or chown it'),
    ]
  }
  return [fine('state', `${state}: its owner's alone`)]
}

function socketFindings(socket: string | undefined): readonly Finding[] {
  if (socket === undefined) return []
  const mode = modeOf(socket)
  const folder = modeOf(dirname(socket))
  if (folder === undefined) {
    const todo = `make the folder ${dirname(socket)}, unless it is the state folder`
    return [warning('admin', `${socket}: its folder is not there`, todo)]
  }
  if ((folder & OTHERS_WRITE) !== 0 && (folder & STICKY) === 0) {
    const what = `${dirname(socket)}: everybody may put another socket in the place of the admin socket`
    return [problem('admin', what, `chmod o-w ${dirname(socket)}`)]
  }
  if (mode !== undefined && (mode & NOT_THE_OWNER) !== 0) {
    return [problem('admin', `${socket}: others may command the gateway (mode ${octal(mode)})`, `chmod 600 ${socket}`)]
  }
  return [fine('admin', mode === undefined ? `${socket}: no gateway has made it yet` : `${socket}: its owner's alone`)]
}

/** Certificates: their end and the strength of their keys; pre-shared keys: length and randomness. */
export function keyFindings(config: Config, nowMs: number): readonly Finding[] {
  const upstreams = upstreamsOf(config).flatMap(upstream =>
    upstream.kind === 'file' ? [] : [upstream.cert, upstream.ca],
  )
  const doors = config.doors.flatMap(door => (door.kind === 'tls' ? [door.cert, door.clientCa] : []))
  const certificates = new Set([...doors, ...upstreams].filter(file => file !== undefined))
  const psks = new Set(config.doors.flatMap(door => (door.kind === 'tls' && door.psk !== undefined ? [door.psk] : [])))
  return [...[...certificates].flatMap(file => certificateFindings(file, nowMs)), ...[...psks].flatMap(pskFindings)]
}

/** What can not be read is told of by whoever loads the configuration. */
function certificateFindings(file: string, nowMs: number): readonly Finding[] {
  return attempt(() => loadCertificates(file)).map(certificate => {
    const { asymmetricKeyType: kind, asymmetricKeyDetails: details } = certificate.publicKey
    const days = Math.floor((Date.parse(certificate.validTo) - nowMs) / MS_PER_DAY)
    if (kind === 'dsa' || (details?.modulusLength !== undefined && details.modulusLength < MIN_RSA_BITS)) {
      const bits = details?.modulusLength ?? 0
      const todo = 'make a new key: ECDSA P-256, or RSA with 3072 bits (nbdgate certs)'
      return problem('keys', `${file}: a key of ${bits} bits (${kind}) can be broken`, todo)
    }
    const what = `${file}: ${[kind, details?.namedCurve ?? details?.modulusLength].join(' ').trim()}, ${days} days left`
    return days < SOON_DAYS
      ? warning('keys', what, 'renew it: nbdgate certs renew, or your authority')
      : fine('keys', what)
  })
}

function pskFindings(file: string): readonly Finding[] {
  const findings = attempt(() => [...loadPsks(file).keys]).flatMap(([name, key]) => {
    const todo = 'make a new one: psktool -u NAME -p FILE'
    const who = `${file}: the key of ${JSON.stringify(name)}`
    // Of 32 random bytes some 30 are different, and one in three is a printable character.
    if (new Set(key).size <= key.length / 4) return [problem('keys', `${who} repeats itself`, todo)]
    if (key.every(byte => byte >= 0x20 && byte < 0x7f)) return [warning('keys', `${who} looks like a password`, todo)]
    return key.length < PSK_BYTES ? [warning('keys', `${who} has ${key.length} bytes only`, todo)] : []
  })
  return findings.length > 0 ? findings : [fine('keys', `${file}: long and random keys`)]
}

function attempt<T>(load: () => readonly T[]): readonly T[] {
  try {
    return load()
  } catch {
    return []
  }
}

function modeOf(file: string): number | undefined {
  return statSync(file, { throwIfNoEntry: false })?.mode
}

function octal(mode: number): string {
  return (mode & 0o777).toString(8).padStart(4, '0')
}

function chmod(folder: string): string {
  return `chmod 700 ${folder}`
}

function isWritable(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK)
    return true
  } catch {
    return false
  }
}
