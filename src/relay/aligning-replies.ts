import { Cmd, Magic, REPLY_TYPE_IS_ERROR, ReplyFlag, ReplyType } from '../protocol/constants.ts'
import { ProtocolError } from '../protocol/errors.ts'
import { SimpleReplyField } from '../protocol/simple-reply.ts'
import { CHUNK_SIZE, ChunkField } from '../protocol/structured-reply.ts'
import { type Aligning, place, type Question } from './aligning.ts'
import { isStatusLength } from './block-status.ts'
import { type Grammar, Verdict } from './framer.ts'
import { payloadHead } from './joining.ts'
import { numberAt } from './parts.ts'
import { replyHeadBytes } from './reply-head.ts'

/** What opens a status chunk, and an extent. */
const STATUS_HEAD = 4
const EXTENT_SIZE = 8

/**
 * Replies on their way back from where requests were made whole blocks. What answers a request as it was made passes, to be
 * judged by the relay; what was asked on our own behalf is judged here.
 */
export class AligningReplies implements Grammar {
  payloadBytes = 0
  replacement: Buffer = Buffer.alloc(0)
  readonly #aligning: Aligning
  readonly #structured: boolean
  /** Where the payload goes that is passing, and what is over with it: a number, or 0. */
  #filling: { readonly question: Question; at: number; left: number; readonly over: number } | undefined

  constructor(aligning: Aligning, structured: boolean) {
    this.#aligning = aligning
    this.#structured = structured
  }

  headBytes(bytes: Buffer, at: number, available: number): number {
    const size = replyHeadBytes(bytes, at, available, this.#structured)
    if (size !== CHUNK_SIZE || available < CHUNK_SIZE) return size
    const question = this.#aligning.find(numberAt(bytes, at + ChunkField.COOKIE))
    const type = bytes.readUInt16BE(at + ChunkField.TYPE)
    const length = bytes.readUInt32BE(at + ChunkField.LENGTH)
    if (question === undefined || question.kind === 'whole') return CHUNK_SIZE
    const isStatus = question.kind === 'status' && type === ReplyType.BLOCK_STATUS && isStatusLength(length)
    return CHUNK_SIZE + (isStatus ? length : payloadHead(type, length))
  }

  judge(bytes: Buffer, at: number): Verdict {
    const number = numberAt(bytes, at + SimpleReplyField.COOKIE)
    const question = this.#aligning.find(number)
    if (question === undefined) throw new ProtocolError('UNKNOWN_COOKIE', 'a reply to no request')
    const isSimple = bytes.readUInt32BE(at) === Magic.SIMPLE_REPLY
    const isLast = isSimple || (bytes.readUInt16BE(at + ChunkField.FLAGS) & ReplyFlag.DONE) !== 0
    const over = isLast ? number : 0
    if (question.kind === 'whole') return this.#pass(question, isSimple, over, bytes, at)
    return isSimple ? this.#simple(question, over, bytes, at) : this.#chunk(question, over, bytes, at)
  }

  /** The payload of what does not pass. */
  dropped(bytes: Buffer): void {
    const filling = this.#filling
    if (filling === undefined) return
    place(filling.question, bytes, filling.at)
    filling.at += bytes.length
    filling.left -= bytes.length
    if (filling.left > 0) return
    this.#filling = undefined
    this.#ended(filling.question, filling.over)
  }

  #pass({ job }: Question, isSimple: boolean, over: number, bytes: Buffer, at: number): Verdict {
    bytes.writeBigUInt64BE(job.cookie, at + SimpleReplyField.COOKIE)
    const hasData = job.type === Cmd.READ && !this.#structured && bytes.readUInt32BE(at + SimpleReplyField.ERROR) === 0
    this.payloadBytes = isSimple ? (hasData ? job.length : 0) : bytes.readUInt32BE(at + ChunkField.LENGTH)
    if (over !== 0) this.#aligning.answered(over)
    return Verdict.KEEP
  }

