/**
 * Bounds on what an SSH server can make us hold. ssh2 writes to the socket without asking whether anybody reads it, keeps
 * what is written while keys change, and believes that servers keep to the windows that it gives them.
 */
import type { Socket } from 'node:net'
import type { Client, ClientChannel } from 'ssh2'

/** Unsent bytes from which on channels wait. */
const SHUT_BYTES = 1024 * 1024
/** Answers to a server that asks and asks, and reads nothing: no honest one comes near. */
const MAX_UNSENT_BYTES = 8 * 1024 * 1024

/** What channels of one connection wait at before they write. */
export class SshGate {
  readonly #client: Client
  readonly #sock: Socket
  #waiting: (() => void)[] = []

  constructor(client: Client, sock: Socket) {
    this.#client = client
    this.#sock = sock
    sock.on('drain', this.#open)
    sock.on('close', this.#open)
    // Also after each change of keys.
    client.on('handshake', this.#open)
    sock.on('data', () => {
      if (sock.writableLength > MAX_UNSENT_BYTES) this.end('it asks for more than it reads')
    })
  }

  /** Ends the connection at once. */
  end(why: string): void {
    this.#sock.destroy(new Error(why))
  }

  /** Ends the connection if it holds something that the system has not taken yet. */
  dropUnsent(why: string): void {
    if (this.#waiting.length > 0 || this.#sock.writableLength > 0) this.end(why)
  }

  /** Calls `then` when there is room for more, or the connection is gone. */
  pass(then: () => void): void {
    if (this.#isOpen) then()
    else this.#waiting.push(() => this.pass(then))
  }

  get #isOpen(): boolean {
    if (this.#sock.destroyed) return true
    const protocol: unknown = Reflect.get(this.#client, '_protocol')
    const isRekeying = Reflect.get(Object(protocol), '_kexinit') !== undefined
    return !isRekeying && this.#sock.writableLength < SHUT_BYTES
  }

  readonly #open = (): void => {
    const waiting = this.#waiting
    this.#waiting = []
    for (const pass of waiting) pass()
  }
}

type Written = (error?: Error | null) => void

/** Has a channel write through the gate, and keep its server to the window. */
export function guardChannel(channel: ClientChannel, gate: SshGate): void {
  const [incoming, outgoing] = [ends(channel, 'incoming'), ends(channel, 'outgoing')]
  let window = Number(Reflect.get(incoming, 'window'))
  const set = (value: number): void => {
    window = value
    if (window < 0) gate.end('it sends more than its window allows')
  }
  Object.defineProperty(incoming, 'window', { get: () => window, set })
  // The other end of a forwarded connection has no standard error: what comes is thrown away, not kept.
  channel.stderr.on('error', () => {}).resume()
  const write = channel._write.bind(channel)
  // ssh2 never calls back for what it drops when a channel closes.
  const unwritten = new Set<() => void>()
  channel._write = (data: unknown, encoding: BufferEncoding, written: Written) => {
    const done = (): void => {
      if (unwritten.delete(done)) written()
    }
    unwritten.add(done)
    gate.pass(() => {
      if (Reflect.get(outgoing, 'state') === 'open') write(data, encoding, done)
      else done()
    })
  }
  channel.once('close', () => {
    for (const done of unwritten) done()
  })
}

/** The most that the server takes in one packet; with 0, ssh2 would spin for ever. */
export function packetBytes(channel: ClientChannel): number {
  return Number(Reflect.get(ends(channel, 'outgoing'), 'packetSize'))
}

function ends(channel: ClientChannel, name: 'incoming' | 'outgoing'): object {
  return Object(Reflect.get(channel, name))
}
