import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { giveBuffer, MEDIUM_BYTES, SMALL_BYTES, TINY_BYTES, takeWhole } from './buffer-pool.ts'
import type { ByteSink } from './byte-stream.ts'
import { freeMemory } from './free-memory.ts'
import { readInto } from './read-into.ts'
import { type GatedStream, gateWrites, prepareGate } from './write-gate.ts'

/**
 * A ByteStream over any Node Duplex: accepted sockets, TLS sockets, the file upstream. A socket reads into buffers of the pool as
 * soon as there is a sink that says what it expects: tiny ones for requests, which is what an idle session holds, and larger
 * ones while a payload is on its way.
 */
export class DuplexStream implements GatedStream {
  /** The memory in front of a chunk may be another stream's. */
  readonly headroomBytes = 0
  readonly #duplex: Duplex
  /** Node's sockets make each chunk for its receiver alone; of others nobody knows. */
  readonly #ownsChunks: boolean
  /** Size of a larger buffer: TLS brings one record at a time. */
  readonly #payloadBytes: typeof SMALL_BYTES | typeof MEDIUM_BYTES
  #sink: ByteSink | undefined
  #error: Error | undefined
  #paused = true
  #expectedBytes: (() => number) | undefined
  /** Where the next read goes; undefined: where Node likes. */
  #waiting: Buffer | undefined
  /** What TLS had deciphered already when its reader paused. */
  #backlog: Buffer[] = []
  #endWaits = false

  constructor(duplex: Duplex) {
    this.#duplex = duplex
    this.#ownsChunks = duplex instanceof Socket
    this.#payloadBytes = duplex instanceof TLSSocket ? SMALL_BYTES : MEDIUM_BYTES
    prepareGate(duplex)
    // Paused by hand, a stream does not begin to flow when its 'data' listener comes: nothing is lost before start().
    duplex.pause()
    duplex.on('data', this.#onData)
    duplex.on('end', this.#onEnd)
    duplex.on('error', this.#onError)
    duplex.on('drain', this.#onDrain)
    duplex.on('close', this.#onClose)
  }

  get unsentBytes(): number {
    return this.#duplex.writableLength
  }

  start(sink: ByteSink, expectedBytes?: () => number): void {
    this.#sink = sink
    this.#paused = false
    if (expectedBytes !== undefined) this.#expect(expectedBytes)
    if (this.#duplex.destroyed) queueMicrotask(this.#onClose)
    else if (this.#duplex.readableEnded) queueMicrotask(this.#onEnd)
    else this.#duplex.resume()
  }

  pause(): void {
    this.#paused = true
    this.#duplex.pause()
  }

  resume(): void {
    this.#paused = false
    if (this.#backlog.length > 0 || this.#endWaits) process.nextTick(this.#catchUp)
    else this.#duplex.resume()
  }

  write(bytes: Uint8Array, sent?: () => void): void {
    if (this.#duplex.writable) this.#duplex.write(bytes, sent)
    else if (sent !== undefined) queueMicrotask(sent)
  }

  gate(mayWrite: () => boolean): void {
    gateWrites(this.#duplex, mayWrite)
  }

  cork(): void {
    this.#duplex.cork()
  }

  uncork(): void {
    this.#duplex.uncork()
  }

  release(chunk: Buffer): void {
    if (!giveBuffer(chunk) && this.#ownsChunks) freeMemory(chunk)
  }

  end(): void {
    if (this.#duplex.writable) this.#duplex.end()
  }

  destroy(): void {
    this.#duplex.destroy()
  }

  /**
   * Lets go of the Duplex and returns it, paused, for the TLS layer to take over. What arrives from here on waits in its
   * read buffer, where a TLSSocket looks first: no byte is lost between two listeners.
   */
  detach(): Duplex {
    this.pause()
    this.#sink = undefined
    this.#duplex.off('data', this.#onData)
    this.#duplex.off('end', this.#onEnd)
    this.#duplex.off('drain', this.#onDrain)
    // Two listeners stay: a reset between here and the TLS layer must not become an uncaught exception, and whoever
    // starts this stream again, to see it end, has to learn of its close.
    return this.#duplex
  }

  #expect(expectedBytes: () => number): void {
    const isFirst = this.#expectedBytes === undefined
    this.#expectedBytes = expectedBytes
    if (isFirst && this.#duplex instanceof Socket) readInto(this.#duplex, this.#nextBuffer, this.#onRead)
  }

  readonly #nextBuffer = (): Buffer => {
    const bytes = this.#expectedBytes !== undefined && this.#expectedBytes() > 0 ? this.#payloadBytes : TINY_BYTES
    if (this.#waiting?.length !== bytes) {
      if (this.#waiting !== undefined) giveBuffer(this.#waiting)
      this.#waiting = takeWhole(bytes)
    }
    return this.#waiting
  }

  readonly #onRead = (length: number): boolean => {
    const chunk = this.#takeChunk(length)
    if (this.#sink === undefined) this.release(chunk)
    else if (this.#paused || this.#backlog.length > 0) this.#backlog.push(chunk)
    else this.#sink.data(chunk)
    return !this.#paused
  }

  /** What was read. The buffer goes with it, but where most of that would be empty: whoever keeps chunks counts bytes. */
  #takeChunk(length: number): Buffer {
    const buffer = this.#waiting ?? Buffer.alloc(0)
    if (length < buffer.length / 2) {
      // Memory of its own is freed when it is given back, a part of Node's pool is not.
      const chunk = length > TINY_BYTES ? Buffer.allocUnsafeSlow(length) : Buffer.allocUnsafe(length)
      buffer.copy(chunk, 0, 0, length)
      return chunk
    }
    this.#waiting = undefined
    return length === buffer.length ? buffer : buffer.subarray(0, length)
  }

  readonly #catchUp = (): void => {
    while (!this.#paused && this.#sink !== undefined) {
      const chunk = this.#backlog.shift()
      if (chunk === undefined) break
      this.#sink.data(chunk)
    }
    if (this.#paused || this.#backlog.length > 0) return
    this.#duplex.resume()
    if (!this.#endWaits) return
    this.#endWaits = false
    this.#sink?.ended()
  }

  readonly #onData = (chunk: Buffer): void => this.#sink?.data(chunk)

  readonly #onEnd = (): void => {
    if (this.#backlog.length > 0) this.#endWaits = true
    else this.#sink?.ended()
  }

  readonly #onDrain = (): void => this.#sink?.drained()

  readonly #onError = (error: Error): void => {
    this.#error ??= error
  }

  readonly #onClose = (): void => {
    const sink = this.#sink
    this.#sink = undefined
    // V8 forgets a socket at a full collection only: it must not keep its session, nor memory, until then.
    this.#expectedBytes = nothing
    for (const chunk of this.#backlog) this.release(chunk)
    this.#backlog = []
    if (this.#waiting !== undefined) giveBuffer(this.#waiting)
    this.#waiting = undefined
    sink?.closed(this.#error)
  }
}

const nothing = (): number => 0
