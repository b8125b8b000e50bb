/**
 * An outgoing socket that reads into large buffers of the pool (Node's `onread`). Ordinary sockets allocate 64 KiB a
 * read and emit an event for each; a READ of 256 KiB then costs four trips. The buffer that waits for the next read is
 * chosen by what the relay expects, so an idle session holds a tiny one.
 */
import { once } from 'node:events'
import { connect, type NetConnectOpts, type Socket } from 'node:net'
import { acknowledgeOn } from './acknowledge.ts'
import { giveBuffer, HEADROOM_BYTES, takeBuffer } from './buffer-pool.ts'
import type { ByteSink } from './byte-stream.ts'
import { type GatedStream, gateWrites, prepareGate } from './write-gate.ts'

/** Where to connect: a TCP address or the path of a Unix socket. */
export type SocketAddress = { readonly host: string; readonly port: number } | { readonly path: string }

export class PooledSocket implements GatedStream {
  readonly headroomBytes = HEADROOM_BYTES
  readonly #socket: Socket
  #sink: ByteSink | undefined
  #error: Error | undefined
  #paused = true
  #expectedBytes: () => number = nothing
  /** Where the next read goes. */
  #waiting: Buffer | undefined

  constructor(address: SocketAddress) {
    const options: NetConnectOpts = {
      ...address,
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: 15_000,
      onread: { buffer: this.#nextBuffer, callback: this.#onRead },
    }
    this.#socket = connect(options)
    prepareGate(this.#socket)
    // Nothing is read, so nothing lost, before there is somebody to take it.
    this.#socket.pause()
    this.#socket.on('error', error => {
      this.#error ??= error
    })
    this.#socket.on('end', this.#onEnd)
    this.#socket.on('drain', () => this.#sink?.drained())
    this.#socket.on('close', this.#onClose)
  }

  get unsentBytes(): number {
    return this.#socket.writableLength
  }

  /** Resolves when connected; rejects with the system's error, or the signal's reason. The caller destroys it then. */
  async connected(signal: AbortSignal): Promise<void> {
    await once(this.#socket, 'connect', { signal })
  }

  start(sink: ByteSink, expectedBytes: () => number = nothing): void {
    this.#sink = sink
    this.#expectedBytes = expectedBytes
    this.#paused = false
    if (this.#socket.destroyed) queueMicrotask(this.#onClose)
    else if (this.#socket.readableEnded) queueMicrotask(this.#onEnd)
    else this.#socket.resume()
  }

  pause(): void {
    if (this.#paused) return
    this.#paused = true
    this.#socket.pause()
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#socket.resume()
  }

  /** Acknowledges what has come at once. */
  readonly acknowledge = (): void => void acknowledgeOn(this.#socket)

  write(bytes: Uint8Array, sent?: () => void): void {
    if (this.#socket.writable) this.#socket.write(bytes, sent)
    else if (sent !== undefined) queueMicrotask(sent)
  }

  gate(mayWrite: () => boolean): void {
    gateWrites(this.#socket, mayWrite)
  }

  cork(): void {
    this.#socket.cork()
  }

  uncork(): void {
    this.#socket.uncork()
  }

  release(chunk: Buffer): void {
    giveBuffer(chunk)
  }

  end(): void {
    if (this.#socket.writable) this.#socket.end()
  }

  destroy(): void {
    this.#socket.destroy()
  }

  readonly #onRead = (length: number, buffer: Uint8Array): boolean => {
    const chunk = Buffer.from(buffer.buffer, buffer.byteOffset, length)
    if (this.#sink === undefined) giveBuffer(chunk)
    else this.#sink.data(chunk)
    return !this.#paused
  }

  readonly #nextBuffer = (): Buffer => {
    this.#waiting = takeBuffer(this.#expectedBytes())
    return this.#waiting
  }

  readonly #onEnd = (): void => this.#sink?.ended()

  readonly #onClose = (): void => {
    const sink = this.#sink
    this.#sink = undefined
    // V8 forgets a socket at a full collection only: it must not keep its session, nor memory, until then.
    this.#expectedBytes = nothing
    if (this.#waiting !== undefined) giveBuffer(this.#waiting)
    this.#waiting = undefined
    sink?.closed(this.#error)
  }
}

const nothing = (): number => 0
