/**
 * Peers that do not keep to the protocol. They send what they like, and every wait of theirs has a bound.
 *
 * Messages are written here from doc/proto.md, not with our own codecs, which would be their own witness.
 */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import { expect } from 'vitest'
import { WAIT_BOUND_MS } from '../support/wait.ts'

/** How long a refusal or a close may take. */
export const REFUSAL_BOUND_MS = 2_000

/** Option reply types (proto.md, "Option reply types"). */
export const REPLY = {
  ACK: 1,
  INFO: 3,
  META_CONTEXT: 4,
  UNSUP: 0x8000_0001,
  POLICY: 0x8000_0002,
  INVALID: 0x8000_0003,
  PLATFORM: 0x8000_0004,
  TLS_REQD: 0x8000_0005,
  UNKNOWN: 0x8000_0006,
  TOO_BIG: 0x8000_0009,
} as const

/** Option types (proto.md, "Option types"). */
export const OPTION = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
} as const

/** Request types, and error values of replies (proto.md, "Request types", "Error values"). */
export const COMMAND = { READ: 0, WRITE: 1, DISC: 2, FLUSH: 3, TRIM: 4, CACHE: 5, ZEROES: 6, BLOCK_STATUS: 7 } as const
export const ERROR = { NONE: 0, EPERM: 1, EIO: 5, EINVAL: 22, ENOSPC: 28 } as const

/** 16, 32 and 64 bits, big-endian. */
export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return bytes
}
export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value >>> 0)
  return bytes
}
export function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(value)
  return bytes
}

/** An option: IHAVEOPT, type, length, data. `claims` is the length that it says it has, the data's own by default. */
export function option(type: number, data: Uint8Array = Buffer.alloc(0), claims = data.length): Buffer {
  return Buffer.concat([Buffer.from('IHAVEOPT'), u32(type), u32(claims), data])
}

/** Data of INFO and GO. `claims` is the length that it says the name has. */
export function infoData(name: string | Uint8Array, infos: readonly number[] = [], claims?: number): Buffer {
  const bytes = Buffer.from(name)
  return Buffer.concat([u32(claims ?? bytes.length), bytes, u16(infos.length), ...infos.map(u16)])
}

/** What stands in a request. */
export interface RequestParts {
  readonly magic?: number
  readonly flags?: number
  readonly type: number
  readonly cookie?: bigint
  readonly offset?: bigint
  readonly length?: number
}

/** The head of a request, 28 bytes. */
export function request(parts: RequestParts): Buffer {
  const { magic = 0x2560_9513, flags = 0, type, cookie = 0n, offset = 0n, length = 0 } = parts
  return Buffer.concat([u32(magic), u16(flags), u16(type), u64(cookie), u64(offset), u32(length)])
}

/** A simple reply without payload, 16 bytes. */
export function simpleReply(error: number, cookie: bigint): Buffer {
  return Buffer.concat([u32(0x6744_6698), u32(error), u64(cookie)])
}

/** A stream over a socket for TLS to sit on: Node dies of a reset of a socket that TLS sits on itself. */
function above(socket: Socket): Duplex {
  const stream = new Duplex({
    read: () => void socket.resume(),
    write: (chunk, _encoding, done) => void socket.write(chunk, () => done()),
    final: done => void socket.end(done),
  })
  socket.on('data', chunk => void (stream.push(chunk) || socket.pause()))
  socket.on('end', () => void stream.push(null))
  socket.on('close', () => void stream.destroy())
  return stream
}

const open = new Set<Peer>()

/** Ends every peer there is, from our side. */
export function destroyPeers(): void {
  for (const peer of open) peer.destroy()
}

/** A peer that sends what it likes. Every wait has a bound; all are gone after the test. */
export class Peer {
  /** The TCP socket, below TLS if there is TLS. */
  readonly raw: Socket
  /** Its address as the gateway logs it. */
  readonly name: string
  #socket: Socket
  #chunks: Buffer[] = []
  #length = 0
  #ended = false
  #wake: () => void = () => {}

  constructor(socket: Socket) {
    this.raw = socket
    this.name = `${socket.localAddress}:${socket.localPort}`
    this.#socket = socket
    this.#listen()
    open.add(this)
  }

  /** Connects to 127.0.0.1; the gateway's greeting is unread. */
  static async connect(port: number, localAddress = '127.0.0.1'): Promise<Peer> {
    const socket = connect({ host: '127.0.0.1', port, localAddress, noDelay: true })
    await once(socket, 'connect')
    return new Peer(socket)
  }

  /** Connects, reads the greeting and answers it: option haggling begins. */
  static async greeted(port: number, localAddress?: string): Promise<Peer> {
    const peer = await Peer.connect(port, localAddress)
    await peer.read(18)
    peer.send(u32(3))
    return peer
  }

