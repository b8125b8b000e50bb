import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { ByteSink } from './byte-stream.ts'
import { freeMemory } from './free-memory.ts'
import { type GatedStream, gateWrites, prepareGate } from './write-gate.ts'

/** A ByteStream over any Node Duplex: accepted sockets, TLS sockets, the file upstream. */
export class DuplexStream implements GatedStream {
  /** The memory in front of a chunk may be another stream's. */
  readonly headroomBytes = 0
  readonly #duplex: Duplex
  /** Node's sockets make each chunk for its receiver alone; of others nobody knows. */
  readonly #ownsChunks: boolean
  #sink: ByteSink | undefined
  #error: Error | undefined

  constructor(duplex: Duplex) {
    this.#duplex = duplex
    this.#ownsChunks = duplex instanceof Socket
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

  start(sink: ByteSink): void {
    this.#sink = sink
    if (this.#duplex.destroyed) queueMicrotask(this.#onClose)
    else if (this.#duplex.readableEnded) queueMicrotask(this.#onEnd)
    else this.#duplex.resume()
  }

  pause(): void {
    this.#duplex.pause()
  }

  resume(): void {
    this.#duplex.resume()
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
    if (this.#ownsChunks) freeMemory(chunk)
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
    this.#duplex.pause()
    this.#sink = undefined
    this.#duplex.off('data', this.#onData)
    this.#duplex.off('end', this.#onEnd)
    this.#duplex.off('drain', this.#onDrain)
    // Two listeners stay: a reset between here and the TLS layer must not become an uncaught exception, and whoever
    // starts this stream again, to see it end, has to learn of its close.
    return this.#duplex
  }

  readonly #onData = (chunk: Buffer): void => this.#sink?.data(chunk)
  readonly #onEnd = (): void => this.#sink?.ended()
  readonly #onDrain = (): void => this.#sink?.drained()

  readonly #onError = (error: Error): void => {
    this.#error ??= error
  }

  readonly #onClose = (): void => {
    const sink = this.#sink
    this.#sink = undefined
    sink?.closed(this.#error)
  }
}
