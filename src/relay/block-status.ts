/**
 * Replies to BLOCK_STATUS: each chunk is of a context that was negotiated and comes once, its extents add up, and the
 * upstream's context ids become those that the client was told. Requests for it are few beside READs and WRITEs, so
 * that what is remembered of them may be an object.
 */
import { ProtocolError } from '../protocol/errors.ts'
import { encodeStatusFilter, type StatusFilter } from '../protocol/extended.ts'

/** Most extents in a chunk (proto.md, "NBD_REPLY_TYPE_BLOCK_STATUS": 2^20). */
const MAX_EXTENTS = 1 << 20

/** What opens a chunk's payload, and an extent: u32 id, u32 length and u32 flags; extended u32 id and u32 count, both u64. */
const COMPACT = { openingBytes: 4, extentBytes: 8 } as const
const EXTENDED = { openingBytes: 8, extentBytes: 16 } as const

/** The upstream's id of each context that was negotiated → the client's. */
export type ContextIds = ReadonlyMap<number, number>

const NONE: Set<number> = new Set()

interface Asked {
  readonly lengthBytes: number
  /** REQ_ONE: one extent a context, not longer than the request. */
  readonly isOne: boolean
  /** Ids of the client's that it has been told of, and those of them that a former connection had told of. */
  readonly seen: Set<number>
  told: Set<number>
  /** Ids of the client's that it asks for, where those are not all. */
  readonly ids: ReadonlySet<number> | undefined
}

/** Whether a payload can be that of a status chunk: an id, and 1 to 2^20 extents. */
export function isStatusLength(length: number, isExtended = false): boolean {
  const { openingBytes, extentBytes } = isExtended ? EXTENDED : COMPACT
  const extents = (length - openingBytes) / extentBytes
  return Number.isInteger(extents) && extents >= 1 && extents <= MAX_EXTENTS
}

export class BlockStatus {
  #contexts: ContextIds
  readonly #isExtended: boolean
  readonly #asked = new Map<number, Asked>()

  constructor(contexts: ContextIds, isExtended = false) {
    this.#contexts = contexts
    this.#isExtended = isExtended
  }

  /** Whether the client may ask. */
  get isNegotiated(): boolean {
    return this.#contexts.size > 0
  }

  /** How many contexts there are. */
  get count(): number {
    return this.#contexts.size
  }

  /** A request has gone out in a slot; for all contexts, or for these of the client's ids. */
  ask(slot: number, lengthBytes: number, isOne: boolean, ids?: ReadonlySet<number>): void {
    this.#asked.set(slot, { lengthBytes, isOne, seen: new Set(), told: NONE, ids })
  }

  /** The payload with which the upstream is asked for these of the client's ids; undefined: one is of no context. */
  filter({ lengthBytes, ids }: StatusFilter): Buffer | undefined {
    const theirs = [...this.#contexts].flatMap(([id, ours]) => (ids.has(ours) ? [id] : []))
    return theirs.length === ids.size ? encodeStatusFilter({ lengthBytes, ids: new Set(theirs) }) : undefined
  }

  /** The payload of a slot's request; undefined: it has none. */
  payloadOf(slot: number): Buffer | undefined {
    const asked = this.#asked.get(slot)
    return asked?.ids && this.filter({ lengthBytes: BigInt(asked.lengthBytes), ids: asked.ids })
  }

  /** The upstream is another connection now, which has its own ids for the same contexts. */
  reconnect(contexts: ContextIds): void {
    this.#contexts = contexts
    for (const asked of this.#asked.values()) asked.told = new Set(asked.seen)
  }

  /** Whether all that a slot's request asked for has been told. */
  isComplete(slot: number): boolean {
    const asked = this.#asked.get(slot)
    return asked !== undefined && asked.seen.size === this.#expected(asked)
  }

  /** Nothing more comes for a slot. */
  forget(slot: number): void {
    this.#asked.delete(slot)
  }

  /**
   * Judges the payload of a status chunk, and gives it the client's id. Whether that is news: a former connection may have
   * told the same. @throws ProtocolError BAD_REPLY
   */
  judge(slot: number, payload: Buffer): boolean {
    const asked = this.#asked.get(slot)
    const id = payload.readUInt32BE(0)
    const told = this.#contexts.get(id)
    if (asked === undefined) throw new ProtocolError('BAD_REPLY', 'block status that nobody asked for')
    if (told === undefined) throw new ProtocolError('BAD_REPLY', `block status of context ${id}, never negotiated`)
    if (asked.ids?.has(told) === false) throw new ProtocolError('BAD_REPLY', 'block status of another context')
    const isNews = !asked.told.delete(told)
    if (isNews && asked.seen.has(told)) throw new ProtocolError('BAD_REPLY', `block status of context ${id} twice`)
    asked.seen.add(told)
    payload.writeUInt32BE(told, 0)
    judgeExtents(payload, asked, this.#isExtended)
    return isNews
  }

  /**
   * The last chunk of a slot's reply has come.
   * @throws ProtocolError BAD_REPLY if it is of a success and a context is missing
   */
  done(slot: number, hasFailed: boolean): void {
    const asked = this.#asked.get(slot)
    this.#asked.delete(slot)
    // proto.md: a successful reply MUST have exactly one status chunk for each context that was selected.
    if (asked !== undefined && !hasFailed && asked.seen.size < this.#expected(asked)) {
      throw new ProtocolError('BAD_REPLY', 'block status without one of the contexts')
    }
  }

  #expected({ ids }: Asked): number {
    return ids?.size ?? this.#contexts.size
  }
}

function judgeExtents(payload: Buffer, { lengthBytes, isOne }: Asked, isExtended: boolean): void {
  const { openingBytes, extentBytes } = isExtended ? EXTENDED : COMPACT
  // "NBD_REPLY_TYPE_BLOCK_STATUS_EXT": the count MUST be that of the descriptors that follow.
  if (isExtended && payload.readUInt32BE(4) !== (payload.length - openingBytes) / extentBytes) {
    throw new ProtocolError('BAD_REPLY', 'another count of extents than there are')
  }
  let covered = 0
  for (let at = openingBytes; at < payload.length; at += extentBytes) {
    const length = isExtended ? Number(payload.readBigUInt64BE(at)) : payload.readUInt32BE(at)
    const isLast = at + extentBytes === payload.length
    if (isOne && !isLast) throw new ProtocolError('BAD_REPLY', 'more than the one extent')
    if (length === 0) throw new ProtocolError('BAD_REPLY', 'an extent of nothing')
    covered += length
    // proto.md: only the last extent may reach beyond the request, and with REQ_ONE not even that.
    const isBeyond = isLast ? isOne && covered > lengthBytes : covered >= lengthBytes
    if (isBeyond) throw new ProtocolError('BAD_REPLY', 'extents behind the request')
  }
}
