import type { Socket } from 'node:net'
import type { CertificateFacts } from '../pki/certificate-facts.ts'
import type { DoorKind, Identity } from '../policy/identity.ts'
import type { Endpoints } from '../protocol/proxy-facts.ts'
import type { ByteStream } from '../stream/byte-stream.ts'
import type { TlsErrorReason } from './errors.ts'
import type { Listener } from './listen.ts'

/** A connection as it comes in through a door, before a byte of NBD. */
export interface Visitor {
  readonly stream: ByteStream
  /** What the door is; a visitor in plaintext at a selective TLS door counts as `tcp` until STARTTLS. */
  readonly door: DoorKind
  /** For logs: `192.0.2.7:50312`, or `uid 1000 pid 4711`. */
  readonly peer: string
  /** The balancer that has passed the visitor on, for logs. */
  readonly via?: string | undefined
  /** The two ends of the connection as the client sees them; absent at a Unix door. */
  readonly endpoints?: Endpoints | undefined
  readonly identity: Identity
  /** The one export that the visitor came for: it is the default one, and there are no others. Absent: all of them. */
  readonly only?: string | undefined
  /** Why the visitor would not be let in any more; undefined: it would. */
  readonly recheck?: (() => string | undefined) | undefined
  /** Present at a TLS door. */
  readonly tls?: TlsOffer | undefined
}

/** What a TLS door offers to one visitor. */
export interface TlsOffer {
  readonly mode: 'forced' | 'selective'

  /**
   * Ends TLS on the visitor's stream, which has been asked for it, and verifies the client's certificate.
   * @throws TlsError
   */
  upgrade(): Promise<Secured>
}

/** A stream inside TLS, and who is at its other end. */
export interface Secured {
  readonly stream: ByteStream
  readonly certificate?: CertificateFacts | undefined
  /** The name of the pre-shared key that was used instead. */
  readonly psk?: string | undefined
  /** For logs: `TLSv1.3 TLS_AES_128_GCM_SHA256`. */
  readonly cipher: string
  /** The same in OpenSSL's words, for upstreams: `TLSv1.2`, `ECDHE-RSA-AES128-GCM-SHA256`. */
  readonly version: string
  readonly suite: string

  /** Why the one at the other end would not be let in any more, by what the door trusts now; undefined: it would. */
  recheck(): TlsErrorReason | undefined
}

/** An open door. */
export interface Door {
  readonly kind: DoorKind
  /** Where it stands: `127.0.0.1:10809`, `[::1]:10809` or a path. */
  readonly address: string

  /** The socket that it listens at, for another process; undefined for a door that does not listen. */
  listener(): Listener | undefined

  /** Another process listens there now: those who have come already still get in. */
  release(): Promise<void>

  /** Lets nobody in any more; those who are in stay. */
  close(): Promise<void>
}

/** A connection that was counted at accept. Nothing of it was read: it can still be handed to another process. */
export interface Accepted {
  readonly socket: Socket
  /** Absent at a Unix door. */
  readonly ends?: Endpoints | undefined
  /** It begins with a PROXY header, and is not counted for an address yet. */
  readonly isBalancer: boolean
}

/** What is behind a door, for those who have been accepted there; in this process or in another one. */
export interface Room<Options> {
  take(accepted: Accepted): void
  /** Takes other options; those who are in stay. */
  reload(options: Options): void
  /** Lets nobody in any more. */
  close(): void
}

/**
 * What an address may be charged with, in the words of sshd_config(5), PerSourcePenalties: one from there has tried to be
 * somebody whom nobody knows or to have what it may not, has kept the gateway waiting, has not spoken the protocol.
 */
export type Offence = 'authfail' | 'grace-exceeded' | 'invalid'

/** Why a connection was closed at accept. */
export type TurnedAway =
  | 'from'
  | 'penalty'
  | 'sessions'
  | 'sessions-per-door'
  | 'max-startups'
  | 'sessions-per-address'
  | 'proxy header'

/** What a door asks when a connection comes, at once: a flood must not cost much. A promise while the gateway changes hands. */
export interface GateReception {
  /** Whether one more from this address (undefined: a Unix socket) is welcome. Each yes is followed by one `enter` or `left`. */
  admit(address: string | undefined): TurnedAway | undefined | Promise<TurnedAway | undefined>

  /** A connection was closed at accept; `facts` are for the log: `via`, or what was wrong with a PROXY header. */
  turnedAway(peer: string, reason: TurnedAway, facts?: Readonly<Record<string, unknown>>): void

  /** The door itself failed after it was opened (out of descriptors, say); it goes on. */
  failed(error: Error): void
}

/** What a room asks for visitors that it learns of later than at accept, and where it hands visitors to. */
export interface RoomReception extends Pick<GateReception, 'turnedAway' | 'failed'> {
  /** How long a visitor may be unreachable before its connection is closed. */
  readonly vanishedMs: number

  /** As at the gate; a promise where the count is kept by another process. */
  admit(address: string | undefined): TurnedAway | undefined | Promise<TurnedAway | undefined>

  /** One that was welcome is known, and none that is half open any more, though it is not to `enter`. */
  known(): void

  /** One that was welcome has gone without having entered; `wasKnown` if that was said. */
  left(address: string | undefined, wasKnown: boolean): void

  /** Holds it against an address that one from there has failed. */
  charge(address: string | undefined, offence: Offence): void

  /** Takes a visitor; returns at once. */
  enter(visitor: Visitor): void
}

/** Both, for a door that is whole in one process. */
export type Reception = RoomReception
