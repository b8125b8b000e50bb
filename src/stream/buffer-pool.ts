/** Buffers of one size, and how many free ones are kept; more are left to the garbage collector. */
interface Shelf {
  readonly bytes: number
  readonly limit: number
  readonly free: Lendable[]
}

interface Lendable {
  readonly memory: ArrayBuffer
  readonly shelf: Shelf
  isLent: boolean
}

/** Size of the read buffer of a stream from which no payload is expected; one of 4 KiB fits in with its head. */
export const TINY_BYTES = 4 * 1024 + 512

/** Size of the read buffer of a stream from which little is expected, and of what a record of TLS brings at most. */
export const SMALL_BYTES = 16 * 1024

/** Size of the read buffer of a stream from which payloads are expected. */
export const MEDIUM_BYTES = 64 * 1024

/** Size of the read buffer of a stream from which much is expected. */
export const LARGE_BYTES = 512 * 1024

/** Bytes at the start of each buffer of takeBuffer that are not read into; enough for the longest head to grow. */
export const HEADROOM_BYTES = 32

const tiny: Shelf = { bytes: TINY_BYTES, limit: 512, free: [] }
const small: Shelf = { bytes: SMALL_BYTES, limit: 512, free: [] }
const medium: Shelf = { bytes: MEDIUM_BYTES, limit: 128, free: [] }
const large: Shelf = { bytes: LARGE_BYTES, limit: 16, free: [] }

/** What is the pool's: memory of others may have the same size. */
const lendables = new WeakMap<ArrayBufferLike, Lendable>()

/**
 * A read buffer for what is expected, with undefined content and headroom in front. It holds no more than
 * that, so that the message after it begins in a buffer of its own. Buffers are shared by all streams of the
 * process: an idle stream holds a tiny one, and a large one only while bytes for it are on their way.
 */
export function takeBuffer(expectedBytes: number): Buffer {
  const memory = take(expectedBytes <= 0 ? tiny : expectedBytes > SMALL_BYTES - HEADROOM_BYTES ? large : small)
  const room = memory.byteLength - HEADROOM_BYTES
  return Buffer.from(memory, HEADROOM_BYTES, expectedBytes > 0 ? Math.min(room, expectedBytes) : room)
}

/** A whole buffer of one of these sizes, without headroom. */
export function takeWhole(bytes: typeof TINY_BYTES | typeof SMALL_BYTES | typeof MEDIUM_BYTES): Buffer {
  return Buffer.from(take(bytes === TINY_BYTES ? tiny : bytes === SMALL_BYTES ? small : medium))
}

/** A copy of buffers behind each other; one of the pool's where they fit into any that is not large. */
export function joinWhole(buffers: readonly Buffer[]): Buffer {
  let bytes = 0
  for (const { length } of buffers) bytes += length
  if (bytes > MEDIUM_BYTES) return Buffer.concat(buffers, bytes)
  const joined = takeWhole(bytes <= TINY_BYTES ? TINY_BYTES : bytes <= SMALL_BYTES ? SMALL_BYTES : MEDIUM_BYTES)
  let at = 0
  for (const buffer of buffers) at += buffer.copy(joined, at)
  return joined.subarray(0, at)
}

/** Gives back a buffer of this pool, or any part of one; false: it is not. Nobody may look at it any more. */
export function giveBuffer(buffer: Buffer): boolean {
  const lent = lendables.get(buffer.buffer)
  if (lent === undefined) return false
  // Twice on the shelf, it would be two sessions' at a time.
  if (lent.isLent && lent.shelf.free.length < lent.shelf.limit) lent.shelf.free.push(lent)
  lent.isLent = false
  return true
}

function take(shelf: Shelf): ArrayBuffer {
  const lendable = shelf.free.pop() ?? make(shelf)
  lendable.isLent = true
  return lendable.memory
}

function make(shelf: Shelf): Lendable {
  const memory = new ArrayBuffer(shelf.bytes)
  const lendable = { memory, shelf, isLent: false }
  lendables.set(memory, lendable)
  return lendable
}
