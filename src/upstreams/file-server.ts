/**
 * The server half of the transmission phase for one file: requests in, replies out, as many at once as bounds on
 * memory allow, answered in the order in which they are done. It trusts nobody: what the relay refuses is refused here
 * again. Not here: what a command does to the file (FileOperations), and how requests are cut out of the stream
 * (FileRequests).
 */
import { close } from 'node:fs'
import { Duplex } from 'node:stream'
import { promisify } from 'node:util'
import { Cmd, CmdFlag, Err, Magic } from '../protocol/constants.ts'
import { ProtocolError } from '../protocol/errors.ts'
import type { ExportFacts } from '../protocol/info.ts'
import { SIMPLE_REPLY_SIZE, SimpleReplyField } from '../protocol/simple-reply.ts'
import { encodeErrorChunk } from '../protocol/structured-reply.ts'
import { Memory, Share } from '../stream/memory.ts'
import { type Extent, FileExtents } from './file-extents.ts'
import { type Done, FileOperations } from './file-operations.ts'
import { makeReadReply } from './file-replies.ts'
import { FileRequests, type WholeRequest } from './file-requests.ts'
import { checkRequest } from './file-rules.ts'

/** READs from this length on are looked at for holes: what is shorter is read sooner than that is known. */
const LOOK_BYTES = 64 * 1024

/** An open file or block device. Its size is at most Number.MAX_SAFE_INTEGER; its flags say what is carried out. */
export interface OpenFile extends ExportFacts {
  readonly fd: number
  readonly isBlockDevice: boolean
  /** It has room for more than it takes. */
  readonly isSparse: boolean
  /** READs are answered by structured replies. */
  readonly structured: boolean
}

/** Payload of READs and WRITEs that are being carried out: no request begins above this. nbdcopy keeps 16 MiB. */
const MAX_BYTES_IN_FLIGHT = 16 * 1024 * 1024

/** Requests that are being carried out: those without payload need a bound too. */
const MAX_REQUESTS_IN_FLIGHT = 256

/** Replies that nobody reads: no request begins above this. */
const MAX_UNREAD_BYTES = 1024 * 1024

const closeDescriptor = promisify(close)

/**
 * A stream that answers NBD requests from `file`. It owns the descriptor: closes it once, when the stream is destroyed,
 * ended, or told DISC, after all operations have answered; 'close' comes after that. Malformed requests destroy it with
 * a ProtocolError. Payload takes `memory`: no request begins when there is no room.
 */
export function serveFile(file: OpenFile, memory: Share = new Share(new Memory(), MAX_BYTES_IN_FLIGHT)): Duplex {
  return new FileServer(file, memory).stream
}

class FileServer {
  readonly stream: Duplex
  readonly #file: OpenFile
  readonly #operations: FileOperations
  readonly #extents: FileExtents
  readonly #requests = new FileRequests()
  /** Says that the chunk is used up; there while it is not. */
  #chunkDone: ((error?: Error | null) => void) | undefined
  #stopped = false
  /** Nobody reads the replies for now. */
  #unread = false
  #bytesInFlight = 0
  #requestsInFlight = 0
  readonly #memory: Share
  #heldBytes = 0
  #closed: Promise<void> | undefined
  #onIdle: (() => void) | undefined

  constructor(file: OpenFile, memory: Share) {
    this.#file = file
    this.#memory = memory
    this.#operations = new FileOperations(file.fd, file.isBlockDevice)
    this.#extents = new FileExtents(file.fd, file.isSparse)
    this.stream = new Duplex({
      allowHalfOpen: false,
      readableHighWaterMark: MAX_UNREAD_BYTES,
      read: () => {
        this.#unread = false
        this.#weigh()
        this.#advance()
      },
      write: (chunk: Buffer, _encoding, done) => {
        this.#requests.feed(chunk)
        this.#chunkDone = done
        this.#advance()
      },
      final: done => {
        if (this.#stopped || this.#requests.atBoundary) this.#end(done)
        else done(new ProtocolError('TRUNCATED', 'the stream ended in the middle of a request'))
      },
      destroy: (error, done) => this.#destroy(error, done),
    })
  }

  /** Begins requests while there is room for them; the chunk is given back when the last one in it has begun. */
  #advance(): void {
    if (this.#chunkDone === undefined || !this.#beginRequests()) return
    // Gone when a malformed request has destroyed the stream.
    const done: ((error?: Error | null) => void) | undefined = this.#chunkDone
    this.#chunkDone = undefined
    done?.()
  }

  /** Whether the chunk holds nothing more that could begin. */
  #beginRequests(): boolean {
    while (!this.#stopped) {
      if (this.#isFull()) return false
      const request = this.#nextRequest()
      if (request === undefined) return true
      this.#begin(request)
    }
    return true
  }

  #nextRequest(): WholeRequest | undefined {
    try {
      return this.#requests.next()
    } catch (error) {
      this.stream.destroy(error instanceof Error ? error : undefined)
      return undefined
    }
  }

  #isFull(): boolean {
    if (this.#unread || this.#requestsInFlight >= MAX_REQUESTS_IN_FLIGHT) return true
    return this.#bytesInFlight >= MAX_BYTES_IN_FLIGHT || this.#bytesInFlight >= this.#memory.mostBytes
  }

