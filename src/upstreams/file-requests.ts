import { Cmd, MAX_DRAINED_BYTES, MAX_PAYLOAD_BYTES } from '../protocol/constants.ts'
import { ProtocolError } from '../protocol/errors.ts'
import { decodeRequest, REQUEST_SIZE, type Request } from '../protocol/request.ts'

/** A request with all that belongs to it. */
export interface WholeRequest extends Request {
  /** Of a WRITE: its payload. Absent for every other command, and for a WRITE that is too long (it was dropped). */
  readonly payload: Buffer | undefined
}

/**
 * Cuts a stream of chunks into requests, one at a time and only when asked, so that whoever carries them out can stop in
 * the middle of a chunk. Payloads are copied: a chunk may be reused as soon as it is exhausted.
 */
export class FileRequests {
  #chunk: Buffer = Buffer.alloc(0)
  #at = 0
  readonly #head = Buffer.alloc(REQUEST_SIZE)
  #headLength = 0
  /** The WRITE whose payload is on its way. */
  #request: Request | undefined
  #payload: Buffer | undefined
  #payloadLength = 0

  /** Whether what came so far ends with a whole request. */
  get atBoundary(): boolean {
    return this.#headLength === 0 && this.#request === undefined && this.#at === this.#chunk.length
  }

  /** Gives the next chunk; the one before must be exhausted: next() answered undefined. */
  feed(chunk: Buffer): void {
    this.#chunk = chunk
    this.#at = 0
  }

  /**
   * The next whole request, or undefined when the chunk is exhausted.
   * @throws ProtocolError BAD_MAGIC, TOO_LONG; the stream can not be read any further
   */
  next(): WholeRequest | undefined {
    const request = this.#request ?? this.#nextHead()
    if (request === undefined) return undefined
    if (request.type !== Cmd.WRITE) return { ...request, payload: undefined }
    this.#request = request
    if (!this.#fillPayload(request.length)) return undefined
    const payload = this.#payload
    this.#request = undefined
    this.#payload = undefined
    this.#payloadLength = 0
    return { ...request, payload }
  }

  #nextHead(): Request | undefined {
    const end = Math.min(this.#at + REQUEST_SIZE - this.#headLength, this.#chunk.length)
    this.#headLength += this.#chunk.copy(this.#head, this.#headLength, this.#at, end)
    this.#at = end
    if (this.#headLength < REQUEST_SIZE) return undefined
    this.#headLength = 0
    const request = decodeRequest(this.#head)
    if (request.type === Cmd.WRITE) {
      if (request.length > MAX_DRAINED_BYTES) throw new ProtocolError('TOO_LONG', `a WRITE of ${request.length} bytes`)
      if (request.length <= MAX_PAYLOAD_BYTES) this.#payload = Buffer.allocUnsafe(request.length)
    }
    return request
  }

  /** Copies (or drops) what the chunk has of the payload; whether it is all there now. */
  #fillPayload(length: number): boolean {
    const end = Math.min(this.#at + length - this.#payloadLength, this.#chunk.length)
    this.#payload?.set(this.#chunk.subarray(this.#at, end), this.#payloadLength)
    this.#payloadLength += end - this.#at
    this.#at = end
    return this.#payloadLength === length
  }
}
