import { Cmd } from '../protocol/constants.ts'
import { REQUEST_SIZE, RequestField } from '../protocol/request.ts'
import { type Grammar, Verdict } from './framer.ts'
import { nextPart, type Parts, type Whole, wholeAt, writeNumber } from './parts.ts'

/**
 * Requests on their way to an upstream that takes no more than `partBytes` in one. A WRITE that is longer passes with more
 * heads between its payload; a READ is put into `reads`, for it costs memory; all others pass under another cookie.
 */
export class PartingGrammar implements Grammar {
  payloadBytes = 0
  replacement: Buffer = Buffer.alloc(0)
  readonly #parts: Parts
  readonly #partBytes: number
  readonly #reads: Whole[]
  /** The WRITE whose payload is passing and of which there are more parts. */
  #writing: Whole | undefined

  constructor(parts: Parts, partBytes: number, reads: Whole[]) {
    this.#parts = parts
    this.#partBytes = partBytes
    this.#reads = reads
  }

  /** None in front of the next part of a payload: we write it. */
  headBytes(): number {
    return this.#writing === undefined ? REQUEST_SIZE : 0
  }

  judge(bytes: Buffer, at: number): Verdict {
    if (this.#writing !== undefined) return this.#part(this.#writing)
    const type = bytes.readUInt16BE(at + RequestField.TYPE)
    this.payloadBytes = 0
    if (type === Cmd.DISC) return Verdict.KEEP
    const whole = wholeAt(bytes, at, this.#partBytes, type === Cmd.READ || type === Cmd.WRITE)
    if (!whole.isSplit) {
      if (type === Cmd.WRITE) this.payloadBytes = whole.length
      const number = this.#parts.add({ whole, from: 0, length: whole.length })
      writeNumber(number, bytes, at + RequestField.COOKIE)
      return Verdict.KEEP
    }
    if (type === Cmd.WRITE) return this.#part(whole)
    this.#reads.push(whole)
    return Verdict.DROP
  }

  #part(whole: Whole): Verdict {
    const { head, part } = nextPart(this.#parts, whole, this.#partBytes)
    this.payloadBytes = part.length
    this.replacement = head
    this.#writing = whole.sent < whole.length ? whole : undefined
    return Verdict.SWAP
  }
}
