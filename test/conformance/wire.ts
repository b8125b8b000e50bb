/** What the rules of the conformance tests read and write beside what hostile-support.ts has: whole replies. */
import type { Peer } from '../interop/hostile-support.ts'
import { option, REPLY, request, u16, u32, u64 } from '../interop/hostile-support.ts'
import { WAIT_BOUND_MS } from '../support/wait.ts'

export const NOTHING = Buffer.alloc(0)

/** Command flags (proto.md, "Command flags"). */
export const FLAG = { FUA: 1, NO_HOLE: 2, DF: 4, REQ_ONE: 8, FAST_ZERO: 16 } as const

/** Transmission flags (proto.md, "Transmission flags"). */
export const CAN = {
  HAS_FLAGS: 1,
  READ_ONLY: 2,
  FLUSH: 4,
  FUA: 8,
  ROTATIONAL: 16,
  TRIM: 32,
  ZEROES: 64,
  DF: 128,
  MULTI_CONN: 256,
  RESIZE: 512,
  CACHE: 1024,
  FAST_ZERO: 2048,
} as const

/** Types of a chunk (proto.md, "Structured reply types"). */
export const CHUNK = { NONE: 0, DATA: 1, HOLE: 2, STATUS: 5, ERROR: 0x8001, ERROR_OFFSET: 0x8002 } as const

/** One reply to an option. */
export interface OptionReply {
  readonly type: number
  readonly data: Buffer
}

/** Sends an option; all its replies up to ACK or an error. */
export async function askAll(peer: Peer, type: number, data: Uint8Array = NOTHING): Promise<readonly OptionReply[]> {
  peer.send(option(type, data))
  return await answers(peer, type)
}

/** Reads the replies to an option that has been sent. */
export async function answers(peer: Peer, type: number): Promise<readonly OptionReply[]> {
  const replies: OptionReply[] = []
  for (;;) {
    const head = await peer.read(20)
    if (head.readBigUInt64BE(0) !== 0x0003_e889_0455_65a9n) throw new Error(`no option reply: ${head.toString('hex')}`)
    if (head.readUInt32BE(8) !== type) throw new Error(`a reply to option ${head.readUInt32BE(8)}`)
    const reply = { type: head.readUInt32BE(12), data: await peer.read(head.readUInt32BE(16)) }
    replies.push(reply)
    if (reply.type === REPLY.ACK || reply.type >= REPLY.UNSUP) return replies
  }
}

/** The types of a list of replies. */
export function typesOf(replies: readonly OptionReply[]): readonly number[] {
  return replies.map(({ type }) => type)
}

/** The data of the information of a type, of each reply that has one. */
export function infosOf(replies: readonly OptionReply[], info: number): readonly Buffer[] {
  return replies
    .filter(({ type, data }) => type === REPLY.INFO && data.readUInt16BE(0) === info)
    .map(({ data }) => data)
}

/** Size and transmission flags among replies to INFO and GO. */
export function exportOf(replies: readonly OptionReply[]): { readonly size: bigint; readonly flags: number } {
  const [info] = infosOf(replies, 0)
  if (info === undefined) throw new Error(`no INFO_EXPORT among ${typesOf(replies).join(' ')}`)
  return { size: info.readBigUInt64BE(2), flags: info.readUInt16BE(10) }
}

/** Data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function metaQuery(name: string, ...queries: readonly string[]): Buffer {
  const text = (value: string) => Buffer.concat([u32(Buffer.byteLength(value)), Buffer.from(value)])
  return Buffer.concat([text(name), u32(queries.length), ...queries.map(text)])
}

/** Ids and names of the contexts among replies. */
export function contextsOf(replies: readonly OptionReply[]): readonly { readonly id: number; readonly name: string }[] {
  return replies
    .filter(({ type }) => type === REPLY.META_CONTEXT)
    .map(({ data }) => ({ id: data.readUInt32BE(0), name: data.toString('utf8', 4) }))
}

/** One message of a server in the transmission phase. */
export interface Message {
  readonly kind: 'simple' | 'chunk'
  readonly cookie: bigint
  /** Of a simple reply, and of an error chunk; 0 for all others. */
  readonly error: number
  readonly flags: number
  readonly type: number
  readonly payload: Buffer
}

/** Reads one message; `dataBytes` is what follows a simple reply that is no error. */
export async function message(peer: Peer, dataBytes = 0): Promise<Message> {
  const head = await peer.read(16)
  if (head.readUInt32BE(0) === 0x6744_6698) {
    const [error, cookie] = [head.readUInt32BE(4), head.readBigUInt64BE(8)]
    return {
      kind: 'simple',
      cookie,
      error,
      flags: 1,
      type: CHUNK.NONE,
      payload: await peer.read(error === 0 ? dataBytes : 0),
    }
  }
  if (head.readUInt32BE(0) !== 0x668e_33ef) throw new Error(`no reply: ${head.toString('hex')}`)
  const payload = await peer.read((await peer.read(4)).readUInt32BE(0))
  const [flags, type] = [head.readUInt16BE(4), head.readUInt16BE(6)]
  const error = (type & 0x8000) === 0 ? 0 : payload.readUInt32BE(0)
  return { kind: 'chunk', cookie: head.readBigUInt64BE(8), error, flags, type, payload }
}

/** Reads messages up to the one that ends a reply. */
export async function wholeReply(peer: Peer, dataBytes = 0): Promise<readonly Message[]> {
  const all: Message[] = []
  for (;;) {
    const next = await message(peer, dataBytes)
    all.push(next)
    if ((next.flags & 1) !== 0) return all
  }
}

/** What a request of the conformance tests says, beside its payload. */
export type Asked = Parameters<typeof request>[0]

/** Sends a request and reads its whole reply. */
export async function ask(peer: Peer, parts: Asked, payload: Uint8Array = NOTHING): Promise<readonly Message[]> {
  peer.send(request(parts), payload)
  return await wholeReply(peer, parts.type === 0 ? (parts.length ?? 0) : 0)
}

/** Sends a request; the error of its reply. */
export async function errorOf(peer: Peer, parts: Asked, payload: Uint8Array = NOTHING): Promise<number> {
  return (await ask(peer, parts, payload)).reduce((error, each) => error || each.error, 0)
}

/** Waits for the end of the connection; what came before it. */
export async function closed(peer: Peer): Promise<Buffer> {
  return await peer.closed(WAIT_BOUND_MS)
}

/** An option reply as a server sends it. */
export function optionReply(to: number, type: number, data: Uint8Array = NOTHING): Buffer {
  return Buffer.concat([u64(0x0003_e889_0455_65a9n), u32(to), u32(type), u32(data.length), data])
}

/** A chunk as a server sends it. */
export function chunkOf(cookie: bigint, type: number, payload: Uint8Array, flags = 1): Buffer {
  return Buffer.concat([u32(0x668e_33ef), u16(flags), u16(type), u64(cookie), u32(payload.length), payload])
}
