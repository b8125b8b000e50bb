/**
 * One SSH connection under its channels: what ssh2 leaves out. It bounds what waits for a peer that does not read, ends
 * connections that overrun a window or flood, changes keys on schedule, and says which signatures may log in.
 *
 * Who may log in is ssh-login.ts, what may be opened ssh-ways.ts.
 */
import type { Socket } from 'node:net'
import type { Connection } from 'ssh2'
import { encodeString } from '../protocol/ssh-string.ts'
import { rekeyOnSchedule } from '../ssh/algorithms.ts'
import { SIGNATURE_ALGORITHMS } from '../ssh/public-key.ts'
import { PacketMemory } from './ssh-packets.ts'
import { SshReader } from './ssh-reader.ts'
import { SshStream, type StreamLink } from './ssh-stream.ts'
import type { SshChannel, SshProtocol } from './ssh2.ts'

/** Bytes in the socket above which no channel writes. */
const SOCKET_BYTES = 1024 * 1024

/** Bytes in the socket above which the peer is not read: it asks for answers and takes none. */
const FLOOD_BYTES = 2 * 1024 * 1024

/** Packets that may wait for the end of a key exchange. */
const MAX_QUEUED_PACKETS = 1024

/** How much a channel sends before the next one has its turn. */
const QUANTUM_BYTES = 256 * 1024

/** What is worth a write of its own. */
const WRITE_BYTES = 8 * 1024

/** RFC 4254, 5.2: a window has at most 2^32 - 1 bytes. */
const MAX_WINDOW = 2 ** 32 - 1

const EXT_INFO = 7
const PROTOCOL_ERROR = 2

/** How long a connection that is being ended may take for its last words. */
const LAST_WORDS_MS = 2000

/** What a link tells. */
export interface LinkEvents {
  /** The peer has broken the rules, and is being cut off. */
  broken(reason: string): void
  /** The last of its streams has ended. */
  idle(): void
}

export class SshLink implements StreamLink {
  readonly client: Connection
  readonly protocol: SshProtocol
  readonly #socket: Socket
  readonly #events: LinkEvents
  readonly #streams = new Map<number, SshStream>()
  readonly #open = new Set<SshStream>()
  readonly #waiting = new Set<SshStream>()
  /** From the first channel on. */
  #reader: SshReader | undefined
  #corkedBytes = 0
  #flushing: NodeJS.Immediate | undefined
  #dead = false

