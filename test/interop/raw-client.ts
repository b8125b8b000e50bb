/**
 * A client of NBD in the hands of a test, for what well-behaved programs never send. It frames bytes and nothing else:
 * options, replies and requests are those of doc/proto.md, written here once more so that our own codecs are not their
 * own witness.
 */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls'
import { afterEach } from 'vitest'
import type { SocketAddress } from '../support/wait.ts'

/** One reply to an option: its type (`Rep`) and its data. */
export interface OptionReply {
  readonly type: number
  readonly data: Buffer
}

/** One simple reply: error value (`Err`) and, for a READ that went well, the data. */
export interface SimpleReply {
  readonly error: number
  readonly cookie: bigint
  readonly data: Buffer
}

const ACK = 1
const FIRST_ERROR = 0x8000_0000
/** FIXED_NEWSTYLE and NO_ZEROES. */
const USUAL_FLAGS = 3
/** A hang has to end as a failure that says where. */
const ANSWER_BOUND_MS = 15_000

const dialled = new Set<RawClient>()
// Before fixtures stop what they started: a gateway would wait for visitors who are still there.
afterEach(() => {
  for (const client of dialled) client.reset()
  dialled.clear()
})

/** Connects; the greeting is not read yet. Closed when the test ends. Rejects if nobody listens. */
export async function dial(address: SocketAddress): Promise<RawClient> {
  const socket = connect(address)
  await once(socket, 'connect')
  socket.setNoDelay(true)
  const client = new RawClient(socket)
  dialled.add(client)
  return client
}

/** Connects and greets as a client does that speaks fixed newstyle. */
export async function greeted(address: SocketAddress, flags = USUAL_FLAGS): Promise<RawClient> {
  const client = await dial(address)
  await client.greet(flags)
  return client
}

export class RawClient {
  /** The connection itself, under whatever TLS there is. */
  readonly #raw: Socket
  #socket: Socket | TLSSocket
  #bytes: Buffer = Buffer.alloc(0)
  #gone = false
  #wake: () => void = () => {}

  constructor(socket: Socket) {
    this.#raw = socket
    this.#socket = socket
    this.#listen()
  }

  /** Bytes that arrived and nobody has read. */
  get unread(): number {
    return this.#bytes.length
  }

