import { MessageChannel } from 'node:worker_threads'

/** Smaller memory is left to the garbage collector. */
const MIN_BYTES = 4096

/** Memory is freed this many chunks at a time: that is what makes it cheap. */
const BATCH = 16

/** Memory that waits for the others of its batch. */
let batch: ArrayBuffer[] = []

/** What is transferred to a closed port is detached, and gone with the message that nobody gets. */
const { port1: nowhere } = new MessageChannel()
nowhere.close()

/**
 * Frees the memory of a chunk that nobody looks at any more, if the chunk is all of it. Node makes new memory for each
 * read; left to the garbage collector, tens of megabytes of it pile up, colder than any cache, before a full collection
 * frees them. Freed at once the next read gets the same memory. (`ArrayBuffer.prototype.transfer(0)` does it too, from
 * Node 22.) Only for chunks whose maker keeps nothing of them.
 */
export function freeMemory(chunk: Buffer): void {
  const memory = chunk.buffer
  if (chunk.length < MIN_BYTES || memory.byteLength !== chunk.length || !(memory instanceof ArrayBuffer)) return
  batch.push(memory)
  if (batch.length < BATCH) return
  const full = batch
  batch = []
  nowhere.postMessage(undefined, full)
}
