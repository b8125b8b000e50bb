/**
 * Requests with extended headers on their way to a relay that knows compact ones. What has an effect of 4 GiB or more goes
 * on in parts, but for BLOCK_STATUS, which may be answered in part. Lengths are held against the export here, since a
 * part could be good where the whole is not; all else is judged by the relay.
 */
import { Cmd, CmdFlag, Err, MAX_DRAINED_BYTES, Magic } from '../protocol/constants.ts'
import { ProtocolError } from '../protocol/errors.ts'
import { decodeStatusFilter, EXTENDED_REQUEST_SIZE, ExtendedField, statusFilterSize } from '../protocol/extended.ts'
import { REQUEST_SIZE, RequestField } from '../protocol/request.ts'
import { type Grammar, Verdict } from './framer.ts'

/** The longest part: the largest multiple of every block size that a compact request can name. */
const PART_BYTES = 2n ** 32n - 2n ** 16n

/** Most parts of one request. */
const MOST_PARTS = 64n

const LONGEST = 0xffff_ffffn

/** An offset behind every export. */
const BEYOND = 2n ** 64n - 1n

/** A request that is out. */
export interface Extended {
  readonly cookie: bigint
  readonly offset: bigint
  readonly isSplit: boolean
  /** Parts without an answer. */
  left: number
  /** The first error, or the one that it is answered with in any case; 0: none. */
  error: number
  /** The contexts that BLOCK_STATUS is for, where those are not all. */
  readonly ids?: ReadonlySet<number> | undefined
}

/** What is known of a request when it is taken. */
interface Taken {
  readonly length: bigint
  readonly error: Err
  readonly payloadBytes: number
  readonly ids?: ReadonlySet<number> | undefined
}

/** What requests are held against. */
export interface ExtendedRules {
  readonly sizeBytes: bigint
  /** How many contexts BLOCK_STATUS may choose from by its payload; 0: it may not. */
  readonly contexts: number
}

export class ExtendedRequests implements Grammar {
  payloadBytes = 0
  replacement: Buffer = Buffer.alloc(0)
  readonly #out: Map<bigint, Extended>
  readonly #rules: ExtendedRules
  readonly #inject: (request: Buffer) => void
  #last = 0n
  #isOver = false
  /** The BLOCK_STATUS whose payload is on its way. */
  #filtered: { readonly head: Buffer; readonly pieces: Buffer[]; missing: number } | undefined

  /** `out`: by the cookies that the relay sees. `inject`: takes a request that was held back. */
  constructor(out: Map<bigint, Extended>, rules: ExtendedRules, inject: (request: Buffer) => void) {
    this.#out = out
    this.#rules = rules
    this.#inject = inject
  }

  /** After DISC nothing is looked at. */
  headBytes(): number {
    return this.#isOver ? 0 : EXTENDED_REQUEST_SIZE
  }

