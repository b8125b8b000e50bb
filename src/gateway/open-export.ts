import type { UpstreamConfig } from '../config/config.ts'
import { enter, greet, OptionRefused, type UpstreamWants } from '../negotiation/client.ts'
import type { ContextWants, Opened } from '../negotiation/host.ts'
import type { Rights } from '../policy/identity.ts'
import { MAX_PAYLOAD_BYTES, TransmissionFlag } from '../protocol/constants.ts'
import { ProtocolError } from '../protocol/errors.ts'
import type { BlockSize } from '../protocol/info.ts'
import type { MetaContext } from '../protocol/meta-context.ts'
import type { ProxiedClient } from '../protocol/proxy-facts.ts'
import { encodeProxyV2 } from '../protocol/proxy-v2.ts'
import type { ContextIds } from '../relay/block-status.ts'
import type { ReplyKinds } from '../relay/replies.ts'
import type { SessionMemory } from '../relay/session-memory.ts'
import { StreamError } from '../stream/errors.ts'
import { Wire } from '../stream/wire.ts'
import type { GatedStream } from '../stream/write-gate.ts'
import { connectUpstream } from '../upstreams/connect.ts'
import { UpstreamError } from '../upstreams/errors.ts'
import type { SshPool } from '../upstreams/ssh.ts'
import { bidFarewell, phaseOf } from './farewell.ts'

/** How long an upstream may take to be reached, and how long to negotiate. */
const CONNECT_MS = 5000
const NEGOTIATE_MS = 5000

/** Least block size that may be preferred. */
const MIN_PREFERRED_BYTES = 512

/** An export with the connection that serves it. */
export interface OpenExport extends Opened {
  readonly stream: GatedStream
  readonly rights: Rights
  /** The rule that granted it, as `file:line`. */
  readonly rule: string
  /** Structured replies: with the client, and with the upstream; and whether extended headers pass between them. */
  readonly structured: ReplyKinds
  /** It was opened for a client that has agreed on extended headers. */
  readonly hasExtended: boolean
  /** The upstream's id of each selected context → the client's, which is its place in `contexts`. */
  readonly contextIds: ContextIds
  /** It was opened for a client that has asked for block sizes. */
  readonly hasBlockSize: boolean
  /** Transmission flags as the upstream sent them. */
  readonly upstreamFlags: number
  /** What the upstream itself calls it; undefined: it does not say. */
  readonly told: string | undefined
  /** What every offset and length has to be a multiple of: the upstream was promised so. */
  readonly alignment: number
  /** What they are made multiples of on the way to the upstream; 1: they are not. */
  readonly alignBytes: number
  /** Most bytes of a READ or WRITE that the upstream takes in one; undefined: as many as any client may ask for. */
  readonly partBytes: number | undefined
}

/** What an export is opened with. */
export interface Opening {
  readonly name: string
  readonly description: string | undefined
  readonly upstream: UpstreamConfig
  readonly rights: Rights
  readonly rule: string
  readonly structuredReplies: boolean
  readonly extendedHeaders?: boolean | undefined
  readonly contexts?: ContextWants | undefined
  readonly blockSize?: boolean | undefined
  /** Requests that are not whole blocks of the upstream are to be made so. */
  readonly align?: boolean | undefined
  /** Whether further connections of this visitor will be granted the same. */
  readonly canMultiply: boolean
  /** Whom an upstream with `proxy-protocol` is told of. */
  readonly client?: ProxiedClient | undefined
  /** What the session may hold. */
  readonly memory: SessionMemory
  /** SSH connections to share. */
  readonly ssh?: SshPool | undefined
  /** Which of several connections of the session it is. */
  readonly lane?: number | undefined
  /** Told why the session is spread over fewer connections than it was to be, or over none. */
  readonly notSpread?: ((why: string) => void) | undefined
}

/**
 * Connects to an export's upstream and brings it into transmission phase.
 * @throws UpstreamError DIAL, HANDSHAKE or REFUSED
 */
