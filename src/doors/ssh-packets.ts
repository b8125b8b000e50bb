/**
 * Memory for packets that go out. ssh2 takes a new buffer for each and asks the kernel's generator for its padding, which
 * together costs more than the cipher. Here packets come out of slabs that are used again when all of them have left,
 * while the processor's cache still has them. What AES-GCM's padding holds is nobody's secret (RFC 4253, 6: SHOULD be
 * random): it comes out of a pool of random bytes.
 */
import { randomBytes } from 'node:crypto'

/** A cipher of ssh2: takes packets that it has laid out itself, or that are laid out the same way. */
export interface PacketCipher {
  allocPacket(payloadBytes: number): Buffer
}

const SLAB_BYTES = 128 * 1024
/** Slabs that wait for their next use, of all connections together. */
const SPARE_SLABS = 16
const BLOCK_BYTES = 16
const MIN_PADDING_BYTES = 4
const TAG_BYTES = 16
const POOL_BYTES = 16 * 1024

const spare: Buffer[] = []
let pool = Buffer.alloc(0)
let drawn = 0

/** The packets of one connection. */
export class PacketMemory {
  readonly #haveLeft: () => boolean
  #slabs: Buffer[] = []
  #used = SLAB_BYTES

  /** `haveLeft` says whether the kernel has taken all packets that were allocated so far. */
  constructor(haveLeft: () => boolean) {
    this.#haveLeft = haveLeft
  }

  /** Has a cipher allocate here, if it lays out its packets as we do. */
  serve(cipher: PacketCipher): void {
    const isSame = [1, 9, 10, 100, 32_777].every(bytes => {
      const [theirs, ours] = [cipher.allocPacket(bytes), this.allocPacket(bytes)]
      return theirs.length === ours.length && theirs.subarray(0, 5).equals(ours.subarray(0, 5))
    })
    if (isSame) cipher.allocPacket = this.allocPacket
  }

  /** Length of the packet and of its padding, room for the payload, padding, room for GCM's tag. */
  readonly allocPacket = (payloadBytes: number): Buffer => {
    const bare = 1 + payloadBytes
    let padding = BLOCK_BYTES - (bare % BLOCK_BYTES)
    if (padding < MIN_PADDING_BYTES) padding += BLOCK_BYTES
    const packet = this.#take(4 + bare + padding + TAG_BYTES)
    packet.writeUInt32BE(bare + padding, 0)
    packet[4] = padding
    if (drawn + padding > pool.length) {
      pool = randomBytes(POOL_BYTES)
      drawn = 0
    }
    pool.copy(packet, 4 + bare, drawn, drawn + padding)
    drawn += padding
    return packet
  }

  #take(bytes: number): Buffer {
    if (bytes > SLAB_BYTES / 2) return Buffer.allocUnsafeSlow(bytes)
    if (this.#slabs.length > 0 && this.#haveLeft()) this.#giveBack()
    if (this.#used + bytes > SLAB_BYTES) {
      this.#slabs.push(spare.pop() ?? Buffer.allocUnsafeSlow(SLAB_BYTES))
      this.#used = 0
    }
    const packet = this.#slabs[this.#slabs.length - 1]?.subarray(this.#used, this.#used + bytes)
    this.#used += bytes
    return packet ?? Buffer.allocUnsafeSlow(bytes)
  }

  /** All but the last, which is begun anew. */
  #giveBack(): void {
    const last = this.#slabs.pop()
    while (spare.length < SPARE_SLABS) {
      const slab = this.#slabs.pop()
      if (slab === undefined) break
      spare.push(slab)
    }
    this.#slabs = last === undefined ? [] : [last]
    this.#used = last === undefined ? SLAB_BYTES : 0
  }
}
