import { closeSync, openSync, readSync } from 'node:fs'
import { MAX_RECORD_BYTES } from './trail-record.ts'

/** One line of a file, without its newline. */
export interface Line {
  /** Counted from 1. */
  readonly number: number
  readonly bytes: Buffer
  /** Its newline is there; only the last line may lack it. */
  readonly isEnded: boolean
}

const CHUNK_BYTES = 1024 * 1024
const NEWLINE = 0x0a

/** Reads a file line by line; of a line longer than any record only the beginning. Throws the errors of node:fs. */
export function* linesOf(file: string): Generator<Line> {
  const descriptor = openSync(file, 'r')
  try {
    let number = 1
    let rest: Buffer = Buffer.alloc(0)
    for (;;) {
      const chunk = Buffer.alloc(CHUNK_BYTES)
      const length = readSync(descriptor, chunk)
      if (length === 0) break
      let from = 0
      const bytes = Buffer.concat([rest, chunk.subarray(0, length)])
      for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, from)) {
        yield { number: number++, bytes: bytes.subarray(from, end), isEnded: true }
        from = end + 1
      }
      // What is longer is no record: its beginning is enough to say so.
      rest = bytes.subarray(from, from + 2 * MAX_RECORD_BYTES)
    }
    if (rest.length > 0) yield { number, bytes: rest, isEnded: false }
  } finally {
    closeSync(descriptor)
  }
}