export async function openExport(opening: Opening): Promise<OpenExport> {
  const { name, description, rights, rule, structuredReplies, extendedHeaders, canMultiply, contexts: wanted } = opening
  const facts = await connect(opening)
  const kinds = { client: structuredReplies, upstream: facts.structuredReplies, extended: facts.extendedHeaders }
  const contexts = inOrder(facts.contexts, wanted)
  if (contexts === undefined) {
    bidFarewell(facts.stream, phaseOf({ structured: kinds }))
    throw new UpstreamError('HANDSHAKE', 'metadata contexts that the client was told of are gone')
  }
  const contextIds = new Map(wanted?.how === 'list' ? [] : contexts.map(({ id }, at) => [id, at]))
  // "NBD_FLAG_BLOCK_STATUS_PAYLOAD": with extended headers and contexts alone. Where heads are translated so is this.
  const canFilter = kinds.extended ? (facts.flags & TransmissionFlag.BLOCK_STATUS_PAYLOAD) !== 0 : kinds.upstream
  const alignBytes = opening.align === true ? facts.blockSize.minimum : 1
  const filter = extendedHeaders === true && contextIds.size > 0 && canFilter
  return {
    name,
    description,
    sizeBytes: facts.sizeBytes,
    // proto.md, "NBD_FLAG_CAN_MULTI_CONN": the upstream's promise, for it is the upstream that keeps it; not where the
    // client's next connection could be told something else.
    flags:
      (cutFlags(facts.flags, rights, kinds) & (canMultiply ? ~0 : ~TransmissionFlag.CAN_MULTI_CONN)) |
      (filter ? TransmissionFlag.BLOCK_STATUS_PAYLOAD : 0),
    upstreamFlags: facts.flags,
    told: facts.told,
    blockSize: { ...cutSizes(facts.blockSize), ...(alignBytes > 1 && { minimum: 1 }) },
    stream: facts.stream,
    rights,
    rule,
    structured: kinds,
    hasExtended: extendedHeaders === true,
    contexts: contexts.map(context => context.name),
    hasBlockSize: opening.blockSize !== false,
    // A request of the largest size may become longer.
    partBytes: partOf(facts.blockSize) ?? (alignBytes > 1 ? MAX_PAYLOAD_BYTES : undefined),
    alignment: facts.keepsSizes && alignBytes === 1 ? facts.blockSize.minimum : 1,
    alignBytes,
    contextIds,
  }
}

/**
 * Extended headers are asked for where they would pass: not over several connections, nor where requests are split or aligned.
 * There the client's are translated.
 */
async function connect(opening: Opening) {
  const { upstream, extendedHeaders, align } = opening
  const isOne = upstream.kind === 'file' || (upstream.connections ?? 1) <= 1
  const first = await reach(opening, extendedHeaders === true && isOne && align !== true)
  if (!first.extendedHeaders || partOf(first.blockSize) === undefined) return first
  bidFarewell(first.stream, 'extended transmission')
  return await reach(opening, false)
}

async function reach(opening: Opening, extendedHeaders: boolean) {
  const { upstream, rights, structuredReplies, ssh, contexts, lane, memory, align } = opening
  const blockSize = align === true || opening.blockSize
  const header = proxyHeader(opening)
  const wants = { readOnly: rights === 'read', lane, structured: structuredReplies, memory: memory.file }
  return await within(CONNECT_MS, async signal => {
    const link = await connectUpstream(upstream, wants, signal, ssh)
    if (header !== undefined) link.stream.write(header)
    return link.kind === 'file'
      ? { ...link, structuredReplies, extendedHeaders: false, contexts: [], keepsSizes: true, told: undefined }
      : await negotiateUpstream(link, { structuredReplies, extendedHeaders, contexts, blockSize })
  })
}

/** Names of the contexts that BLOCK_STATUS would report on. */
export function selectedOf(opened: OpenExport | undefined): readonly string[] {
  return opened === undefined || opened.contextIds.size === 0 ? [] : opened.contexts
}

/**
 * Whether an export was opened as a client wants it that has asked for block sizes, or has not: an upstream that was asked
 * for them may insist on a minimum, which a client that did not ask can not know.
 */
export function fitsSizes(opened: OpenExport | undefined, isAsked: boolean): boolean {
  return opened?.hasBlockSize === isAsked || (!isAsked && opened?.alignment === 1)
}

/** In multiples of what it prefers. */
function partOf({ preferred, maximumPayload }: BlockSize): number | undefined {
  return maximumPayload >= MAX_PAYLOAD_BYTES ? undefined : maximumPayload - (maximumPayload % preferred)
}

/** Runs with a signal that is aborted after `ms`. Of AbortSignal.timeout the timer would outlive most sessions. */
async function within<Done>(ms: number, run: (signal: AbortSignal) => Promise<Done>): Promise<Done> {
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(), ms)
  try {
    return await run(late.signal)
  } finally {
    clearTimeout(timer)
  }
}