  /** Reads exactly so many bytes. Rejects when the server closes before, or stays silent. */
  async read(count: number): Promise<Buffer> {
    await this.#until(`${count} bytes`, () => this.#bytes.length >= count || this.#gone)
    if (this.#bytes.length < count) throw new Error(`closed after ${this.#bytes.length} of ${count} bytes`)
    const bytes = this.#bytes.subarray(0, count)
    this.#bytes = this.#bytes.subarray(count)
    return bytes
  }

  /** Waits until the server has closed or reset the connection; what came before that and was not read. */
  async closed(): Promise<Buffer> {
    await this.#until('the end of the connection', () => this.#gone)
    return this.#bytes
  }

  write(...parts: readonly Uint8Array[]): void {
    this.#socket.write(Buffer.concat(parts))
  }

  async greet(flags = USUAL_FLAGS): Promise<void> {
    await this.read(18)
    this.write(u32(flags))
  }

  /** Sends an option; all replies up to the last, which is ACK or an error. */
  async option(option: number, data: Uint8Array = Buffer.alloc(0)): Promise<readonly OptionReply[]> {
    this.write(optionHead(option, data.length), data)
    return await this.replies(option)
  }

  /** Reads replies to an option up to the last. */
  async replies(option: number): Promise<readonly OptionReply[]> {
    const replies: OptionReply[] = []
    for (;;) {
      const head = await this.read(20)
      if (head.readBigUInt64BE(0) !== 0x0003_e889_0455_65a9n)
        throw new Error(`no option reply: ${head.toString('hex')}`)
      if (head.readUInt32BE(8) !== option) throw new Error(`a reply to option ${head.readUInt32BE(8)}`)
      const type = head.readUInt32BE(12)
      replies.push({ type, data: await this.read(head.readUInt32BE(16)) })
      if (type === ACK || type >= FIRST_ERROR) return replies
    }
  }

  /** STARTTLS and the handshake. Rejects with the error of node:tls. Nothing may be unread. */
  async startTls(options: ConnectionOptions): Promise<TLSSocket> {
    const [reply] = await this.option(5)
    if (reply?.type !== ACK) throw new Error(`STARTTLS refused with ${reply?.type}`)
    this.#socket.removeAllListeners()
    const secured = connectTls({ ...options, socket: this.#socket })
    this.#socket = secured
    const secure = once(secured, 'secureConnect')
    // At once: a server that refuses may be gone in the turn that ends the handshake.
    this.#listen()
    const refused = once(secured, 'close').then(() => Promise.reject(new Error('closed during the handshake')))
    await Promise.race([secure, refused])
    return secured
  }

  /** Sends a request; offset and length in bytes. */
  request(type: number, cookie: bigint, offset: bigint, length: number, payload: Uint8Array = Buffer.alloc(0)): void {
    const head = Buffer.alloc(28)
    head.writeUInt32BE(0x2560_9513, 0)
    head.writeUInt16BE(type, 6)
    head.writeBigUInt64BE(cookie, 8)
    head.writeBigUInt64BE(offset, 16)
    head.writeUInt32BE(length, 24)
    this.write(head, payload)
  }

  /** Reads one simple reply; `dataBytes` follow it unless it is an error. */
  async simpleReply(dataBytes = 0): Promise<SimpleReply> {
    const head = await this.read(16)
    if (head.readUInt32BE(0) !== 0x6744_6698) throw new Error(`no simple reply: ${head.toString('hex')}`)
    const error = head.readUInt32BE(4)
    const data = error === 0 ? await this.read(dataBytes) : Buffer.alloc(0)
    return { error, cookie: head.readBigUInt64BE(8), data }
  }

  /** Reads no more from the connection. */
  pause(): void {
    this.#socket.pause()
  }

  /** Reads on. */
  resume(): void {
    this.#socket.resume()
  }

  /** A clean end: DISC, and then the server closes. */
  async disconnect(): Promise<void> {
    this.request(2, 0n, 0n, 0)
    await this.closed()
    this.#socket.destroy()
  }

  /** The abrupt end, without a word of TLS; on TCP a reset. */
  reset(): void {
    if (this.#raw.remoteAddress !== undefined && !this.#raw.destroyed) this.#raw.resetAndDestroy()
    this.#raw.destroy()
  }

  #listen(): void {
    this.#socket.on('data', (chunk: Buffer) => {
      this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk])
      this.#wake()
    })
    const gone = () => {
      this.#gone = true
      this.#wake()
    }
    this.#socket.on('end', gone).on('close', gone).on('error', gone)
  }

  async #until(what: string, fact: () => boolean): Promise<void> {
    let late = false
    const timer = setTimeout(() => {
      late = true
      this.#wake()
    }, ANSWER_BOUND_MS)
    try {
      while (!fact() && !late) {
        await new Promise<void>(resolve => {
          this.#wake = resolve
        })
      }
      if (late) throw new Error(`${what}: not within ${ANSWER_BOUND_MS} ms, with ${this.#bytes.length} bytes unread`)
    } finally {
      clearTimeout(timer)
    }
  }
}

/** The head of an option: IHAVEOPT, option, length. */
export function optionHead(option: number, length: number): Buffer {
  return Buffer.concat([Buffer.from('IHAVEOPT'), u32(option), u32(length)])
}

/** Data of INFO and GO: name, and the information types that are asked for. */
export function infoData(name: string, ...infos: readonly number[]): Buffer {
  const bytes = Buffer.from(name)
  return Buffer.concat([u32(bytes.length), bytes, u16(infos.length), ...infos.map(u16)])
}

/** Size and transmission flags in a list of replies. Throws if there is no INFO_EXPORT among them. */
export function exportInfo(replies: readonly OptionReply[]): { readonly size: bigint; readonly flags: number } {
  const found = replies.find(reply => reply.type === 3 && reply.data.readUInt16BE(0) === 0)
  if (found === undefined) throw new Error(`no INFO_EXPORT in ${told(replies).join(' | ')}`)
  return { size: found.data.readBigUInt64BE(2), flags: found.data.readUInt16BE(10) }
}

/** Replies as text for comparison: type in hexadecimal, and the message of an error. */
export function told(replies: readonly OptionReply[]): string[] {
  return replies.map(({ type, data }) => `${type.toString(16)}${type >= FIRST_ERROR ? ` ${data.toString()}` : ''}`)
}

/** 16 bits, big-endian. */
export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return bytes
}

/** 32 bits, big-endian. */
export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value >>> 0)
  return bytes
}
