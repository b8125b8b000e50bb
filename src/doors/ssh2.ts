/**
 * The package ssh2, loaded when the first SSH door is opened, and the parts of it that its types do not show. We reach
 * into them where ssh2 trusts its peer too much; should they ever look different, connections are refused and logged.
 */
import { createRequire } from 'node:module'
import type ssh2 from 'ssh2'
import type { PacketCipher } from './ssh-packets.ts'

type Handler = (protocol: unknown, ...args: readonly unknown[]) => void

/** What we use of ssh2's Protocol, one of which belongs to each connection. */
export interface SshProtocol {
  /** What it does with each message, by name: replaced by ours, which call these. */
  readonly _handlers: Record<string, Handler>
  /** There while keys are exchanged. */
  readonly _kexinit: unknown
  /** Packets that wait for the end of a key exchange. */
  readonly _queue: readonly unknown[] | undefined
  readonly _kex: { remoteExtInfoEnabled: boolean } | undefined
  /** Another one after each key exchange. */
  readonly _cipher: PacketCipher & { encrypt(packet: Buffer): void }
  /** Another one after each key exchange: which packet is next, and how much of its length has come. */
  readonly _decipher: { readonly inSeqno: number; readonly _lenBytes: number }
  readonly _packetRW: { readonly write: { alloc(length: number): Buffer; finalize(packet: Buffer): Buffer } }
  _onHandshakeComplete: (...args: readonly unknown[]) => void
  rekey(): void
  disconnect(reason: number): void
  channelData(channel: number, data: Buffer): void
  channelExtData(channel: number, data: Buffer, type: number): void
  channelWindowAdjust(channel: number, bytes: number): void
  channelEOF(channel: number): void
  channelClose(channel: number): void
  channelOpenFail(channel: number, reason: number, description: string): void
  exitStatus(channel: number, code: number): void
}

const METHODS = [
  'rekey',
  'disconnect',
  'channelData',
  'channelExtData',
  'channelWindowAdjust',
  'channelEOF',
  'channelClose',
  'channelOpenFail',
  'exitStatus',
  '_onHandshakeComplete',
] as const

const HANDLERS = [
  'CHANNEL_OPEN',
  'CHANNEL_DATA',
  'CHANNEL_WINDOW_ADJUST',
  'CHANNEL_EOF',
  'CHANNEL_CLOSE',
  'GLOBAL_REQUEST',
] as const

/** One side of a channel as ssh2 keeps it. */
export interface ChannelEnd {
  readonly id: number
  window: number
  readonly packetSize: number
  state: string
}

/** What we use of ssh2's Channel. */
export interface SshChannel {
  readonly incoming: ChannelEnd
  readonly outgoing: ChannelEnd
  resume(): unknown
  on(event: 'error', listener: () => void): unknown
}

const require = createRequire(import.meta.url)

/** Loads ssh2. */
export function loadSsh2(): typeof ssh2 {
  return require('ssh2')
}

/** Whether ssh2 has its compiled cipher; without it, it takes several times the processor. */
export function isNative(): boolean {
  const crypto: unknown = require('ssh2/lib/protocol/crypto.js')
  return Reflect.get(Object(crypto), 'bindingAvailable') === true
}

/** The Protocol of a connection, undefined if it is not as we know it. */
export function protocolOf(client: object): SshProtocol | undefined {
  const protocol: unknown = Reflect.get(client, '_protocol')
  return isProtocol(protocol) ? protocol : undefined
}

/** The socket under a connection. */
export function socketOf(client: object): unknown {
  return Reflect.get(client, '_sock')
}

/** How many channels a connection has, those included that are being opened or closed; undefined if nobody can tell. */
export function channelCount(client: object): number | undefined {
  const count: unknown = Reflect.get(Object(Reflect.get(client, '_chanMgr')), '_count')
  return typeof count === 'number' ? count : undefined
}

/** Whether a connection deciphers as we know it. */
export function isDecipherKnown({ _decipher }: SshProtocol): boolean {
  return ['inSeqno', '_lenBytes'].every(name => typeof Reflect.get(Object(_decipher), name) === 'number')
}

/** Whether a channel is as we know it. */
export function isChannel(channel: unknown): channel is SshChannel {
  const ends = ['incoming', 'outgoing'].map(name => Object(Reflect.get(Object(channel), name)))
  return ends.every(end => ['id', 'window', 'packetSize'].every(name => typeof Reflect.get(end, name) === 'number'))
}

function isProtocol(value: unknown): value is SshProtocol {
  const functionsOf = (object: unknown, names: readonly string[]): boolean =>
    names.every(name => typeof Reflect.get(Object(object), name) === 'function')
  if (!functionsOf(value, METHODS)) return false
  const at = (name: string): unknown => Reflect.get(Object(value), name)
  return (
    functionsOf(at('_handlers'), HANDLERS) &&
    functionsOf(at('_cipher'), ['encrypt', 'allocPacket']) &&
    functionsOf(Reflect.get(Object(at('_packetRW')), 'write'), ['alloc', 'finalize'])
  )
}
