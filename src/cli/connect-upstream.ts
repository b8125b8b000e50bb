/** What `nbdgate connect` dials, made of its URI and its options. */
import { join, resolve } from 'node:path'
import type { UpstreamConfig } from '../config/config.ts'
import { MAX_CONNECTIONS, parseUpstreamUri } from '../config/upstream-uri.ts'
import { UsageError } from './errors.ts'
import { sshFileProblems } from './load.ts'

/** Options that say how the far end is reached. */
export interface FarEndFlags {
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
  readonly export?: string
  readonly identity?: string
  readonly knownHosts?: string
  readonly connections?: string
}

type FarEnd = Exclude<UpstreamConfig, { kind: 'file' }>

/**
 * The far end: an encrypted URI, since there is no falling back to plaintext. `?tls-certificates=FOLDER` is understood as
 * libnbd has it: ca-cert.pem, client-cert.pem and client-key.pem in there. @throws UsageError
 */
export function farEnd(text: string, flags: FarEndFlags): FarEnd {
  const { rest, folder } = takeCertificates(text)
  const uri = parseUpstreamUri(rest)
  if (!uri.ok) throw new UsageError(uri.problem)
  const isSsh = uri.value.kind === 'ssh'
  if (!uri.value.tls && !isSsh) {
    throw new UsageError('this URI is plaintext: connect takes nbds://, nbds+unix:// and nbd+ssh:// only')
  }
  const name = flags.export ?? uri.value.export
  if (uri.value.export !== '' && name !== uri.value.export) {
    throw new UsageError('the URI and --export name different exports')
  }
  const place = uri.value.kind === 'unix' ? { ...uri.value, path: resolve(uri.value.path) } : uri.value
  const { identity, knownHosts } = flags
  const material = materialOf(folder, flags)
  if (isSsh && Object.values(material).some(file => file !== undefined)) {
    throw new UsageError('certificates mean nothing to nbd+ssh://: use --identity and --known-hosts')
  }
  if (!isSsh && (identity !== undefined || knownHosts !== undefined)) {
    throw new UsageError('--identity and --known-hosts are for nbd+ssh://')
  }
  const [broken] = sshFileProblems(flags)
  if (broken !== undefined) throw new UsageError(broken.problem)
  const connections = connectionsOf(flags.connections)
  const files = { ...material, identity: absolute(identity), knownHosts: absolute(knownHosts) }
  return { ...place, export: name, ...files, ...(connections !== undefined && { connections }) }
}

function materialOf(folder: string | undefined, { ca, cert, key }: FarEndFlags): Pick<FarEnd, 'ca' | 'cert' | 'key'> {
  if (folder === undefined) {
    return { ca: absolute(ca), cert: absolute(cert), key: absolute(key) }
  }
  if (ca !== undefined || cert !== undefined || key !== undefined) {
    throw new UsageError('tls-certificates= in the URI goes without --ca, --cert and --key')
  }
  const file = (name: string): string => resolve(join(folder, name))
  return { ca: file('ca-cert.pem'), cert: file('client-cert.pem'), key: file('client-key.pem') }
}

function connectionsOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const connections = /^\d{1,2}$/.test(text) ? Number(text) : 0
  if (connections >= 1 && connections <= MAX_CONNECTIONS) return connections
  throw new UsageError(`--connections is a number from 1 to ${MAX_CONNECTIONS}`)
}

function absolute(file: string | undefined): string | undefined {
  return file === undefined ? undefined : resolve(file)
}

/** A URI without its tls-certificates=, which no configuration may have; given twice, the second is left and refused. */
function takeCertificates(text: string): { readonly rest: string; readonly folder: string | undefined } {
  const [base = '', ...behind] = text.split('?')
  const pairs = behind.join('?').split('&')
  const at = pairs.findIndex(pair => pair.startsWith('tls-certificates='))
  const value = pairs[at]?.slice('tls-certificates='.length)
  if (value === undefined) return { rest: text, folder: undefined }
  const others = pairs.filter((_, index) => index !== at).join('&')
  try {
    const folder = decodeURIComponent(value)
    if (folder === '' || folder.includes('\0')) throw new UsageError('tls-certificates= names no folder')
    return { rest: others === '' ? base : `${base}?${others}`, folder }
  } catch (error) {
    if (error instanceof UsageError) throw error
    throw new UsageError('the URI has a % that is not followed by the hex of UTF-8')
  }
}
