/**
 * The client's half of the handshake, towards an upstream: greeting, STARTTLS where the upstream is to speak TLS,
 * structured replies when the visitor wants them, GO, and EXPORT_NAME for servers that know no GO. Size and flags come
 * from GO alone: nbd-server answers INFO with size 0.
 */
import {
  ClientFlag,
  DEFAULT_BLOCK_SIZE,
  HandshakeFlag,
  Info,
  Opt,
  Rep,
  TransmissionFlag,
} from '../protocol/constants.ts'
import { ProtocolError } from '../protocol/errors.ts'
import {
  decodeExportNameReply,
  decodeGreeting,
  decodeOldstyle,
  EXPORT_NAME_REPLY_SIZE,
  EXPORT_NAME_ZEROES,
  encodeClientFlags,
  GREETING_SIZE,
  isOldstyle,
  OLDSTYLE_SIZE,
} from '../protocol/handshake.ts'
import { type BlockSize, decodeInfoReply, encodeInfoRequest } from '../protocol/info.ts'
import { decodeMetaContext, encodeMetaQuery, type MetaContext } from '../protocol/meta-context.ts'
import { nameOf } from '../protocol/names.ts'
import {
  decodeOptionReplyHeader,
  decodeServerEntry,
  encodeOption,
  isErrorReply,
  OPTION_REPLY_HEADER_SIZE,
} from '../protocol/option.ts'
import { printable } from '../protocol/strings.ts'
import type { Wire } from '../stream/wire.ts'
import type { ContextWants, ListEntry } from './host.ts'

/** Longest option reply that an upstream may send. */
const MAX_REPLY_BYTES = 64 * 1024

/** Replies to one GO, entries of one LIST, and contexts, before the upstream is taken for broken. */
const MAX_REPLIES = { go: 32, list: 100_000, contexts: 1000 } as const

/** Longest LIST in bytes of names and descriptions. */
const MAX_LIST_BYTES = 32 * 1024 * 1024

/** An export as its upstream describes it. */
export interface UpstreamExport {
  readonly sizeBytes: bigint
  /** Transmission flags as the upstream sent them. */
  readonly flags: number
  readonly blockSize: BlockSize
  /** What the server itself calls it and says of it, by NBD_INFO_NAME and NBD_INFO_DESCRIPTION; undefined: nothing. */
  readonly told?: string | undefined
  /** The upstream was promised that its block sizes are kept to. */
  readonly keepsSizes: boolean
  readonly structuredReplies: boolean
  /** Requests and replies have extended headers, which stand for structured replies. */
  readonly extendedHeaders: boolean
  /** The metadata contexts that were found: listed, or selected. */
  readonly contexts: readonly MetaContext[]
}

/** The upstream said no: what to, with which reply type, and its text made printable. */
export class OptionRefused extends Error {
  readonly option: Opt
  readonly reply: number
  /** The block sizes that it had told before. */
  readonly blockSize: BlockSize | undefined

  constructor(option: Opt, reply: number, text: string, blockSize?: BlockSize) {
    super(`${nameOf(Opt, option)} refused with ${nameOf(Rep, reply)}${text === '' ? '' : `: ${text}`}`)
    this.name = 'OptionRefused'
    this.option = option
    this.reply = reply
    this.blockSize = blockSize
  }
}

/** How the client's half begins. */
export interface Connected {
  readonly wire: Wire
  readonly fixed: boolean
  readonly noZeroes: boolean
  /** The only export of a server of oldstyle negotiation; it is in transmission phase already. */
  readonly oldstyle?: { readonly sizeBytes: bigint; readonly flags: number }
}

/**
 * Greets the upstream, and upgrades to TLS when `secure` is given; there is no way back to plaintext then.
 * @throws ProtocolError, StreamError, OptionRefused (STARTTLS), and what `secure` throws
 */
