/** The server's half of the handshake, spoken to by a test: bytes in, replies out. Read by proto.md, not by our codecs. */
import type { ContextWants, Host, Opened, Refusal, Wants } from '../../../src/negotiation/host.ts'
import { negotiate } from '../../../src/negotiation/server.ts'
import { Wire } from '../../../src/stream/wire.ts'
import { FakeStream, hex } from '../../support/bytes.ts'

export const GREETING = '4e42444d41474943 49484156454f5054 0003'

/** Client flags: fixed newstyle with and without NO_ZEROES. */
export const FIXED = hex('00000001')
export const FIXED_NO_ZEROES = hex('00000003')

/** Option numbers of proto.md, "Option types". */
export const EXPORT_NAME = 1
export const ABORT = 2
export const LIST = 3
export const STARTTLS = 5
export const INFO = 6
export const GO = 7
export const STRUCTURED_REPLY = 8
export const LIST_META_CONTEXT = 9
export const SET_META_CONTEXT = 10

/** Reply types of proto.md, "Option reply types". */
export const ACK = 1
export const SERVER = 2
export const REP_INFO = 3
export const META_CONTEXT = 4
export const UNSUP = 0x8000_0001
export const POLICY = 0x8000_0002
export const INVALID = 0x8000_0003
export const TLS_REQD = 0x8000_0005
export const UNKNOWN = 0x8000_0006
export const TOO_BIG = 0x8000_0009

const u32 = (value: number): string => value.toString(16).padStart(8, '0')

/** An option; `claim` where its length is a lie. */
export function option(number: number, data: Uint8Array | string = '', claim?: number): Buffer {
  const bytes = typeof data === 'string' ? hex(data) : data
  return Buffer.concat([hex('49484156454f5054', u32(number), u32(claim ?? bytes.length)), bytes])
}

/** Data of INFO and GO: a name and what is asked for, as hexadecimal. */
export function asks(name: string, infos = '0000'): string {
  return u32(Buffer.byteLength(name)) + Buffer.from(name).toString('hex') + infos
}

export interface Reply {
  readonly option: number
  readonly type: number
  readonly data: Buffer
}

/** Option replies out of what a server wrote. @throws Error for anything else */
export function repliesOf(output: Buffer): Reply[] {
  const replies: Reply[] = []
  for (let at = 0; at < output.length; ) {
    if (output.toString('hex', at, at + 8) !== '0003e889045565a9') throw new Error(`no option reply at ${at}`)
    const size = output.readUInt32BE(at + 16)
    const data = output.subarray(at + 20, at + 20 + size)
    replies.push({ option: output.readUInt32BE(at + 8), type: output.readUInt32BE(at + 12), data })
    at += 20 + size
  }
  return replies
}

export const DISK: Opened = {
  name: 'disk',
  description: 'the lab',
  sizeBytes: 1n << 40n,
  flags: 0x0141,
  blockSize: { minimum: 512, preferred: 4096, maximumPayload: 1 << 25 },
  contexts: [],
}

/** A host with the exports `disk` and, in the list only, as many as a test wants; all others are unknown. */
export class FakeHost implements Host<Opened> {
  tls: Host<Opened>['tls'] = 'none'
  entries: readonly { readonly name: string; readonly description?: string }[] = [
    { name: 'disk', description: 'the lab' },
  ]
  /** What open() was asked. */
  readonly opened: ({ readonly name: string } & Omit<Wants, 'gone' | 'contexts' | 'blockSize'>)[] = []
  /** Whether for block sizes, each time. */
  readonly blockSizeWants: boolean[] = []
  /** Which contexts it was asked for, each time. */
  readonly contextWants: ContextWants[] = []
  /** What the client sends inside TLS. */
  tlsInput: readonly Buffer[] = []
  readonly tlsStream = new FakeStream()

  async list(): Promise<FakeHost['entries']> {
    return this.entries
  }

  async open(name: string, { gone: _gone, contexts, blockSize, ...wants }: Wants): Promise<Opened | Refusal> {
    this.opened.push({ name, ...wants })
    this.contextWants.push(contexts)
    this.blockSizeWants.push(blockSize)
    const known = contexts.queries.filter(query => query === 'base:allocation' || query.startsWith('qemu:'))
    if (name === 'disk') return { ...DISK, contexts: contexts.how === 'list' ? ['base:allocation', 'x-lab:a'] : known }
    if (name === 'busy') return { kind: 'refused', reply: POLICY, message: 'somebody else writes' }
    return { kind: 'refused', reply: UNKNOWN, message: 'no such export' }
  }

  async secure(): Promise<Wire> {
    const wire = new Wire(this.tlsStream, 1000)
    this.tlsStream.deliver(...this.tlsInput.map(bytes => Buffer.from(bytes)))
    this.tlsStream.peerEnds()
    return wire
  }
}

export interface Haggled {
  /** What negotiate() returned, or the error that it threw. */
  readonly end: unknown
  /** All that was written in the clear. */
  readonly output: Buffer
  /** The option replies in the clear, and inside TLS. */
  readonly replies: readonly Reply[]
  readonly secured: readonly Reply[]
  readonly host: FakeHost
}

/** Lets a client send these chunks, and end. */
export async function haggle(host: FakeHost, ...chunks: readonly Uint8Array[]): Promise<Haggled> {
  const stream = new FakeStream()
  const wire = new Wire(stream, 1000)
  stream.deliver(...chunks.map(chunk => Buffer.from(chunk)))
  stream.peerEnds()
  const end = await negotiate(wire, host).catch((error: unknown) => error)
  const output = stream.output
  const optionReplies = output.subarray(18)
  const tail = nameReplyAt(optionReplies)
  return {
    end,
    output,
    replies: repliesOf(optionReplies.subarray(0, tail)),
    secured: repliesOf(host.tlsStream.output.subarray(0, nameReplyAt(host.tlsStream.output))),
    host,
  }
}

/** Types of the replies, the way a test compares them. */
export function types(replies: readonly Reply[]): number[] {
  return replies.map(({ type }) => type)
}

/** Where the answer to EXPORT_NAME begins, which is no option reply and the last of all. */
function nameReplyAt(output: Buffer): number {
  for (let at = 0; at < output.length; at += 20 + output.readUInt32BE(at + 16)) {
    if (output.toString('hex', at, at + 8) !== '0003e889045565a9') return at
  }
  return output.length
}
