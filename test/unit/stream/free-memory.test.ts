import { describe, expect, it } from 'vitest'
import { freeMemory } from '../../../src/stream/free-memory.ts'

/** Memory is freed in batches: enough chunks that all but the last few must be gone. */
const MANY = 64
const BATCH = 16

function whole(size: number): Buffer {
  return Buffer.from(new ArrayBuffer(size))
}

describe('the memory of chunks', () => {
  it('is freed without the garbage collector', () => {
    const chunks = Array.from({ length: MANY }, () => whole(16 * 1024))
    for (const chunk of chunks) freeMemory(chunk)
    const left = chunks.filter(chunk => chunk.length > 0)
    expect(left.length).toBeLessThan(BATCH)
  })

  it('is left alone where others may look at it: parts of larger memory, and the pool of small buffers', () => {
    const memory = new ArrayBuffer(16 * 1024)
    const chunks = [
      Buffer.from(memory, 0, 8 * 1024),
      Buffer.from(memory, 8 * 1024),
      Buffer.from(new SharedArrayBuffer(16 * 1024)),
      Buffer.from('pooled'),
      whole(64),
    ]
    const lengths = chunks.map(chunk => chunk.length)
    for (let i = 0; i < MANY; i++) for (const chunk of chunks) freeMemory(chunk)
    expect(chunks.map(chunk => chunk.length)).toEqual(lengths)
  })
})