/** Contexts in the order of the queries that name them, so that the client's ids stay; undefined if one to keep is not there. */
function inOrder(found: readonly MetaContext[], wanted: ContextWants | undefined): readonly MetaContext[] | undefined {
  if (wanted?.how !== 'keep') return found
  const kept = wanted.queries.flatMap(query => found.find(({ name }) => name === query) ?? [])
  return kept.length === wanted.queries.length && kept.length === found.length ? kept : undefined
}

/** What the upstream is told in front of NBD; undefined: it expects nothing. @throws UpstreamError DIAL */
function proxyHeader({ upstream, client }: Opening): Buffer | undefined {
  if (upstream.kind === 'file' || upstream.proxyProtocol === undefined) return undefined
  const header = encodeProxyV2(client ?? {})
  // Not without the name, nor with half of it: the upstream might go by it.
  if (header === undefined) throw new UpstreamError('DIAL', 'the name of the client does not fit into a PROXY header')
  return header
}

type ServerLink = Extract<Awaited<ReturnType<typeof connectUpstream>>, { kind: 'server' }>

async function negotiateUpstream(link: ServerLink, wants: UpstreamWants) {
  let stream = link.stream
  try {
    const { secure } = link
    const upgrade =
      secure === undefined
        ? undefined
        : async () => {
            stream = await secure()
            return new Wire(stream, NEGOTIATE_MS, link.acknowledge)
          }
    const connected = await greet(new Wire(stream, NEGOTIATE_MS, link.acknowledge), upgrade)
    const facts = await enter(connected, link.export, wants)
    // A server sends nothing before it is asked: what is there already can not be a reply to anything.
    if (connected.wire.bufferedBytes > 0) throw new ProtocolError('UNEXPECTED_DATA', 'bytes before the first request')
    return { ...facts, stream }
  } catch (error) {
    if (error instanceof OptionRefused) {
      bidFarewell(stream, 'haggling')
      throw new UpstreamError('REFUSED', error.message, { cause: error })
    }
    stream.destroy()
    if (error instanceof ProtocolError || error instanceof StreamError) {
      throw new UpstreamError('HANDSHAKE', error.message, { cause: error })
    }
    throw error
  }
}

/**
 * The upstream's block sizes, cut to what the relay carries and to what may be told (proto.md, "Size constraints"):
 * what is preferred MUST be 512 at least, and no more than the largest payload.
 */
export function cutSizes({ minimum, preferred, maximumPayload }: BlockSize): BlockSize {
  const most = Math.min(maximumPayload, MAX_PAYLOAD_BYTES)
  const cut = Math.min(Math.max(preferred, MIN_PREFERRED_BYTES), MAX_PAYLOAD_BYTES)
  return { minimum, preferred: cut, maximumPayload: Math.max(most, cut) }
}

/** Flags that are relayed; all others promise what the relay does not carry. */
const RELAYED =
  TransmissionFlag.HAS_FLAGS |
  TransmissionFlag.READ_ONLY |
  TransmissionFlag.SEND_FLUSH |
  TransmissionFlag.SEND_FUA |
  TransmissionFlag.ROTATIONAL |
  TransmissionFlag.SEND_TRIM |
  TransmissionFlag.SEND_WRITE_ZEROES |
  TransmissionFlag.SEND_DF |
  TransmissionFlag.CAN_MULTI_CONN |
  TransmissionFlag.SEND_CACHE |
  TransmissionFlag.SEND_FAST_ZERO

const WRITING = TransmissionFlag.SEND_TRIM | TransmissionFlag.SEND_WRITE_ZEROES | TransmissionFlag.SEND_FAST_ZERO

/** The upstream's transmission flags, cut to what was granted and to what the relay carries. */
export function cutFlags(upstreamFlags: number, rights: Rights, structured: ReplyKinds): number {
  let flags = (upstreamFlags & RELAYED) | TransmissionFlag.HAS_FLAGS
  if (rights === 'read') flags = (flags | TransmissionFlag.READ_ONLY) & ~WRITING
  // proto.md, "NBD_FLAG_SEND_FAST_ZERO": MUST NOT be set without SEND_WRITE_ZEROES.
  if ((flags & TransmissionFlag.SEND_WRITE_ZEROES) === 0) flags &= ~TransmissionFlag.SEND_FAST_ZERO
  if (!structured.client) return flags & ~TransmissionFlag.SEND_DF
  // A reply that we lift is one chunk anyway, so DF holds.
  return structured.upstream ? flags : flags | TransmissionFlag.SEND_DF
}