  /** Takes over from ssh2. */
  constructor(client: Connection, socket: Socket, protocol: SshProtocol, events: LinkEvents) {
    this.client = client
    this.protocol = protocol
    this.#socket = socket
    this.#events = events
    this.#guard()
    this.#announceSignatures()
    rekeyOnSchedule(client, socket)
    // A packet is written in the turn in which it is allocated: what the socket does not hold any more has left.
    const memory = new PacketMemory(() => socket.writableLength === 0)
    client.on('handshake', () => {
      memory.serve(protocol._cipher)
      this.#serve()
    })
    client.once('end', () => this.#lost(undefined))
    client.once('close', () => this.#lost(undefined))
    socket.on('drain', () => this.#serve())
    socket.on('data', this.#watchFlood)
    // A peer that has ended its direction can not be talked with: all of SSH is questions and answers.
    socket.once('end', () => this.end())
  }

  /** Whether a packet with data may be written now. */
  get mayWrite(): boolean {
    return !this.#dead && this.protocol._kexinit === undefined && this.#socket.writableLength < SOCKET_BYTES
  }

  /** Channels that carry bytes. */
  get openStreams(): number {
    return this.#open.size
  }

  /** Puts a stream on a channel. */
  open(channel: SshChannel, options: { readonly isCommand: boolean }): SshStream {
    const stream = new SshStream(this, channel, options)
    this.#streams.set(channel.incoming.id, stream)
    this.#open.add(stream)
    this.#reader ??= new SshReader(this.#socket, this.protocol)
    // Nobody reads ssh2's own end of the channel; unread it would never close.
    channel.on('error', () => {})
    channel.resume()
    return stream
  }

  /**
   * Sends data on a channel. Little of it waits for what else comes in this turn of the loop; much leaves at once: the peer
   * decrypts it while we read and encrypt what is next.
   */
  send(channel: number, data: Buffer): void {
    const isLittle = this.#corkedBytes + data.length < WRITE_BYTES
    if (isLittle && this.#flushing === undefined) {
      this.#socket.cork()
      this.#flushing = setImmediate(this.#flush)
    }
    this.protocol.channelData(channel, data)
    if (isLittle) this.#corkedBytes += data.length
    else if (this.#flushing !== undefined) this.#flush()
  }

  /** Calls `pump` of the stream when there is room again. */
  await(stream: SshStream): void {
    this.#waiting.add(stream)
  }

  /** A stream has ended. */
  release(stream: SshStream): void {
    this.#waiting.delete(stream)
    if (this.#open.delete(stream) && this.#open.size === 0) this.#events.idle()
  }

  /** Ends the connection in order; a peer that does not take its end is cut off. */
  end(): void {
    this.#lost(undefined)
    this.#say(() => this.client.end())
    this.#socket.destroySoon()
    const timer = setTimeout(() => this.#socket.destroy(), LAST_WORDS_MS)
    this.#socket.once('close', () => clearTimeout(timer))
  }

  /** Ends it because the peer broke the rules. */
  #kill(reason: string): void {
    if (this.#dead) return
    this.#events.broken(reason)
    this.#lost(new Error(reason))
    this.#say(() => this.protocol.disconnect(PROTOCOL_ERROR))
    this.end()
  }

  /** ssh2 throws when the connection under it has broken already. */
  #say(last: () => void): void {
    try {
      last()
    } catch {
      // Then nobody hears it.
    }
  }

  #lost(error: Error | undefined): void {
    this.#dead = true
    this.#waiting.clear()
    const streams = [...this.#streams.values()]
    this.#streams.clear()
    for (const stream of streams) stream.lost(error)
  }

  /** Puts our rules in front of ssh2's handlers of messages. */
  #guard(): void {
    const handlers = this.protocol._handlers
    const { CHANNEL_WINDOW_ADJUST: adjust, CHANNEL_EOF: eof, CHANNEL_CLOSE: close } = handlers
    handlers.CHANNEL_DATA = (_, id, data) => {
      // Data for a session that runs nothing has nobody to go to.
      if (typeof id !== 'number' || !Buffer.isBuffer(data)) return
      const kept = this.#reader?.keep(data) ?? data
      if (this.#streams.get(id)?.receive(kept) === false) this.#kill('more data than its window')
    }
    handlers.CHANNEL_WINDOW_ADJUST = (protocol, id, bytes) => {
      adjust?.(protocol, id, bytes)
      this.#reader?.passed()
      const stream = typeof id === 'number' ? this.#streams.get(id) : undefined
      if (stream === undefined) return
      if (stream.peerWindow > MAX_WINDOW) this.#kill('a window larger than there are')
      else stream.pump(QUANTUM_BYTES)
    }
    handlers.CHANNEL_EOF = (protocol, id) => {
      eof?.(protocol, id)
      if (typeof id === 'number') this.#streams.get(id)?.peerEnded()
    }
    handlers.CHANNEL_CLOSE = (protocol, id) => {
      close?.(protocol, id)
      if (typeof id !== 'number') return
      const stream = this.#streams.get(id)
      this.#streams.delete(id)
      stream?.peerClosed()
    }
  }

  /** Streams that wait have their turns, one quantum each. */
  #serve(): void {
    for (let [stream] = this.#waiting; stream !== undefined && this.mayWrite; [stream] = this.#waiting) {
      this.#waiting.delete(stream)
      stream.pump(QUANTUM_BYTES)
    }
  }

  readonly #flush = (): void => {
    clearImmediate(this.#flushing)
    this.#flushing = undefined
    this.#corkedBytes = 0
    this.#socket.uncork()
  }

  readonly #watchFlood = (): void => {
    if ((this.protocol._queue?.length ?? 0) > MAX_QUEUED_PACKETS) this.#kill('a flood during a key exchange')
    if (this.#socket.writableLength <= FLOOD_BYTES || this.#socket.isPaused()) return
    this.#socket.pause()
    this.#socket.once('drain', () => this.#socket.resume())
  }

  /**
   * Sends RFC 8308's server-sig-algs in place of ssh2's, whose list lacks a comma and has SHA-1 in it. It has to be the
   * first packet behind NEWKEYS.
   */
  #announceSignatures(): void {
    const { protocol } = this
    const complete = protocol._onHandshakeComplete
    protocol._onHandshakeComplete = (...args) => {
      protocol._onHandshakeComplete = complete
      const isWanted = protocol._kex?.remoteExtInfoEnabled === true
      if (protocol._kex !== undefined) protocol._kex.remoteExtInfoEnabled = false
      if (isWanted) protocol._cipher.encrypt(this.#extInfo())
      complete(...args)
    }
  }

  #extInfo(): Buffer {
    const count = Buffer.from([EXT_INFO, 0, 0, 0, 1])
    const payload = Buffer.concat([
      count,
      encodeString('server-sig-algs'),
      encodeString(SIGNATURE_ALGORITHMS.join(',')),
    ])
    const { write } = this.protocol._packetRW
    const packet = write.alloc(payload.length)
    // Behind the lengths of packet and padding.
    packet.set(payload, 5)
    return write.finalize(packet)
  }
}
