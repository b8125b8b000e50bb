/**
 * Reads a connection of SSH into memory that is used again. Node makes new memory for each read and ssh2 for each packet
 * that comes in two, all of it as large as the payloads, and the garbage collector that has to take it away costs more than
 * the cipher. Here ssh2 gets whole packets, deciphers them in place, and what a channel is given is a part of the read buffer.
 *
 * What ssh2 itself keeps of a packet (of a key exchange, of a login) nobody tells: a buffer in which there was anything but data
 * of channels and adjustments of windows is left to the garbage collector.
 */
import type { Socket } from 'node:net'
import { giveBuffer, MEDIUM_BYTES, SMALL_BYTES, TINY_BYTES, takeWhole } from '../stream/buffer-pool.ts'
import { readInto } from '../stream/read-into.ts'
import { isDecipherKnown, type SshProtocol } from './ssh2.ts'

/** In front of each packet of AES-GCM, in the clear (RFC 5647, 7.3), and behind it. */
const LENGTH_BYTES = 4
const TAG_BYTES = 16
const BLOCK_BYTES = 16

/** RFC 4253, 6.1, and what ssh2 takes. */
const MAX_PACKET_BYTES = 35_000

/** Data of that size is copied: little of it is not to keep a whole buffer. */
const LITTLE_BYTES = 4 * 1024

/** Sizes of read buffers: one for requests, which is what an idle connection holds, and those for payloads. */
const SIZES = [TINY_BYTES, SMALL_BYTES, MEDIUM_BYTES] as const
type Size = (typeof SIZES)[number]

/** A read buffer of which parts are with channels. */
interface Lease {
  readonly buffer: Buffer
  /** Parts that are lent, and one while packets are taken out of it. */
  count: number
  isReusable: boolean
}

const leases = new WeakMap<Buffer, Lease>()

/** Gives data back that came out of a reader: nobody may look at it any more. Nothing happens a second time, or to other memory. */
export function returnData(data: Buffer): void {
  const lease = leases.get(data)
  if (lease === undefined) return
  leases.delete(data)
  end(lease)
}

function end(lease: Lease): void {
  lease.count--
  if (lease.count === 0 && lease.isReusable) giveBuffer(lease.buffer)
}

export class SshReader {
  readonly #socket: Socket
  readonly #protocol: SshProtocol
  /** Where the next read goes, and how much of a packet that has begun stands in it. */
  #buffer: Buffer = takeWhole(TINY_BYTES)
  #carried = 0
  /** That packets are being taken out of now. */
  #lease: Lease | undefined
  /** Packets in it of which ssh2 keeps nothing. */
  #harmless = 0

  /** Takes over from now on. Until the next packet begins, and where Node or ssh2 are not as known, all is as it was. */
  constructor(socket: Socket, protocol: SshProtocol) {
    this.#socket = socket
    this.#protocol = protocol
    const next = (): Buffer => this.#buffer.subarray(this.#carried)
    const isReading = isDecipherKnown(protocol) && readInto(socket, next, this.#arrived)
    if (!isReading) giveBuffer(this.#buffer)
    else socket.once('close', () => giveBuffer(this.#buffer))
  }

  /** Takes the data of a packet; it is returned with `returnData`. */
  keep(data: Buffer): Buffer {
    this.#harmless++
    const lease = this.#lease
    if (lease === undefined || data.buffer !== lease.buffer.buffer) return data
    if (data.length <= LITTLE_BYTES) return Buffer.from(data)
    lease.count++
    leases.set(data, lease)
    return data
  }

  /** A packet of which nothing is kept. */
  passed(): void {
    this.#harmless++
  }

  readonly #arrived = (length: number): boolean => {
    const filled = this.#buffer.subarray(0, this.#carried + length)
    const { _decipher: decipher } = this.#protocol
    // A packet that began before we did ends somewhere in here.
    const whole = decipher._lenBytes === 0 ? wholePackets(filled) : filled.length
    const tail = filled.subarray(whole)
    const wanted = this.#sizeFor(filled, tail)
    if (whole === 0 && wanted === this.#buffer.length) {
      this.#carried = filled.length
      return !this.#socket.isPaused()
    }
    const lease: Lease = { buffer: this.#buffer, count: 1, isReusable: false }
    this.#buffer = takeWhole(wanted)
    this.#carried = tail.copy(this.#buffer)
    if (whole > 0) this.#hand(lease, filled.subarray(0, whole))
    else lease.isReusable = true
    end(lease)
    return !this.#socket.isPaused()
  }

  /** Has ssh2 parse what has come, in place. */
  #hand(lease: Lease, packets: Buffer): void {
    const { _decipher: before } = this.#protocol
    const { inSeqno, _lenBytes } = before
    this.#lease = lease
    this.#harmless = 0
    this.#socket.emit('data', packets)
    this.#lease = undefined
    const { _decipher: after } = this.#protocol
    const isWhole = _lenBytes === 0 && after._lenBytes === 0
    lease.isReusable = isWhole && after === before && (after.inSeqno - inSeqno) >>> 0 === this.#harmless
  }

  /** The next size up when a buffer was full, the next one down when it was nearly empty; what has begun to come fits in. */
  #sizeFor(filled: Buffer, tail: Buffer): Size {
    const index = SIZES.findIndex(size => size >= this.#buffer.length)
    const step = filled.length === this.#buffer.length ? 1 : filled.length < this.#buffer.length / 8 ? -1 : 0
    const needed = tail.length >= LENGTH_BYTES ? packetBytes(tail, 0) : LENGTH_BYTES
    return SIZES.find((size, at) => at >= index + step && size >= needed) ?? MEDIUM_BYTES
  }
}

/** How many of these bytes are whole packets; all of them, for ssh2 to refuse, if there is one that can not be. */
function wholePackets(bytes: Buffer): number {
  let at = 0
  while (at + LENGTH_BYTES <= bytes.length) {
    const packet = packetBytes(bytes, at)
    const inner = packet - LENGTH_BYTES - TAG_BYTES
    if (packet > MAX_PACKET_BYTES || inner < BLOCK_BYTES || inner % BLOCK_BYTES !== 0) return bytes.length
    if (at + packet > bytes.length) break
    at += packet
  }
  return at
}

function packetBytes(bytes: Buffer, at: number): number {
  return LENGTH_BYTES + bytes.readUInt32BE(at) + TAG_BYTES
}
