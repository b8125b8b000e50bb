/**
 * The client's requests: what reaches the upstream and what is refused here. Read-only grants, ranges beyond the
 * export, unknown commands and flags, and payloads out of bounds are answered by us; the upstream never sees them.
 */
import {
  Cmd,
  CmdFlag,
  Err,
  MAX_DRAINED_BYTES,
  MAX_PAYLOAD_BYTES,
  Magic,
  TransmissionFlag,
} from '../protocol/constants.ts'
import { ProtocolError } from '../protocol/errors.ts'
import { decodeStatusFilter, EXTENDED_REQUEST_SIZE, ExtendedField, statusFilterSize } from '../protocol/extended.ts'
import { REQUEST_SIZE, RequestField } from '../protocol/request.ts'
import type { BlockStatus } from './block-status.ts'
import { type Grammar, Verdict } from './framer.ts'
import type { Keep } from './keep.ts'
import { isChange, type Pending } from './pending.ts'
import type { ReplyKinds } from './replies.ts'
import type { Throttle } from './throttle.ts'

/** What the requests of a session are held against. */
export interface RequestRules {
  readonly sizeBytes: bigint
  /** Transmission flags as the client was told them. */
  readonly flags: number
  readonly structured: ReplyKinds
  /** What every offset and length has to be a multiple of, a power of two; 1 without this. */
  readonly alignment?: number | undefined
  readonly throttle: Throttle
  /** Once it is on, nothing passes any more. */
  readonly shutdown?: { readonly isOn: boolean } | undefined
  /** A range of the export that must not lose what is in it. */
  readonly guard?: RangeGuard | undefined
}

/** What watches over a range. Offsets and lengths in bytes. */
export interface RangeGuard {
  /** Whether it can judge what touches the range now; false: it is asked again in a moment. Absent: always. */
  isReady?(): boolean
  touches(offset: number, length: number): boolean
  /** Whether a write is good; it is taken for done then. `bytes`: what is written, or how many zeroes. */
  admits(offset: number, bytes: Buffer | number): boolean
}

/** A WRITE or BLOCK_STATUS that is held back until all of it is there. */
interface Gathered {
  readonly type: number
  readonly head: Buffer
  readonly pieces: Buffer[]
  readonly length: number
  missing: number
}

/** Requests of a session by kind, and payload bytes both ways. */
export interface Counters {
  reads: number
  writes: number
  flushes: number
  /** TRIM, WRITE_ZEROES, CACHE and all others. */
  others: number
  refused: number
  bytesRead: number
  bytesWritten: number
}

/** Counters of a session that begins. */
export function startCounters(): Counters {
  return { reads: 0, writes: 0, flushes: 0, others: 0, refused: 0, bytesRead: 0, bytesWritten: 0 }
}

/** Answers a request that is not passed on: its type, error, and the head with the client's cookie at `at`. */
export type Refuse = (type: number, error: Err, head: Buffer, at: number) => void

/** What the grammar sends on its own. */
export interface Outward {
  readonly refuse: Refuse
  /** Passes on a request that was held back, head and payload. */
  readonly pass: (request: Buffer) => void
  /** Gets to know of each BLOCK_STATUS; undefined: the client may not ask. */
  readonly status?: BlockStatus | undefined
  /** Remembers what has to be sent again. */
  readonly keep?: Keep | undefined
}

export class RequestGrammar implements Grammar {
  payloadBytes = 0
  /** Whether there is somebody to remember payloads. */
  isWatching = false
  readonly replacement = Buffer.alloc(0)
  readonly #rules: RequestRules
  readonly #pending: Pending
  readonly #counters: Counters
  readonly #outward: Outward
  readonly #throttle: Throttle
  readonly #shutdown: { readonly isOn: boolean }
  readonly #keep: Keep | undefined
  #isShut = false
  readonly #allowedFlags: readonly number[]
  /** Flags that the upstream gets to see of commands that change nothing. */
  readonly #passedFlags: number
  /** The size as a number, or -1 when it is too large to be one exactly. */
  readonly #size: number
  /** Bits that no offset and no length may have. */
  readonly #misaligned: number
  readonly #isExtended: boolean
  readonly #headSize: number
  #gathered: Gathered | undefined

