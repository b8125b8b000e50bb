import { Err, Magic, REPLY_TYPE_IS_ERROR, ReplyFlag, ReplyType } from '../protocol/constants.ts'
import { encodeExtendedChunk, extendStatus } from '../protocol/extended.ts'
import { SIMPLE_REPLY_SIZE, SimpleReplyField } from '../protocol/simple-reply.ts'
import { CHUNK_SIZE, ChunkField } from '../protocol/structured-reply.ts'
import type { Extended } from './extended-requests.ts'
import { type Grammar, Verdict } from './framer.ts'

const ERROR_BYTES = 6

/**
 * What a relay answers, simple replies and chunks, made extended ones: with the offset of the request, status in 64 bits, and
 * one answer where a request went on in parts. The relay has judged all of it.
 */
export class ExtendedReplies implements Grammar {
  payloadBytes = 0
  replacement: Buffer = Buffer.alloc(0)
  readonly #out: Map<bigint, Extended>

  constructor(out: Map<bigint, Extended>) {
    this.#out = out
  }

  headBytes(bytes: Buffer, at: number, available: number): number {
    if (available < 4) return 4
    if (bytes.readUInt32BE(at) === Magic.SIMPLE_REPLY) return SIMPLE_REPLY_SIZE
    if (available < CHUNK_SIZE) return CHUNK_SIZE
    const type = bytes.readUInt16BE(at + ChunkField.TYPE)
    const isWhole = type === ReplyType.BLOCK_STATUS || (type & REPLY_TYPE_IS_ERROR) !== 0
    return CHUNK_SIZE + (isWhole ? bytes.readUInt32BE(at + ChunkField.LENGTH) : 0)
  }

  judge(bytes: Buffer, at: number): Verdict {
    const number = bytes.readBigUInt64BE(at + SimpleReplyField.COOKIE)
    const request = this.#out.get(number)
    if (request === undefined) throw new TypeError('a reply to no extended request')
    this.payloadBytes = 0
    const isSimple = bytes.readUInt32BE(at) === Magic.SIMPLE_REPLY
    const flags = isSimple ? ReplyFlag.DONE : bytes.readUInt16BE(at + ChunkField.FLAGS)
    const isDone = (flags & ReplyFlag.DONE) !== 0
    if (isDone && --request.left === 0) this.#out.delete(number)
    if (!isSimple && !request.isSplit) return this.#chunk(request, flags, bytes, at)
    const type = isSimple ? ReplyType.NONE : bytes.readUInt16BE(at + ChunkField.TYPE)
    const isError = (type & REPLY_TYPE_IS_ERROR) !== 0
    const error = isSimple
      ? bytes.readUInt32BE(at + SimpleReplyField.ERROR)
      : isError
        ? bytes.readUInt32BE(at + ChunkField.PAYLOAD)
        : Err.NONE
    if (request.error === 0) request.error = error
    if (request.left > 0 || !isDone) return Verdict.DROP
    this.replacement = encodeLast(request, request.error)
    return Verdict.SWAP
  }

  #chunk(request: Extended, flags: number, bytes: Buffer, at: number): Verdict {
    const { cookie, offset, ids } = request
    const type = bytes.readUInt16BE(at + ChunkField.TYPE)
    const length = bytes.readUInt32BE(at + ChunkField.LENGTH)
    const payload = at + ChunkField.PAYLOAD
    if (type === ReplyType.BLOCK_STATUS && ids?.has(bytes.readUInt32BE(payload)) === false) {
      this.replacement = encodeLast(request, Err.NONE)
      return (flags & ReplyFlag.DONE) !== 0 ? Verdict.SWAP : Verdict.DROP
    }
    if (type === ReplyType.BLOCK_STATUS) {
      const status = extendStatus(bytes.subarray(payload, payload + length))
      const head = { flags, type: ReplyType.BLOCK_STATUS_EXT, cookie, offset, lengthBytes: status.length }
      this.replacement = Buffer.concat([encodeExtendedChunk(head), status])
      return Verdict.SWAP
    }
    const head = encodeExtendedChunk({ flags, type, cookie, offset, lengthBytes: length })
    const isError = (type & REPLY_TYPE_IS_ERROR) !== 0
    this.replacement = isError ? Buffer.concat([head, bytes.subarray(payload, payload + length)]) : head
    if (!isError) this.payloadBytes = length
    return Verdict.SWAP
  }
}

/** The only chunk of an answer without data. */
function encodeLast({ cookie, offset }: Extended, error: number): Buffer {
  const flags = ReplyFlag.DONE
  if (error === 0) return encodeExtendedChunk({ flags, type: ReplyType.NONE, cookie, offset, lengthBytes: 0 })
  const payload = Buffer.alloc(ERROR_BYTES)
  payload.writeUInt32BE(error)
  const head = { flags, type: ReplyType.ERROR, cookie, offset, lengthBytes: ERROR_BYTES }
  return Buffer.concat([encodeExtendedChunk(head), payload])
}