  /** Says how much is held. */
  #weigh(): void {
    const bytes = this.stream.destroyed ? 0 : this.#bytesInFlight + this.stream.readableLength
    this.#memory.add(bytes - this.#heldBytes)
    this.#heldBytes = bytes
  }

  #begin(request: WholeRequest): void {
    if (request.type === Cmd.DISC) {
      // proto.md, "NBD_CMD_DISC": no reply; handle all outstanding requests, then close. What follows is dropped.
      this.#end(error => {
        if (error) this.stream.destroy(error)
      })
      return
    }
    this.#requestsInFlight++
    this.#bytesInFlight += payloadBytes(request)
    this.#weigh()
    const refusal = checkRequest(request, this.#file)
    if (request.type === Cmd.READ && refusal === Err.NONE && this.#file.structured) {
      this.#readChunks(request)
      return
    }
    const dataBytes = request.type === Cmd.READ && refusal === Err.NONE ? request.length : 0
    const reply = Buffer.allocUnsafe(SIMPLE_REPLY_SIZE + dataBytes)
    if (refusal === Err.NONE) this.#carryOut(request, reply, error => this.#finish(request, error, reply))
    // Not at once: nobody expects an answer while he is still in write().
    else process.nextTick(() => this.#finish(request, refusal, reply))
  }

  #carryOut(request: WholeRequest, reply: Buffer, done: Done): void {
    const { flags, length } = request
    const offset = Number(request.offset)
    // proto.md, "NBD_CMD_FLAG_FUA": the reply MUST NOT be sent before the data are on stable storage.
    const changed = (flags & CmdFlag.FUA) === 0 ? done : this.#flushedFirst(done)
    if (request.type === Cmd.READ) this.#operations.read(reply, SIMPLE_REPLY_SIZE, offset, done)
    else if (request.payload !== undefined) this.#operations.write(request.payload, offset, changed)
    else if (request.type === Cmd.FLUSH) this.#operations.flush(done)
    else if (request.type === Cmd.TRIM) this.#answerLater(this.#operations.trim(offset, length), changed)
    else {
      const options = { noHole: (flags & CmdFlag.NO_HOLE) !== 0, fast: (flags & CmdFlag.FAST_ZERO) !== 0 }
      this.#answerLater(this.#operations.zero(offset, length, options), changed)
    }
  }

  /** A READ that is answered by chunks: one for each stretch of data, and for each hole. */
  #readChunks(request: WholeRequest): void {
    const { length, flags } = request
    const offset = Number(request.offset)
    const isOne = length < LOOK_BYTES || (flags & CmdFlag.DF) !== 0
    if (isOne || this.#extents.isData(offset, length)) {
      this.#readExtents(request, [{ offset, length, isHole: false }])
      return
    }
    this.#extents
      .look(offset, length)
      .then(extents => this.#readExtents(request, extents))
      .catch(bug => this.stream.destroy(bug))
  }

  #readExtents(request: WholeRequest, extents: readonly Extent[]): void {
    const { bytes, data } = makeReadReply(request.cookie, extents)
    let left = data.length
    let failure: Err = Err.NONE
    if (left === 0) this.#finish(request, Err.NONE, bytes)
    for (const { at, end, offset } of data) {
      this.#operations.read(bytes.subarray(0, end), at, offset, error => {
        if (error !== Err.NONE) failure = error
        if (--left === 0) this.#finish(request, failure, bytes)
      })
    }
  }

  #flushedFirst(done: Done): Done {
    return error => (error === Err.NONE ? this.#operations.flush(done) : done(error))
  }

  #answerLater(outcome: Promise<Err>, done: Done): void {
    outcome.then(done).catch(bug => this.stream.destroy(bug))
  }

  #finish(request: WholeRequest, error: Err, reply: Buffer): void {
    this.#requestsInFlight--
    this.#bytesInFlight -= payloadBytes(request)
    this.#reply(request, error, reply)
    this.#weigh()
    if (this.#requestsInFlight === 0) this.#onIdle?.()
    this.#advance()
  }

  /** Header and payload leave as one. */
  #reply({ cookie, type }: WholeRequest, error: Err, reply: Buffer): void {
    if (this.stream.destroyed) return
    // proto.md, "Structured reply chunk message": READ MUST be answered by chunks once they are negotiated.
    if (type === Cmd.READ && this.#file.structured) {
      this.#unread = !this.stream.push(error === Err.NONE ? reply : encodeErrorChunk(cookie, error, ''))
      return
    }
    reply.writeUInt32BE(Magic.SIMPLE_REPLY, SimpleReplyField.MAGIC)
    reply.writeUInt32BE(error, SimpleReplyField.ERROR)
    reply.writeBigUInt64BE(cookie, SimpleReplyField.COOKIE)
    this.#unread = !this.stream.push(error === Err.NONE ? reply : reply.subarray(0, SIMPLE_REPLY_SIZE))
  }

  /** Our end comes when all outstanding requests are answered. `done` hears of it, or why it went wrong. */
  #end(done: (error?: Error | null) => void): void {
    const first = !this.#stopped
    this.#stopped = true
    this.#close().then(
      () => {
        if (first && !this.stream.destroyed) this.stream.push(null)
        done()
      },
      error => done(error),
    )
  }

  #destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#stopped = true
    this.#operations.abandon()
    this.#weigh()
    const chunkDone = this.#chunkDone
    this.#chunkDone = undefined
    chunkDone?.(error)
    this.#close().then(
      () => done(error),
      closeError => done(error ?? closeError),
    )
  }

  /** A descriptor's number is used again at once: one that an operation still knows must not be closed. */
  #close(): Promise<void> {
    this.#closed ??= this.#idle().then(() => closeDescriptor(this.#file.fd))
    return this.#closed
  }

  /** Called once, when no request begins any more. */
  #idle(): Promise<void> {
    return new Promise(resolve => {
      this.#onIdle = resolve
      if (this.#requestsInFlight === 0) resolve()
    })
  }
}

/** What a request holds in memory while it is carried out. */
function payloadBytes(request: WholeRequest): number {
  return request.type === Cmd.READ || request.type === Cmd.WRITE ? request.length : 0
}
