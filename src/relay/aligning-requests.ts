import { Cmd } from '../protocol/constants.ts'
import { REQUEST_SIZE, RequestField } from '../protocol/request.ts'
import type { Aligning, Asked } from './aligning.ts'
import { type Grammar, Verdict } from './framer.ts'
import { writeNumber } from './parts.ts'

/** Requests on their way to be made whole blocks: those that are pass, under another cookie; all others are held back. */
export class AligningRequests implements Grammar {
  payloadBytes = 0
  readonly replacement = Buffer.alloc(0)
  readonly #aligning: Aligning
  /** The WRITE whose payload is on its way here. */
  #writing: { readonly asked: Asked; readonly pieces: Buffer[]; missing: number } | undefined

  constructor(aligning: Aligning) {
    this.#aligning = aligning
  }

  headBytes(): number {
    return REQUEST_SIZE
  }

  judge(bytes: Buffer, at: number): Verdict {
    const type = bytes.readUInt16BE(at + RequestField.TYPE)
    this.payloadBytes = 0
    if (type === Cmd.DISC) {
      this.#aligning.close()
      return Verdict.KEEP
    }
    const length = bytes.readUInt32BE(at + RequestField.LENGTH)
    if (type === Cmd.WRITE) this.payloadBytes = length
    const asked = {
      type,
      flags: bytes.readUInt16BE(at + RequestField.FLAGS),
      cookie: bytes.readBigUInt64BE(at + RequestField.COOKIE),
      offset: Number(bytes.readBigUInt64BE(at + RequestField.OFFSET)),
      length,
    }
    const number = this.#aligning.passes(asked)
    if (number !== undefined) {
      writeNumber(number, bytes, at + RequestField.COOKIE)
      return Verdict.KEEP
    }
    if (type === Cmd.WRITE) this.#writing = { asked, pieces: [], missing: length }
    else this.#aligning.take(asked)
    return Verdict.DROP
  }

  dropped(bytes: Buffer): void {
    const writing = this.#writing
    if (writing === undefined) return
    writing.pieces.push(Buffer.from(bytes))
    writing.missing -= bytes.length
    if (writing.missing > 0) return
    this.#writing = undefined
    this.#aligning.take({ ...writing.asked, payload: writing.pieces })
  }
}
