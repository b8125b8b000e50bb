/**
 * An upstream in the hands of the test: a whole server of the protocol whose every answer can be another one, and which
 * remembers all that its client, the gateway, has sent.
 */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { type TLSSocket, TLSSocket as TlsServerSocket } from 'node:tls'
import { REPLY, simpleReply, u16, u32, u64 } from '../interop/hostile-support.ts'
import type { TestPki } from '../support/pki.ts'
import { waitFor } from '../support/wait.ts'
import { CAN, CHUNK, chunkOf, NOTHING, optionReply } from './wire.ts'

const MIB = 1024 * 1024

/** A request as it came. */
export interface Asked {
  readonly flags: number
  readonly type: number
  readonly cookie: bigint
  readonly offset: bigint
  readonly length: number
  readonly payload: Buffer
}

/** What one connection has brought. */
export interface Visit {
  clientFlags: number | undefined
  readonly options: { readonly type: number; readonly data: Buffer; readonly isSecure: boolean }[]
  readonly requests: Asked[]
  structured: boolean
  isSecure: boolean
  /** Bytes that are here and that nobody has read. */
  readonly unread: () => number
  /** Bytes that came after ABORT or DISC. */
  late: number
  /** How it ended: by the protocol's own word, or without one. */
  end: 'ABORT' | 'DISC' | 'none' | undefined
  /** Sends bytes to the gateway. */
  send(bytes: Uint8Array): void
}

/** What the upstream does otherwise than a plain one. */
export interface Plan {
  readonly greeting?: Buffer
  readonly handshakeFlags?: number
  readonly flags?: number
  readonly size?: bigint
  readonly sizes?: readonly [number, number, number]
  readonly structured?: boolean
  readonly contexts?: readonly (readonly [number, string])[]
  /** Whether it agrees to STARTTLS: with the tests' own certificate, or one that nobody trusts. */
  readonly tls?: 'own' | 'rogue'
  /** The answer to an option, in place of the usual one; undefined: the usual one. */
  readonly option?: (type: number, data: Buffer, visit: Visit) => Uint8Array | undefined
  /** The answer to a request, in place of the usual one; undefined: the usual one. */
  readonly answer?: (asked: Asked, visit: Visit) => Uint8Array | undefined
}

/** All that a server can do, but resize. */
export const ALL_FLAGS =
  CAN.HAS_FLAGS |
  CAN.FLUSH |
  CAN.FUA |
  CAN.ROTATIONAL |
  CAN.TRIM |
  CAN.ZEROES |
  CAN.DF |
  CAN.MULTI_CONN |
  CAN.CACHE |
  CAN.FAST_ZERO

/** Byte of the export at an offset. */
export const byteAt = (offset: number): number => (offset * 7 + (offset >> 8)) & 0xff

/** Bytes of the export. */
export function bytesAt(offset: number, length: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, at) => byteAt(offset + at)))
}

