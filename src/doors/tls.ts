/**
 * Ends TLS for visitors. Certificates are verified by OpenSSL through a tls.Server that listens nowhere: the check of
 * client certificates lives in tls.Server alone, a bare `new TLSSocket(…, { isServer: true })` accepts whatever it gets.
 */
import type { X509Certificate } from 'node:crypto'
import { createServer, type Server, type TLSSocket } from 'node:tls'
import { FactsCache } from '../pki/facts-cache.ts'
import type { ServerMaterial } from '../pki/material.ts'
import { rightsClock } from '../platform/rights-clock.ts'
import { DuplexStream } from '../stream/duplex-stream.ts'
import { startSlowly } from '../stream/slow-start.ts'
import type { Secured } from './door.ts'
import { TlsError, type TlsErrorReason } from './errors.ts'
import { PskDesk } from './psk-desk.ts'

/** AEAD suites with forward secrecy only; AES-128-GCM first, which is the fastest where the CPU knows AES. */
const CIPHERS = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
]
/** The one suite of TLS 1.2 with a key, forward secrecy and AEAD that OpenSSL has. In TLS 1.3 a key goes with any of SHA-256. */
const PSK_CIPHER = 'ECDHE-PSK-CHACHA20-POLY1305'

/** SSL_OP_NO_TICKET: a session that came back by ticket would pass by a revocation. */
const NO_TICKET = 0x4000

export interface TlsOptions {
  readonly mode: 'forced' | 'selective'
  readonly material: ServerMaterial
  readonly clientCert: 'required' | 'optional'
  readonly handshakeMs: number
}

/** A server that listens nowhere, and the keys it was made with. */
interface Stage {
  readonly server: Server
  readonly desk: PskDesk | undefined
}

/** Who has proved to be at the other end: by a certificate, by a key, or neither. */
interface Proof {
  readonly certificate?: X509Certificate | undefined
  readonly psk?: { readonly name: string; readonly key: Buffer } | undefined
}

interface Waiting {
  readonly resolve: (socket: TLSSocket) => void
  readonly reject: (error: TlsError) => void
}

/** The TLS end of one door. Its visitors keep hold of it, so that a reload reaches them too. */
export class TlsEnd {
  readonly #waiting = new WeakMap<object, Waiting>()
  readonly #facts = new FactsCache()
  #options: TlsOptions
  #stage: Stage

  constructor(options: TlsOptions) {
    this.#options = options
    this.#stage = this.#listen(options)
  }

  get mode(): TlsOptions['mode'] {
    return this.#options.mode
  }

  /** Takes other material; handshakes that have begun go on with the old one and are held against the new at their end. */
  reload(options: TlsOptions): void {
    this.#stage = this.#listen(options)
    this.#options = options
  }

  async upgrade(stream: DuplexStream): Promise<Secured> {
    const options = this.#options
    const { server, desk } = this.#stage
    const raw = stream.detach()
    let secured: DuplexStream | undefined
    try {
      const gone = (): void => this.#waiting.get(raw)?.reject(new TlsError('gone', 'the connection closed'))
      raw.once('close', gone)
      const socket = await new Promise<TLSSocket>((resolve, reject) => {
        this.#waiting.set(raw, { resolve, reject })
        // Documented for injecting connections: https://nodejs.org/api/tls.html#event-connection
        server.emit('connection', raw)
      })
      raw.off('close', gone)
      this.#waiting.delete(raw)
      startSlowly(socket)
      secured = new DuplexStream(socket)
      const psk = desk?.proven(socket)
      const proof: Proof = psk === undefined ? { certificate: verified(socket, options) } : { psk }
      // Until a reload what OpenSSL said holds, but for time. Node 24 does not tell the chain that a client sent: held
      // against trust alone, whoever came by an intermediate authority of his own would be cut off at once.
      const recheck = (): TlsErrorReason | undefined =>
        options === this.#options ? ageOf(proof.certificate) : this.#against(proof)
      // Without a reload meanwhile it is the clock: it was set back, or the certificate has run out since.
      const reason = recheck()
      if (reason !== undefined) throw new TlsError(reason, 'no longer accepted')
      const { name: suite, standardName } = socket.getCipher()
      const version = socket.getProtocol() ?? ''
      return {
        stream: secured,
        certificate: factsOf(proof.certificate, this.#facts),
        psk: psk?.name,
        cipher: `${version} ${standardName}`,
        version,
        suite,
        recheck,
      }
    } catch (error) {
      secured?.destroy()
      // Nobody hears of its close any more: if it were not closed by now, the session would wait for that for ever.
      raw.destroy()
      throw error
    }
  }

  #against({ certificate, psk }: Proof): TlsErrorReason | undefined {
    const { clientCert, material } = this.#options
    if (psk !== undefined) return material.psk?.get(psk.name)?.equals(psk.key) === true ? undefined : 'wrong key'
    if (certificate !== undefined) {
      return material.trust === undefined ? 'unknown CA' : material.trust.against(certificate, rightsClock.now())
    }
    return asksForProof(material) && clientCert === 'required' ? 'no certificate' : undefined
  }