export async function greet(wire: Wire, secure?: (wire: Wire) => Promise<Wire>): Promise<Connected> {
  const greeting = await wire.read(GREETING_SIZE)
  if (isOldstyle(greeting) && secure === undefined) {
    const rest = await wire.read(OLDSTYLE_SIZE - GREETING_SIZE)
    const oldstyle = decodeOldstyle(Buffer.concat([greeting, rest]))
    return { wire, fixed: false, noZeroes: false, oldstyle }
  }
  const flags = decodeGreeting(greeting)
  const fixed = (flags & HandshakeFlag.FIXED_NEWSTYLE) !== 0
  const noZeroes = (flags & HandshakeFlag.NO_ZEROES) !== 0
  await wire.write(encodeClientFlags((fixed ? ClientFlag.FIXED_NEWSTYLE : 0) | (noZeroes ? ClientFlag.NO_ZEROES : 0)))
  if (secure === undefined) return { wire, fixed, noZeroes }
  if (!fixed) throw new ProtocolError('BAD_FLAGS', 'the upstream has no fixed newstyle negotiation, so no TLS')
  await wire.write(encodeOption(Opt.STARTTLS))
  const { reply, data } = await readReply(wire, Opt.STARTTLS)
  if (reply !== Rep.ACK) throw refused(Opt.STARTTLS, reply, data)
  if (wire.bufferedBytes > 0) throw new ProtocolError('UNEXPECTED_DATA', 'bytes ahead of the TLS handshake')
  return { wire: await secure(wire), fixed, noZeroes }
}

/** What an upstream is asked for beside the export. */
export interface UpstreamWants {
  readonly structuredReplies: boolean
  readonly extendedHeaders?: boolean | undefined
  readonly contexts?: ContextWants | undefined
  /**
   * Enters with a promise to keep to the block sizes. True without this; with false they are asked for all the same, by
   * INFO, which promises nothing, and promised only to a server that insists.
   */
  readonly blockSize?: boolean | undefined
}

/**
 * Asks for an export; the upstream is in transmission phase afterwards.
 * @throws ProtocolError, StreamError; OptionRefused: the connection must not be used again, since older nbd-servers lose
 * step after a refused GO
 */
export async function enter(connected: Connected, name: string, wants: UpstreamWants): Promise<UpstreamExport> {
  const { wire } = connected
  const plain = { structuredReplies: false, extendedHeaders: false, contexts: [], keepsSizes: false }
  const { oldstyle } = connected
  // It can not be asked for a name: what it has is the default export.
  if (oldstyle !== undefined && name !== '') throw new ProtocolError('BAD_REPLY', 'an oldstyle server has no names')
  if (oldstyle !== undefined) return checked({ ...oldstyle, blockSize: DEFAULT_BLOCK_SIZE, ...plain })
  if (!connected.fixed) return checked({ ...(await exportName(connected, name)), ...plain })
  const extendedHeaders = wants.extendedHeaders === true && (await agree(wire, Opt.EXTENDED_HEADERS))
  const structuredReplies = extendedHeaders || (wants.structuredReplies && (await agree(wire, Opt.STRUCTURED_REPLY)))
  const contexts = structuredReplies ? await findContexts(wire, name, wants.contexts) : []
  const agreed = { structuredReplies, extendedHeaders, contexts }
  if (wants.blockSize === false) {
    // proto.md, "Size constraints": INFO tells them without a commitment.
    const looked = await ask(wire, Opt.INFO, name, true)
    const { blockSize, told } = looked.kind === 'facts' ? looked : { blockSize: DEFAULT_BLOCK_SIZE, told: undefined }
    const entered = await ask(wire, Opt.GO, name, false)
    if (entered.kind === 'facts') return checked({ ...entered, ...agreed, blockSize, told, keepsSizes: false })
    if (entered.kind === 'unsupported') {
      noExportName(extendedHeaders)
      return checked({ ...(await exportName(connected, name)), ...agreed, keepsSizes: false })
    }
  }
  const entered = await ask(wire, Opt.GO, name, true)
  if (entered.kind === 'facts') return checked({ ...entered, ...agreed, keepsSizes: true })
  if (entered.kind === 'sizes wanted') throw entered.refused
  noExportName(extendedHeaders)
  return checked({ ...(await exportName(connected, name)), ...agreed, keepsSizes: false })
}