export class Fake {
  plan: Plan = {}
  visits: Visit[] = []
  readonly #pki: TestPki
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  constructor(pki: TestPki) {
    this.#pki = pki
    this.#server = createServer({ noDelay: true }, socket => {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
      socket.on('error', () => {})
      // The gateway may leave in the middle of anything.
      this.#serve(socket).catch(() => {})
    })
  }

  async listen(): Promise<number> {
    await once(this.#server.listen(0, '127.0.0.1'), 'listening')
    const address = this.#server.address()
    if (address === null || typeof address === 'string') throw new Error('no port')
    return address.port
  }

  /** A new test: all connections are forgotten. */
  use(plan: Plan): void {
    this.plan = plan
    this.visits = []
  }

  /** The last connection. Throws if there was none. */
  get last(): Visit {
    const last = this.visits.at(-1)
    if (last === undefined) throw new Error('the gateway has not come')
    return last
  }

  /** Waits until the last connection has ended; how it did. */
  async ended(): Promise<Visit> {
    await waitFor('the gateway leaves its upstream', () => this.visits.at(-1)?.end !== undefined)
    return this.last
  }

  /** Ends all connections. */
  drop(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  close(): void {
    this.#server.close()
    this.drop()
  }

  async #serve(raw: Socket): Promise<void> {
    let [socket, reader]: [Socket | TLSSocket, Reader] = [raw, new Reader(raw)]
    const { plan } = this
    const visit: Visit = {
      clientFlags: undefined,
      options: [],
      requests: [],
      structured: false,
      isSecure: false,
      unread: () => reader.length,
      late: 0,
      end: undefined,
      send: bytes => void socket.write(bytes),
    }
    this.visits.push(visit)
    try {
      socket.write(plan.greeting ?? Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), u16(plan.handshakeFlags ?? 3)]))
      visit.clientFlags = (await reader.read(4)).readUInt32BE(0)
      for (;;) {
        const head = await reader.read(16)
        const [type, data] = [head.readUInt32BE(8), await reader.read(head.readUInt32BE(12))]
        visit.options.push({ type, data, isSecure: visit.isSecure })
        const planned = plan.option?.(type, data, visit)
        if (type === 2) return await this.#parted(visit, 'ABORT', socket, reader)
        socket.write(planned ?? this.#reply(type, data, visit))
        const isAck = planned === undefined || endsWithAck(planned)
        if (type === 5 && plan.tls !== undefined && isAck) {
          socket = this.#upgrade(raw)
          reader = new Reader(socket)
          visit.isSecure = true
        }
        if (type === 1 || (type === 7 && isAck)) break
      }
      for (;;) {
        const asked = await nextRequest(reader)
        visit.requests.push(asked)
        if (asked.type === 2) return await this.#parted(visit, 'DISC', socket, reader)
        socket.write(plan.answer?.(asked, visit) ?? usualAnswer(asked, visit))
      }
    } finally {
      visit.end ??= 'none'
      socket.end()
    }
  }

  async #parted(visit: Visit, how: 'ABORT' | 'DISC', socket: Socket, reader: Reader): Promise<void> {
    if (how === 'ABORT') socket.write(optionReply(2, REPLY.ACK))
    await reader.ended()
    visit.late = reader.length
    visit.end = how
  }

  #upgrade(raw: Socket): TLSSocket {
    raw.removeAllListeners('data')
    const leaf = this.plan.tls === 'rogue' ? this.#pki.rogueServer : this.#pki.server
    const [cert, key] = [readFileSync(leaf.cert), readFileSync(leaf.key)]
    const secure = new TlsServerSocket(raw, { isServer: true, cert, key })
    secure.on('error', () => {})
    return secure
  }

  #reply(type: number, data: Buffer, visit: Visit): Buffer {
    const { plan } = this
    const [size, flags] = [plan.size ?? BigInt(MIB), plan.flags ?? ALL_FLAGS]
    if (type === 1) {
      const zeroes = ((visit.clientFlags ?? 0) & 2) === 0 ? Buffer.alloc(124) : NOTHING
      return Buffer.concat([u64(size), u16(flags), zeroes])
    }
    if (type === 5) return optionReply(5, plan.tls === undefined ? REPLY.POLICY : REPLY.ACK)
    if (type === 8) {
      visit.structured = plan.structured !== false
      return optionReply(8, visit.structured ? REPLY.ACK : REPLY.UNSUP)
    }
    if (type === 9 || type === 10) {
      const all = plan.contexts ?? [[7, 'base:allocation']]
      const found = all.filter(([, name]) => data.includes(name) || type === 9)
      const replies = found.map(([id, name]) => optionReply(type, 4, Buffer.concat([u32(id), Buffer.from(name)])))
      return Buffer.concat([...replies, optionReply(type, REPLY.ACK)])
    }
    if (type !== 6 && type !== 7) return optionReply(type, REPLY.UNSUP)
    const info = optionReply(type, REPLY.INFO, Buffer.concat([u16(0), u64(size), u16(flags)]))
    const { sizes } = plan
    const wanted = sizes !== undefined && data.subarray(-2).equals(u16(3))
    const blocks = wanted ? optionReply(type, REPLY.INFO, Buffer.concat([u16(3), ...sizes.map(u32)])) : NOTHING
    return Buffer.concat([info, blocks, optionReply(type, REPLY.ACK)])
  }
}

function endsWithAck(replies: Uint8Array): boolean {
  return replies.length >= 20 && Buffer.from(replies).readUInt32BE(replies.length - 8) === REPLY.ACK
}

async function nextRequest(reader: Reader): Promise<Asked> {
  const head = await reader.read(28)
  const [type, length] = [head.readUInt16BE(6), head.readUInt32BE(24)]
  const payload = await reader.read(type === 1 ? length : 0)
  const [flags, cookie, offset] = [head.readUInt16BE(4), head.readBigUInt64BE(8), head.readBigUInt64BE(16)]
  return { flags, type, cookie, offset, length, payload }
}

function usualAnswer({ type, cookie, offset, length }: Asked, visit: Visit): Buffer {
  if (type === 7) return chunkOf(cookie, CHUNK.STATUS, Buffer.concat([u32(7), u32(length), u32(0)]))
  if (type !== 0) return simpleReply(0, cookie)
  const data = bytesAt(Number(offset), length)
  if (!visit.structured) return Buffer.concat([simpleReply(0, cookie), data])
  return chunkOf(cookie, CHUNK.DATA, Buffer.concat([u64(offset), data]))
}

/** Exact reads from a socket. */
class Reader {
  #bytes: Buffer = NOTHING
  #isOver = false
  #wake: () => void = () => {}

  constructor(socket: Socket) {
    socket.on('data', (piece: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, piece])
      this.#wake()
    })
    const over = () => {
      this.#isOver = true
      this.#wake()
    }
    socket.on('end', over).on('close', over).on('error', over)
  }

  get length(): number {
    return this.#bytes.length
  }

  async read(count: number): Promise<Buffer> {
    while (this.#bytes.length < count) {
      if (this.#isOver) throw new Error('the gateway has gone')
      await this.#change()
    }
    const bytes = this.#bytes.subarray(0, count)
    this.#bytes = this.#bytes.subarray(count)
    return bytes
  }

  async ended(): Promise<void> {
    while (!this.#isOver) await this.#change()
  }

  #change(): Promise<void> {
    return new Promise(resolve => {
      this.#wake = resolve
    })
  }
}