  /** Haggles its way into the transmission phase of an export. */
  static async inside(port: number, name: string, localAddress?: string): Promise<Peer> {
    const peer = await Peer.greeted(port, localAddress)
    await peer.enter(name)
    return peer
  }

  send(...parts: readonly Uint8Array[]): void {
    if (this.#socket.writable) this.#socket.write(Buffer.concat(parts))
  }

  /** The next bytes. Rejects when the connection ends before, or after the bound. */
  async read(size: number, boundMs = WAIT_BOUND_MS): Promise<Buffer> {
    await this.#until(`${size} bytes`, () => this.#length >= size || this.#ended, boundMs)
    if (this.#length < size) throw new Error(`the connection ended after ${this.#length} of ${size} bytes`)
    const parts: Buffer[] = []
    for (let left = size; left > 0; ) {
      const first = this.#chunks.shift() ?? Buffer.alloc(0)
      parts.push(first.subarray(0, left))
      if (first.length > left) this.#chunks.unshift(first.subarray(left))
      left -= Math.min(left, first.length)
    }
    this.#length -= size
    return Buffer.concat(parts)
  }

  /** Waits until the gateway has closed the connection, by FIN or by reset; what came before that, unread. */
  async closed(boundMs = REFUSAL_BOUND_MS): Promise<Buffer> {
    await this.#until('close', () => this.#ended, boundMs)
    return await this.read(this.#length)
  }

  /** Reads the replies to an option, up to ACK or the error; the last one's type and data. */
  async answer(type: number, boundMs = REFUSAL_BOUND_MS): Promise<{ readonly type: number; readonly data: Buffer }> {
    for (;;) {
      const head = await this.read(20, boundMs)
      expect(head.readBigUInt64BE(0), 'magic of an option reply').toBe(0x0003_e889_0455_65a9n)
      expect(head.readUInt32BE(8), 'option that is replied to').toBe(type)
      const data = await this.read(head.readUInt32BE(16), boundMs)
      const reply = head.readUInt32BE(12)
      if (reply === REPLY.ACK || reply >= REPLY.UNSUP) return { type: reply, data }
    }
  }

  /** Sends an option and tells how it was answered in the end. */
  async ask(type: number, data?: Uint8Array, boundMs?: number): Promise<number> {
    this.send(option(type, data))
    return (await this.answer(type, boundMs)).type
  }

  async enter(name: string): Promise<void> {
    const reply = await this.ask(OPTION.GO, infoData(name), WAIT_BOUND_MS)
    if (reply !== REPLY.ACK) throw new Error(`GO was answered with ${reply.toString(16)}`)
  }

  /** Reads one simple reply and the payload of a READ that went well. */
  async simpleReply(payloadBytes = 0): Promise<{ error: number; cookie: bigint; data: Buffer }> {
    const head = await this.read(16)
    expect(head.readUInt32BE(0), 'magic of a simple reply').toBe(0x6744_6698)
    const error = head.readUInt32BE(4)
    return { error, cookie: head.readBigUInt64BE(8), data: await this.read(error === 0 ? payloadBytes : 0) }
  }

  /** Sends one request and tells the error of its reply. */
  async try(parts: RequestParts, payload: Uint8Array = Buffer.alloc(0)): Promise<number> {
    this.send(request(parts), payload)
    return (await this.simpleReply(parts.type === COMMAND.READ ? parts.length : 0)).error
  }

  /** STARTTLS and the handshake. */
  async startTls(options: ConnectionOptions): Promise<void> {
    expect(await this.ask(OPTION.STARTTLS)).toBe(REPLY.ACK)
    this.raw.removeAllListeners('data').removeAllListeners('end')
    this.#socket = connectTls({ ...options, socket: above(this.raw) })
    this.#listen()
    await once(this.#socket, 'secureConnect')
  }

  /** Sends no more, and goes on reading. */
  finish(): void {
    this.#socket.end()
  }

  /** Stops reading: replies pile up at the gateway. */
  pause(): void {
    this.#socket.pause()
  }
  resume(): void {
    this.#socket.resume()
  }

  /** Gone by a reset (SO_LINGER 0), whatever is under way. */
  reset(): void {
    this.raw.resetAndDestroy()
    this.destroy()
  }

  destroy(): void {
    this.#socket.destroy()
    this.raw.destroy()
    open.delete(this)
  }

  #listen(): void {
    const gone = () => {
      this.#ended = true
      this.#wake()
    }
    this.#socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk)
      this.#length += chunk.length
      this.#wake()
    })
    this.#socket.on('end', gone).on('close', gone).on('error', gone)
  }

  async #until(what: string, fact: () => boolean, boundMs: number): Promise<void> {
    let late = false
    const timer = setTimeout(() => {
      late = true
      this.#wake()
    }, boundMs)
    while (!fact() && !late) {
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
    }
    clearTimeout(timer)
    if (!fact()) throw new Error(`${what}: not within ${boundMs} ms, with ${this.#length} bytes unread`)
  }
}
