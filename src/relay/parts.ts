import { Magic } from '../protocol/constants.ts'
import { REQUEST_SIZE, RequestField } from '../protocol/request.ts'

/** A request as it was made, whether it goes out whole or in parts. */
export interface Whole {
  readonly type: number
  readonly flags: number
  readonly cookie: bigint
  readonly offset: bigint
  readonly length: number
  readonly isSplit: boolean
  /** How much of it has gone out, and of how much the answer has not come, in bytes. */
  sent: number
  left: number
  /** The first error that one of its parts has met with; 0: none. */
  error: number
  /** Where the data of a READ are put together that is to be answered by one message. */
  data: Buffer | undefined
}

/** What the upstream has been asked for: a whole request, or one part of it. */
export interface Part {
  readonly whole: Whole
  readonly from: number
  readonly length: number
}

/** Requests that are out, each under a number of our own in place of its cookie. */
export class Parts {
  readonly #parts = new Map<number, Part>()
  #last = 0

  /** A part goes out: its number. */
  add(part: Part): number {
    this.#parts.set(++this.#last, part)
    return this.#last
  }

  /** The number of the part that the cookie at `at` names; undefined: there is none. */
  find(bytes: Buffer, at: number): Part | undefined {
    return this.#parts.get(numberAt(bytes, at))
  }

  /** The last reply has come to what the cookie at `at` names. */
  remove(bytes: Buffer, at: number): void {
    this.#parts.delete(numberAt(bytes, at))
  }
}

/** Writes a number in place of a cookie. */
export function writeNumber(number: number, bytes: Buffer, at: number): void {
  bytes.writeUInt32BE(Math.floor(number / 2 ** 32), at)
  bytes.writeUInt32BE(number >>> 0, at + 4)
}

/** The number that stands in place of a cookie at `at`. */
export function numberAt(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4)
}

/** The request whose head stands at `at`. */
export function wholeAt(bytes: Buffer, at: number, partBytes: number, canSplit: boolean): Whole {
  const length = bytes.readUInt32BE(at + RequestField.LENGTH)
  return {
    type: bytes.readUInt16BE(at + RequestField.TYPE),
    flags: bytes.readUInt16BE(at + RequestField.FLAGS),
    cookie: bytes.readBigUInt64BE(at + RequestField.COOKIE),
    offset: bytes.readBigUInt64BE(at + RequestField.OFFSET),
    length,
    isSplit: canSplit && length > partBytes,
    sent: 0,
    left: length,
    error: 0,
    data: undefined,
  }
}

/** The next part of a request goes out: its head. */
export function nextPart(
  parts: Parts,
  whole: Whole,
  partBytes: number,
): { readonly head: Buffer; readonly part: Part } {
  const from = whole.sent
  const part = { whole, from, length: Math.min(partBytes, whole.length - from) }
  whole.sent += part.length
  const head = Buffer.alloc(REQUEST_SIZE)
  head.writeUInt32BE(Magic.REQUEST, RequestField.MAGIC)
  head.writeUInt16BE(whole.flags, RequestField.FLAGS)
  head.writeUInt16BE(whole.type, RequestField.TYPE)
  writeNumber(parts.add(part), head, RequestField.COOKIE)
  head.writeBigUInt64BE(whole.offset + BigInt(from), RequestField.OFFSET)
  head.writeUInt32BE(part.length, RequestField.LENGTH)
  return { head, part }
}
