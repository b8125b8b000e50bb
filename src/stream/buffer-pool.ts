/** Size of the read buffer of a stream from which little is expected: this is what an idle session holds. */
export const SMALL_BYTES = 16 * 1024

/** Size of the read buffer of a stream from which much is expected. */
export const LARGE_BYTES = 512 * 1024

/** Bytes at the start of each buffer that are not read into; enough for the longest head to grow. */
export const HEADROOM_BYTES = 32

/** Free buffers kept of each size; more are left to the garbage collector. */
const FREE_LIMIT = { small: 256, large: 16 } as const

const freeSmall: ArrayBuffer[] = []
const freeLarge: ArrayBuffer[] = []

/**
 * A read buffer for what is expected, with undefined content and headroom in front. It holds no more than
 * that, so that the message after it begins in a buffer of its own. Buffers are shared by all streams of the
 * process: an idle stream holds a small one, and a large one only while bytes for it are on their way.
 */
export function takeBuffer(expectedBytes: number): Buffer {
  const large = expectedBytes > SMALL_BYTES - HEADROOM_BYTES
  const free = (large ? freeLarge : freeSmall).pop()
  const memory = free ?? new ArrayBuffer(large ? LARGE_BYTES : SMALL_BYTES)
  const room = memory.byteLength - HEADROOM_BYTES
  return Buffer.from(memory, HEADROOM_BYTES, expectedBytes > 0 ? Math.min(room, expectedBytes) : room)
}

/** Gives back a buffer of takeBuffer, or any part of one. Nobody may look at it any more. */
export function giveBuffer(buffer: Buffer): void {
  const memory = buffer.buffer
  if (!(memory instanceof ArrayBuffer)) return
  if (memory.byteLength === LARGE_BYTES) {
    if (freeLarge.length < FREE_LIMIT.large) freeLarge.push(memory)
  } else if (memory.byteLength === SMALL_BYTES && freeSmall.length < FREE_LIMIT.small) freeSmall.push(memory)
}
