/**
 * A ByteStream over a channel of SSH. ssh2's own stream is by-passed: it trusts the peer with its windows, and knows no
 * end of what waits in the socket. Here a window that is overrun ends the connection, and a piece is handed to the cipher
 * only when the link has room for it.
 */
import type { ByteSink, ByteStream } from '../stream/byte-stream.ts'
import { returnData } from './ssh-reader.ts'
import type { SshChannel, SshProtocol } from './ssh2.ts'

/** Bytes that were read before the peer is told that it may send as many again. */
const CREDIT_BYTES = 256 * 1024

/** What a stream asks of the connection that it is on. */
export interface StreamLink {
  readonly protocol: SshProtocol
  /** Whether a packet with data may be written now. */
  readonly mayWrite: boolean
  /** Sends data on a channel. */
  send(channel: number, data: Buffer): void
  /** Calls `pump` of the stream when there is room again. */
  await(stream: SshStream): void
  /** The stream has ended. */
  release(stream: SshStream): void
}

interface Piece {
  readonly bytes: Buffer
  readonly sent: (() => void) | undefined
}

export class SshStream implements ByteStream {
  readonly headroomBytes = 0
  readonly #link: StreamLink
  readonly #channel: SshChannel
  /** A command ends with an exit status, and its channel with it. */
  readonly #isCommand: boolean
  #sink: ByteSink | undefined
  #inbox: Buffer[] = []
  #outbox: Piece[] = []
  /** How much of the first piece has been sent. */
  #sentOfFirst = 0
  #unsent = 0
  #window: number
  #credit = 0
  #paused = true
  #delivering = false
  #wasBlocked = false
  #ending = false
  #peerEnded = false
  #endTold = false
  #peerClosed = false
  #dead = false
  #error: Error | undefined

  constructor(link: StreamLink, channel: SshChannel, { isCommand }: { readonly isCommand: boolean }) {
    this.#link = link
    this.#channel = channel
    this.#isCommand = isCommand
    this.#window = channel.incoming.window
  }

  get unsentBytes(): number {
    return this.#unsent
  }

  /** How much the peer allows us to send. */
  get peerWindow(): number {
    return this.#channel.outgoing.window
  }

