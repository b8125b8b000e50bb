/**
 * Replies to BLOCK_STATUS: each chunk is of a context that was negotiated and comes once, its extents add up, and the
 * upstream's context ids become those that the client was told. Requests for it are few beside READs and WRITEs, so
 * that what is remembered of them may be an object.
 */
import { ProtocolError } from '../protocol/errors.ts'

/** Most extents in a chunk (proto.md, "NBD_REPLY_TYPE_BLOCK_STATUS": 2^20). */
const MAX_EXTENTS = 1 << 20

/** An extent: u32 length, u32 status flags. */
const EXTENT_SIZE = 8

/** The context id that opens a chunk's payload. */
export const CONTEXT_ID_SIZE = 4

/** The upstream's id of each context that was negotiated → the client's. */
export type ContextIds = ReadonlyMap<number, number>

interface Asked {
  readonly lengthBytes: number
  /** REQ_ONE: one extent a context, not longer than the request. */
  readonly isOne: boolean
  readonly seen: Set<number>
}

/** Whether a payload can be that of a status chunk: an id, and 1 to 2^20 extents. */
export function isStatusLength(length: number): boolean {
  const extents = (length - CONTEXT_ID_SIZE) / EXTENT_SIZE
  return Number.isInteger(extents) && extents >= 1 && extents <= MAX_EXTENTS
}

export class BlockStatus {
  readonly #contexts: ContextIds
  readonly #asked = new Map<number, Asked>()
  /** What the extents of the chunk that is passing add up to so far, and may add up to before its last one. */
  #coveredBytes = 0
  #limitBytes = 0
  #isOne = false
  #extentsLeft = 0
  readonly #cut = Buffer.alloc(EXTENT_SIZE)
  #cutLength = 0

  constructor(contexts: ContextIds) {
    this.#contexts = contexts
  }

  /** Whether the client may ask. */
  get isNegotiated(): boolean {
    return this.#contexts.size > 0
  }

  /** A request has gone out in a slot. */
  ask(slot: number, lengthBytes: number, isOne: boolean): void {
    this.#asked.set(slot, { lengthBytes, isOne, seen: new Set() })
  }

  /**
   * Judges the beginning of a status chunk, whose payload of `length` bytes begins at `at`, and gives it the client's
   * id. @throws ProtocolError BAD_REPLY
   */
  begin(slot: number, bytes: Buffer, at: number, length: number): void {
    const asked = this.#asked.get(slot)
    const id = bytes.readUInt32BE(at)
    const told = this.#contexts.get(id)
    if (asked === undefined) throw new ProtocolError('BAD_REPLY', 'block status that nobody asked for')
    if (told === undefined) throw new ProtocolError('BAD_REPLY', `block status of context ${id}, never negotiated`)
    if (asked.seen.has(id)) throw new ProtocolError('BAD_REPLY', `block status of context ${id} twice`)
    asked.seen.add(id)
    bytes.writeUInt32BE(told, at)
    this.#coveredBytes = 0
    this.#limitBytes = asked.lengthBytes
    this.#isOne = asked.isOne
    this.#extentsLeft = (length - CONTEXT_ID_SIZE) / EXTENT_SIZE
    this.#cutLength = 0
    if (this.#isOne && this.#extentsLeft > 1) throw new ProtocolError('BAD_REPLY', 'more than the one extent')
  }

  /** Judges extents as they pass, wherever the stream is cut. @throws ProtocolError BAD_REPLY */
  passes(bytes: Buffer): void {
    let at = 0
    if (this.#cutLength > 0) {
      at = bytes.copy(this.#cut, this.#cutLength, 0)
      this.#cutLength += at
      if (this.#cutLength < EXTENT_SIZE) return
      this.#cutLength = 0
      this.#judge(this.#cut.readUInt32BE(0))
    }
    for (; at + EXTENT_SIZE <= bytes.length; at += EXTENT_SIZE) this.#judge(bytes.readUInt32BE(at))
    this.#cutLength = bytes.copy(this.#cut, 0, at)
  }

  /**
   * The last chunk of a slot's reply has come.
   * @throws ProtocolError BAD_REPLY if it is of a success and a context is missing
   */
  done(slot: number, hasFailed: boolean): void {
    const asked = this.#asked.get(slot)
    this.#asked.delete(slot)
    // proto.md: a successful reply MUST have exactly one status chunk for each context that was selected.
    if (asked !== undefined && !hasFailed && asked.seen.size < this.#contexts.size) {
      throw new ProtocolError('BAD_REPLY', 'block status without one of the contexts')
    }
  }

  #judge(lengthBytes: number): void {
    if (lengthBytes === 0) throw new ProtocolError('BAD_REPLY', 'an extent of nothing')
    this.#coveredBytes += lengthBytes
    this.#extentsLeft--
    // proto.md: only the last extent may reach beyond the request, and with REQ_ONE not even that.
    const isBeyond = this.#extentsLeft > 0 ? this.#coveredBytes >= this.#limitBytes : this.#isOverlong()
    if (isBeyond) throw new ProtocolError('BAD_REPLY', 'extents behind the request')
  }

  #isOverlong(): boolean {
    return this.#isOne && this.#coveredBytes > this.#limitBytes
  }
}