  #simple(question: Question, over: number, bytes: Buffer, at: number): Verdict {
    const { kind, job, length } = question
    // proto.md, "Structured reply chunk message": READ MUST be answered by chunks once they are negotiated.
    if ((kind === 'data' && this.#structured) || kind === 'status') {
      throw new ProtocolError('BAD_REPLY', 'a simple reply where there has to be a chunk')
    }
    const error = bytes.readUInt32BE(at + SimpleReplyField.ERROR)
    if (job.error === 0) job.error = error
    this.payloadBytes = kind === 'data' && error === 0 ? length : 0
    if (this.payloadBytes > 0) this.#fill(question, 0, over)
    else this.#ended(question, over)
    return Verdict.DROP
  }

  #chunk(question: Question, over: number, bytes: Buffer, at: number): Verdict {
    const { kind, job } = question
    const type = bytes.readUInt16BE(at + ChunkField.TYPE)
    const length = bytes.readUInt32BE(at + ChunkField.LENGTH)
    if (kind === 'status' && type === ReplyType.BLOCK_STATUS) return this.#status(question, over, bytes, at)
    this.payloadBytes = length - payloadHead(type, length)
    const isData = kind === 'data' && (type === ReplyType.OFFSET_DATA || type === ReplyType.OFFSET_HOLE)
    if ((type & REPLY_TYPE_IS_ERROR) !== 0) {
      const error = bytes.readUInt32BE(at + ChunkField.PAYLOAD)
      if (error === 0) throw new ProtocolError('BAD_REPLY', 'an error chunk without an error')
      if (job.error === 0) job.error = error
    } else if (isData) {
      this.#data(question, over, bytes, at)
      return Verdict.DROP
    } else if (type !== ReplyType.NONE || length !== 0 || over === 0) {
      throw new ProtocolError('BAD_REPLY', `chunk type ${type} in answer to command ${job.type}`)
    } else if (kind === 'status' && job.error === 0) {
      // All that was asked for has passed.
      bytes.writeBigUInt64BE(job.cookie, at + ChunkField.COOKIE)
      this.#aligning.answered(over)
      return Verdict.KEEP
    }
    this.#ended(question, over)
    return Verdict.DROP
  }

  #data(question: Question, over: number, bytes: Buffer, at: number): void {
    const isHole = bytes.readUInt16BE(at + ChunkField.TYPE) === ReplyType.OFFSET_HOLE
    const size = isHole ? bytes.readUInt32BE(at + ChunkField.PAYLOAD + 8) : this.payloadBytes
    const from = Number(bytes.readBigUInt64BE(at + ChunkField.PAYLOAD)) - question.from
    question.got += size
    if (size === 0 || from < 0 || from + size > question.length || question.got > question.length) {
      throw new ProtocolError('BAD_REPLY', 'a chunk outside its request')
    }
    if (!isHole) this.#fill(question, from, over, size)
    else {
      place(question, Buffer.alloc(size), from)
      this.#ended(question, over)
    }
  }

  /** Status of whole blocks: the first extent is cut to where the request began, and with REQ_ONE to where it ended. */
  #status({ job, from }: Question, over: number, bytes: Buffer, at: number): Verdict {
    const payload = at + ChunkField.PAYLOAD
    const isOne = bytes.readUInt32BE(at + ChunkField.LENGTH) === STATUS_HEAD + EXTENT_SIZE
    const extent = bytes.readUInt32BE(payload + STATUS_HEAD)
    const length = extent - (job.offset - from)
    if (length <= 0) throw new ProtocolError('BAD_REPLY', 'an extent that is no whole block')
    bytes.writeUInt32BE(isOne ? Math.min(length, job.length) : length, payload + STATUS_HEAD)
    bytes.writeBigUInt64BE(job.cookie, at + ChunkField.COOKIE)
    this.payloadBytes = 0
    if (over !== 0) this.#aligning.answered(over)
    return Verdict.KEEP
  }

  #fill(question: Question, at: number, over: number, left = question.length): void {
    this.#filling = { question, at, left, over }
    if (!this.#structured) question.got = question.length
  }

  /** A part of an answer has come; `over`: the number that it was the last of, or 0. */
  #ended(question: Question, over: number): void {
    if (over === 0) return
    const { kind, job, got, length } = question
    if (kind === 'data' && job.error === 0 && got < length) {
      throw new ProtocolError('BAD_REPLY', 'a READ that ended short')
    }
    if (kind === 'status') this.#aligning.failed(over)
    else this.#aligning.answered(over)
  }
}