/** "NBD_OPT_EXTENDED_HEADERS": a server that knows them MUST know GO, and EXPORT_NAME MUST NOT be used. */
function noExportName(extendedHeaders: boolean): void {
  if (extendedHeaders) throw new ProtocolError('BAD_REPLY', 'extended headers, and no GO')
}

type Answer =
  | {
      readonly kind: 'facts'
      readonly sizeBytes: bigint
      readonly flags: number
      readonly blockSize: BlockSize
      readonly told: string | undefined
    }
  | { readonly kind: 'unsupported' }
  /** ERR_BLOCK_SIZE_REQD. */
  | { readonly kind: 'sizes wanted'; readonly refused: OptionRefused }

/** Beside what a server tells anyway. */
const ASKED: readonly number[] = [Info.NAME, Info.DESCRIPTION, Info.BLOCK_SIZE]

/** Asks what an export is, or for it; for its block sizes and names too if `sizes`. @throws OptionRefused for any other refusal */
async function ask(wire: Wire, option: typeof Opt.INFO | typeof Opt.GO, name: string, sizes: boolean): Promise<Answer> {
  await wire.write(encodeOption(option, encodeInfoRequest({ name, infos: sizes ? ASKED : [] })))
  let facts: { sizeBytes: bigint; flags: number } | undefined
  let blockSize: BlockSize = DEFAULT_BLOCK_SIZE
  let told: BlockSize | undefined
  const texts: Record<number, string> = {}
  for (let count = 0; count < MAX_REPLIES.go; count++) {
    const { reply, data } = await readReply(wire, option)
    if (reply === Rep.ERR_UNSUP) return { kind: 'unsupported' }
    if (reply === Rep.ERR_BLOCK_SIZE_REQD) return { kind: 'sizes wanted', refused: refused(option, reply, data, told) }
    if (isErrorReply(reply)) throw refused(option, reply, data, told)
    if (reply === Rep.ACK) {
      if (facts === undefined) throw new ProtocolError('BAD_REPLY', `${nameOf(Opt, option)} without INFO_EXPORT`)
      const isNamed = Object.keys(texts).length > 0
      return { ...facts, kind: 'facts', blockSize, told: isNamed ? JSON.stringify(texts) : undefined }
    }
    if (reply !== Rep.INFO)
      throw new ProtocolError('BAD_REPLY', `${nameOf(Rep, reply)} in reply to ${nameOf(Opt, option)}`)
    const info = decodeInfoReply(data)
    if (info.kind === 'export') facts = info
    if (info.kind === 'text') texts[info.type] = info.text
    if (info.kind === 'block size') told = info
    if (info.kind === 'block size' && sizes) blockSize = info
  }
  throw new ProtocolError('BAD_REPLY', `endless replies to ${nameOf(Opt, option)}`)
}

/** What the upstream LISTs. @throws ProtocolError, StreamError, OptionRefused */
export async function listExports(wire: Wire): Promise<readonly ListEntry[]> {
  await wire.write(encodeOption(Opt.LIST))
  const entries: ListEntry[] = []
  let bytes = 0
  while (entries.length <= MAX_REPLIES.list && bytes <= MAX_LIST_BYTES) {
    const { reply, data } = await readReply(wire, Opt.LIST)
    if (reply === Rep.ACK) return entries
    if (reply !== Rep.SERVER) throw refused(Opt.LIST, reply, data)
    entries.push(decodeServerEntry(data))
    bytes += data.length
  }
  throw new ProtocolError('BAD_REPLY', 'endless replies to LIST')
}

