/** The way to an upstream: a stream that is to be negotiated on, or a file that needs no negotiation. */

import { once } from 'node:events'
import { connect as connectSocket, isIP } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import type { UpstreamConfig } from '../config/config.ts'
import { MaterialError } from '../pki/errors.ts'
import { type ClientMaterial, loadClientMaterial } from '../pki/material.ts'
import type { BlockSize } from '../protocol/info.ts'
import { acknowledgeOn } from '../stream/acknowledge.ts'
import { DuplexStream } from '../stream/duplex-stream.ts'
import type { Share } from '../stream/memory.ts'
import { PooledSocket } from '../stream/pooled-socket.ts'
import type { GatedStream } from '../stream/write-gate.ts'
import { UpstreamError } from './errors.ts'
import { openFile } from './file.ts'
import { SshPool } from './ssh.ts'
import { SshStream } from './ssh-stream.ts'

/** A connected upstream. */
export type Link =
  | {
      readonly kind: 'server'
      readonly stream: GatedStream
      /** Acknowledges what has come at once, for servers that wait for it before they say the rest. */
      readonly acknowledge: () => void
      /** The export to ask for. */
      readonly export: string
      /** Present when the upstream has to speak TLS: upgrades after STARTTLS was acknowledged. @throws UpstreamError */
      readonly secure: (() => Promise<GatedStream>) | undefined
    }
  | {
      readonly kind: 'file'
      readonly stream: GatedStream
      readonly sizeBytes: bigint
      readonly flags: number
      readonly blockSize: BlockSize
    }

/** What a connection is for. */
export interface LinkWants {
  readonly readOnly: boolean
  /** Which of several of a session it is. */
  readonly lane?: number | undefined
  /** A file answers by structured replies. */
  readonly structured?: boolean
  readonly memory?: Share | undefined
}

/**
 * Connects to an upstream.
 * @throws UpstreamError DIAL when it can not be reached before `signal` says stop or its key material can not be used,
 * REFUSED when a file is no file
 */
export async function connectUpstream(
  config: UpstreamConfig,
  wants: LinkWants,
  signal: AbortSignal,
  ssh: SshPool = new SshPool(),
): Promise<Link> {
  if (config.kind === 'file') {
    const { stream, ...facts } = await openFile(config.path, wants)
    return { kind: 'file', stream: new DuplexStream(stream), ...facts }
  }
  if (config.kind === 'ssh') {
    const stream = new SshStream(await ssh.dial(config, signal, wants.lane))
    return { kind: 'server', stream, acknowledge: nothing, export: config.export, secure: undefined }
  }
  const address = config.kind === 'tcp' ? { host: config.host, port: config.port } : { path: config.path }
  if (!config.tls) {
    const stream = new PooledSocket(address)
    await reach(stream.connected(signal), () => stream.destroy())
    const { acknowledge } = stream
    return { kind: 'server', stream, acknowledge, export: config.export, secure: undefined }
  }
  const material = loadMaterial(config)
  const options = { ...address, allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: 15_000 }
  const socket = connectSocket(options)
  const stream = new DuplexStream(socket)
  await reach(once(socket, 'connect', { signal }), () => socket.destroy())
  const hostname = config.tlsHostname ?? (config.kind === 'tcp' ? config.host : 'localhost')
  const acknowledge = (): void => void acknowledgeOn(socket)
  const secure = async (): Promise<GatedStream> => {
    const secured = upgrade(stream, hostname, material, signal)
    // What the server says comes in pieces, after our hello.
    setImmediate(acknowledge)
    return await secured
  }
  return { kind: 'server', stream, acknowledge, export: config.export, secure }
}

function nothing(): void {}

function loadMaterial(config: Exclude<UpstreamConfig, { kind: 'file' | 'ssh' }>): ClientMaterial {
  const { ca, cert, key } = config
  try {
    return loadClientMaterial({
      ...(ca === undefined ? {} : { ca }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
    })
  } catch (error) {
    // It was fine when the gateway started: a file has been taken away, or a certificate has expired since.
    if (error instanceof MaterialError) throw new UpstreamError('DIAL', error.message, { cause: error })
    throw error
  }
}

async function reach(connected: Promise<unknown>, giveUp: () => void): Promise<void> {
  try {
    await connected
  } catch (error) {
    giveUp()
    const timedOut = error instanceof Error && error.name === 'AbortError'
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error'
    throw new UpstreamError('DIAL', timedOut ? 'no connection in time' : `no connection: ${code}`, { cause: error })
  }
}

/** The client's side of TLS. OpenSSL verifies chain, dates and name; nothing is sent before it has. */
async function upgrade(
  stream: DuplexStream,
  hostname: string,
  material: ClientMaterial,
  signal: AbortSignal,
): Promise<GatedStream> {
  const tls: TLSSocket = connectTls({
    socket: stream.detach(),
    host: hostname,
    // An IP address is no server name (RFC 6066 section 3); Node checks it against the certificate all the same.
    ...(isIP(hostname) === 0 ? { servername: hostname } : {}),
    ...(material.ca === undefined ? {} : { ca: material.ca }),
    ...(material.cert === undefined ? {} : { cert: material.cert }),
    ...(material.key === undefined ? {} : { key: material.key }),
    minVersion: 'TLSv1.2',
    // The default is what NODE_TLS_REJECT_UNAUTHORIZED says.
    rejectUnauthorized: true,
  })
  const secured = new DuplexStream(tls)
  try {
    await once(tls, 'secureConnect', { signal })
  } catch (error) {
    tls.destroy()
    const reason = error instanceof Error && 'code' in error ? String(error.code) : 'handshake failed'
    throw new UpstreamError('HANDSHAKE', `no TLS with ${hostname}: ${reason}`, { cause: error })
  }
  return secured
}