  #listen(options: TlsOptions): Stage {
    const { material } = options
    const desk = material.psk === undefined ? undefined : new PskDesk(material.psk)
    const server = createServer({
      cert: material.cert,
      key: material.key,
      ...(material.ca === undefined ? {} : { ca: material.ca }),
      ...(material.crl === undefined ? {} : { crl: material.crl }),
      requestCert: material.ca !== undefined,
      // We look at the verdict ourselves, below, to be able to log it: left to tls.Server, it is a mere ECONNRESET.
      rejectUnauthorized: false,
      minVersion: 'TLSv1.2',
      // First, since only who has a key offers it.
      ciphers: [...(desk === undefined ? [] : [PSK_CIPHER]), ...CIPHERS].join(':'),
      ...(desk === undefined ? {} : { pskCallback: (socket: TLSSocket, name: string) => desk.keyFor(socket, name) }),
      honorCipherOrder: true,
      secureOptions: NO_TICKET,
      handshakeTimeout: options.handshakeMs,
    })
    server.on('secureConnection', socket => waiterOf(this.#waiting, socket)?.resolve(socket))
    server.on('tlsClientError', (error, socket) =>
      waiterOf(this.#waiting, socket)?.reject(handshakeError(error, desk?.offer(socket))),
    )
    return { server, desk }
  }
}

/** The certificate that OpenSSL has accepted; undefined where none is needed. @throws TlsError */
function verified(socket: TLSSocket, options: TlsOptions): X509Certificate | undefined {
  const { ca, psk } = options.material
  if (ca === undefined && options.clientCert === 'optional') return undefined
  const certificate = socket.getPeerX509Certificate()
  if (certificate === undefined) {
    if (options.clientCert === 'optional') return undefined
    throw new TlsError('no certificate', psk === undefined ? 'the client sent none' : 'the client has no key either')
  }
  // Without an authority none is asked for: one that is there all the same says nothing.
  if (ca === undefined) throw new TlsError('certificate refused', 'there is no client-ca')
  // A certificate that is there and bad is never the same as none.
  if (!socket.authorized) throw new TlsError(...verdictOf(String(socket.authorizationError)))
  return certificate
}

function ageOf(certificate: X509Certificate | undefined): TlsErrorReason | undefined {
  return certificate !== undefined && rightsClock.now() >= Date.parse(certificate.validTo) ? 'expired' : undefined
}

function asksForProof({ trust, psk }: ServerMaterial): boolean {
  return trust !== undefined || psk !== undefined
}

/** @throws TlsError for names that can not be read: better nobody than somebody else */
function factsOf(certificate: X509Certificate | undefined, known: FactsCache): Secured['certificate'] {
  try {
    return certificate && known.factsOf(certificate)
  } catch (cause) {
    throw new TlsError('certificate refused', 'its names can not be read', { cause })
  }
}

/** The TLSSocket keeps the socket that it wraps in `_parent`. Should Node drop that, nobody gets in: no waiter, no yes. */
function waiterOf(waiting: WeakMap<object, Waiting>, socket: TLSSocket): Waiting | undefined {
  const raw: unknown = Reflect.get(socket, '_parent')
  const waiter = typeof raw === 'object' && raw !== null ? waiting.get(raw) : undefined
  if (waiter === undefined) socket.destroy()
  return waiter
}

/** Verification results of OpenSSL in our words (openssl-verification-options(1), X509_STORE_CTX_get_error(3)). */
function verdictOf(code: string): [TlsErrorReason, string] {
  switch (code) {
    case 'CERT_HAS_EXPIRED':
      return ['expired', code]
    case 'CERT_NOT_YET_VALID':
      return ['not yet valid', code]
    case 'CERT_REVOKED':
      return ['revoked', code]
    case 'CRL_HAS_EXPIRED':
      return ['CRL expired', code]
    case 'UNABLE_TO_GET_CRL':
      return ['no CRL', code]
    case 'INVALID_PURPOSE':
      return ['wrong purpose', code]
    case 'UNABLE_TO_GET_ISSUER_CERT':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
    case 'CERT_SIGNATURE_FAILURE':
      return ['unknown CA', code]
    default:
      return ['certificate refused', code]
  }
}

/** How a wrong key shows: in TLS 1.3 the binder, in TLS 1.2 the Finished message can not be read. */
const WRONG_KEY = ['ERR_SSL_BINDER_DOES_NOT_VERIFY', 'ERR_SSL_DECRYPTION_FAILED_OR_BAD_RECORD_MAC']

function handshakeError(error: Error, offer: string | undefined): TlsError {
  const code = 'code' in error ? String(error.code) : 'unknown'
  if (offer !== undefined && WRONG_KEY.includes(code))
    return new TlsError('wrong key', `${code}, ${offer}`, { cause: error })
  const reason = code === 'ERR_TLS_HANDSHAKE_TIMEOUT' ? 'handshake timeout' : 'handshake failed'
  return new TlsError(reason, code, { cause: error })
}