/** Lists or selects metadata contexts; none where the upstream says no. */
async function findContexts(
  wire: Wire,
  name: string,
  wants: ContextWants | undefined,
): Promise<readonly MetaContext[]> {
  if (wants === undefined || (wants.queries.length === 0 && wants.how !== 'list')) return []
  const option = wants.how === 'list' ? Opt.LIST_META_CONTEXT : Opt.SET_META_CONTEXT
  await wire.write(encodeOption(option, encodeMetaQuery({ name, queries: wants.queries })))
  const found: MetaContext[] = []
  while (found.length <= MAX_REPLIES.contexts) {
    const { reply, data } = await readReply(wire, option)
    if (reply === Rep.ACK) return checkedContexts(found, option)
    if (isPassable(reply)) return []
    if (reply !== Rep.META_CONTEXT) throw refused(option, reply, data)
    found.push(decodeMetaContext(data))
  }
  throw new ProtocolError('BAD_REPLY', `endless replies to ${nameOf(Opt, option)}`)
}

/** Holds the contexts against what can be: each with a name of its own and, once selected, an id. */
function checkedContexts(found: readonly MetaContext[], option: Opt): readonly MetaContext[] {
  const names = new Set(found.map(({ name }) => name))
  const ids = new Set(found.map(({ id }) => id))
  const isDouble = names.size < found.length || (option === Opt.SET_META_CONTEXT && ids.size < found.length)
  if (isDouble) throw new ProtocolError('BAD_REPLY', 'the same metadata context twice')
  return found
}

async function exportName(
  { wire, noZeroes }: Connected,
  name: string,
): Promise<{ sizeBytes: bigint; flags: number; blockSize: BlockSize }> {
  await wire.write(encodeOption(Opt.EXPORT_NAME, Buffer.from(name)))
  const facts = decodeExportNameReply(await wire.read(EXPORT_NAME_REPLY_SIZE))
  if (!noZeroes) await wire.drain(EXPORT_NAME_ZEROES)
  return { ...facts, blockSize: DEFAULT_BLOCK_SIZE }
}

async function agree(wire: Wire, option: typeof Opt.STRUCTURED_REPLY | typeof Opt.EXTENDED_HEADERS): Promise<boolean> {
  await wire.write(encodeOption(option))
  const { reply, data } = await readReply(wire, option)
  if (reply === Rep.ACK) return true
  if (isPassable(reply)) return false
  throw refused(option, reply, data)
}

/** Whether the export may be entered all the same after an option was refused so. */
function isPassable(reply: number): boolean {
  return isErrorReply(reply) && reply !== Rep.ERR_TLS_REQD && reply !== Rep.ERR_SHUTDOWN
}

async function readReply(wire: Wire, option: Opt): Promise<{ reply: number; data: Buffer }> {
  const head = decodeOptionReplyHeader(await wire.read(OPTION_REPLY_HEADER_SIZE))
  if (head.option !== option) throw new ProtocolError('BAD_REPLY', `reply to ${nameOf(Opt, head.option)}`)
  if (head.lengthBytes > MAX_REPLY_BYTES) throw new ProtocolError('TOO_LONG', `a reply of ${head.lengthBytes} bytes`)
  return { reply: head.reply, data: await wire.read(head.lengthBytes) }
}

function refused(option: Opt, reply: number, data: Buffer, blockSize?: BlockSize): OptionRefused {
  return new OptionRefused(option, reply, printable(data.toString('utf8')), blockSize)
}

/** Holds what the upstream says of its export against what can be. */
function checked(facts: UpstreamExport): UpstreamExport {
  // CVE-2023-5215: sizes of 2^63 and above are negative to many a client.
  if (facts.sizeBytes >= 1n << 63n) throw new ProtocolError('BAD_REPLY', `an export of ${facts.sizeBytes} bytes`)
  // proto.md, "Transmission flags": without HAS_FLAGS the others mean nothing.
  return (facts.flags & TransmissionFlag.HAS_FLAGS) === 0 ? { ...facts, flags: 0 } : facts
}