  constructor(rules: RequestRules, pending: Pending, counters: Counters, outward: Outward) {
    this.#rules = rules
    this.#throttle = rules.throttle
    this.#shutdown = rules.shutdown ?? { isOn: false }
    this.#pending = pending
    this.#counters = counters
    this.#outward = outward
    this.#keep = outward.keep
    this.#allowedFlags = allowedFlags(rules, outward.status?.isNegotiated === true)
    // proto.md, "NBD_CMD_FLAG_FUA": a client SHOULD NOT set it on what does not write. A READ that is lifted comes back as
    // one chunk, which is all that DF asks for; the upstream does not know the flag.
    this.#passedFlags = ~(CmdFlag.FUA | (rules.structured.upstream ? 0 : CmdFlag.DF))
    this.#misaligned = (rules.alignment ?? 1) - 1
    this.#isExtended = rules.structured.extended === true
    this.#headSize = this.#isExtended ? EXTENDED_REQUEST_SIZE : REQUEST_SIZE
    this.#size = rules.sizeBytes <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(rules.sizeBytes) : -1
  }

  /** From now on every request is answered that this is over. */
  shut(): void {
    this.#isShut = true
  }

  /** What has come of a request that is held back. */
  get gatheredBytes(): number {
    const gathered = this.#gathered
    return gathered === undefined ? 0 : gathered.length - gathered.missing
  }

  headBytes(): number {
    return this.#headSize
  }