  start(sink: ByteSink): void {
    this.#sink = sink
    this.#paused = false
    this.#endTold = false
    queueMicrotask(this.#deliver)
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    queueMicrotask(this.#deliver)
  }

  write(bytes: Uint8Array, sent?: () => void): void {
    if (!this.#isWritable || this.#ending) {
      if (sent !== undefined) queueMicrotask(sent)
      return
    }
    const piece = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#outbox.push({ bytes: piece, sent })
    this.#unsent += piece.length
    // Who waits already keeps its turn.
    if (this.#outbox.length === 1) this.pump(Number.POSITIVE_INFINITY)
  }

  cork(): void {
    // All that is written in one turn of the loop leaves as one anyway: see SshLink.
  }

  uncork(): void {}

  release(chunk: Buffer): void {
    returnData(chunk)
  }

  end(): void {
    if (this.#ending) return
    this.#ending = true
    if (this.#outbox.length === 0) this.#sendEnd()
  }

  destroy(): void {
    this.#close(undefined)
  }

  /** Takes what the peer has sent; false when that is more than it was allowed to. */
  receive(data: Buffer): boolean {
    if (this.#dead) {
      returnData(data)
      return true
    }
    if (data.length > this.#window) return false
    this.#window -= data.length
    this.#inbox.push(data)
    this.#deliver()
    return true
  }

  /** The peer has ended its direction. */
  peerEnded(): void {
    this.#peerEnded = true
    this.#deliver()
  }

  /** The peer has closed the channel; what it sent before is still delivered. */
  peerClosed(): void {
    this.#peerClosed = true
    this.#peerEnded = true
    this.#dropOutbox()
    this.#deliver()
  }

  /** The connection is gone. */
  lost(error: Error | undefined): void {
    this.#peerClosed = true
    this.#close(error)
  }

  /** Sends what the peer's window, the link and `quantum` allow. */
  pump(quantum: number): void {
    let room = quantum
    const { outgoing } = this.#channel
    for (let piece = this.#outbox[0]; piece !== undefined && this.#isWritable; piece = this.#outbox[0]) {
      const rest = piece.bytes.length - this.#sentOfFirst
      const length = Math.min(rest, outgoing.window, outgoing.packetSize)
      // A window that is used up: the peer's next adjustment comes back here.
      if (length === 0 && rest > 0) break
      if (room <= 0 || !this.#link.mayWrite) {
        this.#link.await(this)
        break
      }
      const at = this.#sentOfFirst
      if (length > 0) this.#link.send(outgoing.id, piece.bytes.subarray(at, at + length))
      outgoing.window -= length
      this.#sentOfFirst += length
      this.#unsent -= length
      room -= length
      if (length === rest) this.#finishFirst()
    }
    this.#wasBlocked ||= this.#outbox.length > 0
    if (this.#outbox.length > 0) return
    if (this.#ending) this.#sendEnd()
    if (this.#wasBlocked) this.#sink?.drained()
    this.#wasBlocked = false
  }

  get #isWritable(): boolean {
    return !this.#dead && !this.#peerClosed && this.#channel.outgoing.state === 'open'
  }

  #finishFirst(): void {
    const piece = this.#outbox.shift()
    this.#sentOfFirst = 0
    // The bytes were copied into a packet: their owner may have them back, after it has returned from write().
    if (piece?.sent !== undefined) queueMicrotask(piece.sent)
  }

  #dropOutbox(): void {
    for (const { sent } of this.#outbox) if (sent !== undefined) queueMicrotask(sent)
    this.#outbox = []
    this.#unsent = 0
    this.#sentOfFirst = 0
  }

  #sendEnd(): void {
    const { outgoing } = this.#channel
    if (!this.#isWritable) return
    outgoing.state = 'eof'
    if (this.#isCommand) this.#link.protocol.exitStatus(outgoing.id, 0)
    this.#link.protocol.channelEOF(outgoing.id)
    if (this.#isCommand || (this.#peerEnded && this.#inbox.length === 0)) queueMicrotask(() => this.#close(undefined))
  }

  /** Ends both directions, and tells the sink when nothing comes any more. */
  #close(error: Error | undefined): void {
    if (this.#dead) return
    this.#die()
    this.#error = error
    for (const chunk of this.#inbox) returnData(chunk)
    this.#inbox = []
    this.#dropOutbox()
    const { outgoing } = this.#channel
    if (!this.#peerClosed && outgoing.state !== 'closed' && outgoing.state !== 'closing') {
      outgoing.state = 'closing'
      this.#link.protocol.channelClose(outgoing.id)
    }
    queueMicrotask(this.#deliver)
  }

  /** Hands over what has come, in order: bytes, the end, the close. */
  readonly #deliver = (): void => {
    if (this.#delivering) return
    this.#delivering = true
    try {
      while (!this.#paused && this.#sink !== undefined) {
        const chunk = this.#inbox.shift()
        if (chunk === undefined) break
        this.#return(chunk.length)
        this.#sink.data(chunk)
      }
    } finally {
      this.#delivering = false
    }
    if (this.#inbox.length > 0 || this.#sink === undefined) return
    if (this.#peerEnded && !this.#endTold && !this.#dead) {
      this.#endTold = true
      this.#sink.ended()
      if (this.#channel.outgoing.state === 'eof') this.#close(undefined)
    }
    if (this.#peerClosed) this.#die()
    if (this.#dead) this.#tellClosed()
  }

  #die(): void {
    if (!this.#dead) queueMicrotask(() => this.#link.release(this))
    this.#dead = true
  }

  #tellClosed(): void {
    const sink = this.#sink
    this.#sink = undefined
    sink?.closed(this.#error)
  }

  /** The peer may send again what has been taken. */
  #return(bytes: number): void {
    this.#credit += bytes
    if (this.#credit < CREDIT_BYTES || this.#dead || this.#peerEnded) return
    this.#window += this.#credit
    this.#link.protocol.channelWindowAdjust(this.#channel.outgoing.id, this.#credit)
    this.#credit = 0
  }
}