  judge(bytes: Buffer, at: number): Verdict {
    if (this.#isOver) return Verdict.STOP
    if (bytes.readUInt32BE(at + ExtendedField.MAGIC) !== Magic.EXTENDED_REQUEST) {
      throw new ProtocolError('BAD_MAGIC', 'a request without its magic')
    }
    const flags = bytes.readUInt16BE(at + ExtendedField.FLAGS)
    const type = bytes.readUInt16BE(at + ExtendedField.TYPE)
    const length = bytes.readBigUInt64BE(at + ExtendedField.LENGTH)
    const offset = bytes.readBigUInt64BE(at + ExtendedField.OFFSET)
    const hasPayload = (flags & CmdFlag.PAYLOAD_LEN) !== 0
    if (hasPayload && length > MAX_DRAINED_BYTES) throw new ProtocolError('TOO_LONG', `a payload of ${length} bytes`)
    this.payloadBytes = hasPayload ? Number(length) : 0
    if (hasPayload && type === Cmd.BLOCK_STATUS && length <= statusFilterSize(this.#rules.contexts) && length > 0) {
      const head = Buffer.from(bytes.subarray(at, at + EXTENDED_REQUEST_SIZE))
      this.#filtered = { head, pieces: [], missing: this.payloadBytes }
      return Verdict.DROP
    }
    const error = this.#check(type, offset, length, hasPayload)
    this.replacement = this.#take(bytes, at, { length, error, payloadBytes: this.payloadBytes })
    return Verdict.SWAP
  }

  /** The payload of BLOCK_STATUS, which says what it is for: "unknown or duplicate ids MUST fail with EINVAL". */
  dropped(bytes: Buffer): void {
    const filtered = this.#filtered
    if (filtered === undefined) return
    filtered.pieces.push(Buffer.from(bytes))
    filtered.missing -= bytes.length
    if (filtered.missing > 0) return
    this.#filtered = undefined
    const { head } = filtered
    const filter = decodeStatusFilter(Buffer.concat(filtered.pieces))
    const isKnown = filter !== undefined && [...filter.ids].every(id => id < this.#rules.contexts)
    const length = filter?.lengthBytes ?? 0n
    const offset = head.readBigUInt64BE(ExtendedField.OFFSET)
    const error = isKnown ? this.#check(Cmd.BLOCK_STATUS, offset, length, false) : Err.INVAL
    this.#inject(this.#take(head, 0, { length, error, payloadBytes: 0, ids: filter?.ids }))
  }

  /** Remembers the request whose head stands at `at`; what takes its place. */
  #take(bytes: Buffer, at: number, { length, error, payloadBytes, ids }: Taken): Buffer {
    const flags = bytes.readUInt16BE(at + ExtendedField.FLAGS)
    const type = bytes.readUInt16BE(at + ExtendedField.TYPE)
    const offset = bytes.readBigUInt64BE(at + ExtendedField.OFFSET)
    const cookie = bytes.readBigUInt64BE(at + ExtendedField.COOKIE)
    this.#last++
    if (error !== Err.NONE) {
      this.#out.set(this.#last, { cookie, offset, isSplit: true, left: 1, error })
      // By the relay, which counts refusals and waits for clients that do not read them: no such request is good.
      return this.#head(0, payloadBytes > 0 ? Cmd.WRITE : Cmd.READ, BEYOND, payloadBytes)
    }
    const parts = length > LONGEST && type !== Cmd.BLOCK_STATUS ? (length + PART_BYTES - 1n) / PART_BYTES : 1n
    const isSplit = parts > 1n
    if (type !== Cmd.DISC) this.#out.set(this.#last, { cookie, offset, isSplit, left: Number(parts), error, ids })
    const passed = flags & ~CmdFlag.PAYLOAD_LEN
    const heads: Buffer[] = []
    for (let [from, rest] = [offset, length]; ; ) {
      const part = rest > LONGEST ? PART_BYTES : rest
      heads.push(this.#head(passed, type, from, Number(part)))
      from += part
      rest -= part
      if (rest === 0n || type === Cmd.BLOCK_STATUS) break
    }
    return Buffer.concat(heads)
  }

  #check(type: number, offset: bigint, length: bigint, hasPayload: boolean): Err {
    // "NBD_CMD_FLAG_PAYLOAD_LEN": MUST be set for WRITE; for other commands the flag will trigger EINVAL.
    if (type !== Cmd.DISC && hasPayload !== (type === Cmd.WRITE)) return Err.INVAL
    if (length <= LONGEST) return Err.NONE
    const isEffect = type === Cmd.TRIM || type === Cmd.WRITE_ZEROES || type === Cmd.CACHE || type === Cmd.BLOCK_STATUS
    if (!isEffect) return Err.INVAL
    if (offset + length > this.#rules.sizeBytes) return type === Cmd.WRITE_ZEROES ? Err.NOSPC : Err.INVAL
    // "Size constraints": MAY reply with EOVERFLOW if it would require too many resources.
    return type !== Cmd.BLOCK_STATUS && length > PART_BYTES * MOST_PARTS ? Err.OVERFLOW : Err.NONE
  }

  #head(flags: number, type: number, offset: bigint, length: number): Buffer {
    const head = Buffer.alloc(REQUEST_SIZE)
    head.writeUInt32BE(Magic.REQUEST, RequestField.MAGIC)
    head.writeUInt16BE(flags, RequestField.FLAGS)
    head.writeUInt16BE(type, RequestField.TYPE)
    head.writeBigUInt64BE(this.#last, RequestField.COOKIE)
    head.writeBigUInt64BE(offset, RequestField.OFFSET)
    head.writeUInt32BE(length, RequestField.LENGTH)
    return head
  }
}