  judge(bytes: Buffer, at: number): Verdict {
    if (bytes.readUInt32BE(at + RequestField.MAGIC) !== (this.#isExtended ? Magic.EXTENDED_REQUEST : Magic.REQUEST)) {
      throw new ProtocolError('BAD_MAGIC', 'a request without its magic')
    }
    const type = bytes.readUInt16BE(at + RequestField.TYPE)
    const length = this.#isExtended ? longLength(bytes, at) : bytes.readUInt32BE(at + RequestField.LENGTH)
    const hasPayload = this.#isExtended ? hasPayloadFlag(bytes, at) : type === Cmd.WRITE
    this.payloadBytes = hasPayload ? length : 0
    if (type === Cmd.DISC) return Verdict.STOP
    if (hasPayload && type === Cmd.BLOCK_STATUS) return this.#gatherFilter(length, bytes, at)
    const error = this.#check(type, length, bytes, at)
    if (error === Err.NONE && this.#isGuarded(type, length, bytes, at))
      return this.#judgeGuarded(type, length, bytes, at)
    if (error !== Err.NONE) {
      this.#checkDrained()
      return this.#no(type, error, bytes, at)
    }
    if (!this.#throttle.admits(type, length)) return Verdict.WAIT
    if (this.#keep?.refuses(type, bytes.readUInt16BE(at + RequestField.FLAGS)) === true) {
      return this.#no(type, Err.IO, bytes, at)
    }
    return this.#yes(type, length, bytes, at)
  }

  /** A piece of a WRITE's payload. */
  passes(_chunk: Buffer, from: number): void {
    this.#keep?.passes(from)
  }

  /** The last piece of a WRITE that was held back decides on it. */
  dropped(bytes: Buffer): void {
    const gathered = this.#gathered
    if (gathered === undefined) return
    gathered.pieces.push(Buffer.from(bytes))
    gathered.missing -= bytes.length
    if (gathered.missing > 0) return
    this.#gathered = undefined
    const { head, type } = gathered
    if (type === Cmd.BLOCK_STATUS) {
      this.#judgeFilter(head, Buffer.concat(gathered.pieces))
      return
    }
    const request = Buffer.concat([head, ...gathered.pieces])
    const payload = request.subarray(head.length)
    if (this.#rules.guard?.admits(offsetOf(head, 0), payload) !== true) {
      this.#no(Cmd.WRITE, Err.PERM, head, 0)
      return
    }
    this.#yes(Cmd.WRITE, payload.length, request, 0)
    this.#keep?.isWhole(request)
    this.#outward.pass(request)
  }

  #isGuarded(type: number, length: number, bytes: Buffer, at: number): boolean {
    const { guard } = this.#rules
    return guard !== undefined && isChange(type) && guard.touches(offsetOf(bytes, at), length)
  }

  #judgeGuarded(type: number, length: number, bytes: Buffer, at: number): Verdict {
    if (this.#rules.guard?.isReady?.() === false || !this.#throttle.admits(type, length)) return Verdict.WAIT
    if (type === Cmd.WRITE) {
      this.#keep?.skips()
      this.#gathered = {
        type,
        head: Buffer.from(bytes.subarray(at, at + this.#headSize)),
        pieces: [],
        length,
        missing: length,
      }
      return Verdict.DROP
    }
    const isGood = this.#rules.guard?.admits(offsetOf(bytes, at), length) === true
    return isGood ? this.#yes(type, length, bytes, at) : this.#no(type, Err.PERM, bytes, at)
  }

  /** @throws ProtocolError TOO_LONG: what is refused has a payload that nobody drains */
  #checkDrained(): void {
    const { payloadBytes } = this
    if (payloadBytes > MAX_DRAINED_BYTES) throw new ProtocolError('TOO_LONG', `a payload of ${payloadBytes} bytes`)
  }

  /** BLOCK_STATUS for some of the contexts, which its payload names. */
  #gatherFilter(length: number, bytes: Buffer, at: number): Verdict {
    const { status } = this.#outward
    const hasFilter = (this.#rules.flags & TransmissionFlag.BLOCK_STATUS_PAYLOAD) !== 0
    if (status === undefined || !hasFilter || length > statusFilterSize(status.count) || length === 0) {
      this.#checkDrained()
      return this.#no(Cmd.BLOCK_STATUS, Err.INVAL, bytes, at)
    }
    if (!this.#throttle.admits(Cmd.BLOCK_STATUS, length)) return Verdict.WAIT
    this.#keep?.skips()
    const head = Buffer.from(bytes.subarray(at, at + this.#headSize))
    this.#gathered = { type: Cmd.BLOCK_STATUS, head, pieces: [], length, missing: length }
    return Verdict.DROP
  }

  /** "NBD_CMD_BLOCK_STATUS": unknown and double ids MUST fail with EINVAL; ours become the upstream's. */
  #judgeFilter(head: Buffer, payload: Buffer): void {
    const { status, pass } = this.#outward
    const asked = decodeStatusFilter(payload)
    const theirs = asked && status?.filter(asked)
    const length = asked === undefined ? 0 : Number(asked.lengthBytes)
    const error = theirs === undefined ? Err.INVAL : this.#check(Cmd.BLOCK_STATUS, length, head, 0)
    if (error !== Err.NONE || theirs === undefined) {
      this.#no(Cmd.BLOCK_STATUS, error, head, 0)
      return
    }
    this.#yes(Cmd.BLOCK_STATUS, length, head, 0, asked?.ids)
    pass(Buffer.concat([head, theirs]))
  }

  #no(type: number, error: Err, bytes: Buffer, at: number): Verdict {
    this.#counters.refused++
    this.#keep?.skips()
    this.#outward.refuse(type, error, bytes, at)
    return Verdict.DROP
  }

  #yes(type: number, length: number, bytes: Buffer, at: number, ids?: ReadonlySet<number>): Verdict {
    this.#count(type, length)
    const flags = bytes.readUInt16BE(at + RequestField.FLAGS)
    const passed = flags & (isChange(type) ? ~0 : this.#passedFlags)
    if (passed !== flags) bytes.writeUInt16BE(passed, at + RequestField.FLAGS)
    const expected = type === Cmd.READ ? length : 0
    const slot = this.#pending.add(bytes, at + RequestField.COOKIE, at + RequestField.OFFSET, type, length, expected)
    if (type === Cmd.BLOCK_STATUS) this.#outward.status?.ask(slot, length, (flags & CmdFlag.REQ_ONE) !== 0, ids)
    if (this.#keep !== undefined) {
      this.#pending.setFlags(slot, passed)
      this.#keep.asked(slot, type)
      this.isWatching = type === Cmd.WRITE
    }
    return Verdict.KEEP
  }

  #check(type: number, length: number, bytes: Buffer, at: number): Err {
    // proto.md, "Error values": the server is in the process of being shut down.
    if (this.#shutdown.isOn || this.#isShut) return Err.SHUTDOWN
    const changes = type === Cmd.WRITE || type === Cmd.TRIM || type === Cmd.WRITE_ZEROES
    // proto.md, "NBD_FLAG_READ_ONLY": the server MUST error all write operations with EPERM.
    if (changes && (this.#rules.flags & TransmissionFlag.READ_ONLY) !== 0) return Err.PERM
    const allowed = this.#allowedFlags[type]
    if (allowed === undefined || (bytes.readUInt16BE(at + RequestField.FLAGS) & ~allowed) !== 0) return Err.INVAL
    const high = bytes.readUInt32BE(at + RequestField.OFFSET)
    const low = bytes.readUInt32BE(at + RequestField.OFFSET + 4)
    if (type === Cmd.FLUSH) return high === 0 && low === 0 && length === 0 ? Err.NONE : Err.INVAL
    if ((type === Cmd.READ || type === Cmd.WRITE) && length > MAX_PAYLOAD_BYTES) return Err.INVAL
    // "NBD_CMD_FLAG_PAYLOAD_LEN": MUST be set for WRITE.
    if (type === Cmd.WRITE && this.payloadBytes !== length) return Err.INVAL
    // "Size constraints": MAY reply with EOVERFLOW to what has no payload.
    if (length > Number.MAX_SAFE_INTEGER) return Err.OVERFLOW
    // proto.md leaves requests of no length unspecified; servers differ, so that is decided here.
    if (length === 0) return Err.INVAL
    // proto.md, "Size constraints": SHOULD report EINVAL for what is not aligned to the minimum block size.
    if (((low | length) & this.#misaligned) !== 0) return Err.INVAL
    if (this.#isBeyond(high, low, length)) return changes && type !== Cmd.TRIM ? Err.NOSPC : Err.INVAL
    return Err.NONE
  }

  /** Whether a range ends behind the export. Sums of an offset below 2^53 and a u32 are exact enough to compare. */
  #isBeyond(high: number, low: number, length: number): boolean {
    if (this.#size >= 0) return high >= 0x20_0000 || high * 2 ** 32 + low + length > this.#size
    return ((BigInt(high) << 32n) | BigInt(low)) + BigInt(length) > this.#rules.sizeBytes
  }

  #count(type: number, length: number): void {
    if (type === Cmd.READ) {
      this.#counters.reads++
      this.#counters.bytesRead += length
    } else if (type === Cmd.WRITE) {
      this.#counters.writes++
      this.#counters.bytesWritten += length
    } else if (type === Cmd.FLUSH) this.#counters.flushes++
    else this.#counters.others++
  }
}

/** The length of an extended request; above 2^53 not exactly, which no export has. */
function longLength(bytes: Buffer, at: number): number {
  const high = bytes.readUInt32BE(at + ExtendedField.LENGTH)
  return high * 2 ** 32 + bytes.readUInt32BE(at + ExtendedField.LENGTH + 4)
}

function hasPayloadFlag(bytes: Buffer, at: number): boolean {
  return (bytes.readUInt16BE(at + RequestField.FLAGS) & CmdFlag.PAYLOAD_LEN) !== 0
}

/** Where a request points; beyond 2^53 not exactly, which is far behind everything that is guarded. */
function offsetOf(bytes: Buffer, at: number): number {
  const high = bytes.readUInt32BE(at + RequestField.OFFSET)
  return high * 2 ** 32 + bytes.readUInt32BE(at + RequestField.OFFSET + 4)
}

/** The command flags that each command may carry, by its number; a command without an entry is not to be used. */
function allowedFlags(rules: RequestRules, hasContexts: boolean): readonly number[] {
  const has = (flag: number): boolean => (rules.flags & flag) !== 0
  // proto.md, "NBD_CMD_FLAG_FUA": valid on all commands once SEND_FUA was set; clients do set it on READ.
  const fua = has(TransmissionFlag.SEND_FUA) ? CmdFlag.FUA : 0
  const table: number[] = []
  table[Cmd.READ] = fua | (rules.structured.client && has(TransmissionFlag.SEND_DF) ? CmdFlag.DF : 0)
  table[Cmd.WRITE] = fua | (rules.structured.extended === true ? CmdFlag.PAYLOAD_LEN : 0)
  if (has(TransmissionFlag.SEND_FLUSH)) table[Cmd.FLUSH] = fua
  if (has(TransmissionFlag.SEND_TRIM)) table[Cmd.TRIM] = fua
  if (has(TransmissionFlag.SEND_CACHE)) table[Cmd.CACHE] = fua
  if (has(TransmissionFlag.SEND_WRITE_ZEROES)) {
    const fast = has(TransmissionFlag.SEND_FAST_ZERO) ? CmdFlag.FAST_ZERO : 0
    table[Cmd.WRITE_ZEROES] = fua | CmdFlag.NO_HOLE | fast
  }
  // proto.md, "Metadata querying": SHOULD reply with EINVAL where no context was selected.
  if (hasContexts) {
    const hasFilter = rules.structured.extended === true && has(TransmissionFlag.BLOCK_STATUS_PAYLOAD)
    const filter = hasFilter ? CmdFlag.PAYLOAD_LEN : 0
    table[Cmd.BLOCK_STATUS] = fua | CmdFlag.REQ_ONE | filter
  }
  return table
}
