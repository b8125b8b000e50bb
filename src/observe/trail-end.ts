import type { FileHandle } from 'node:fs/promises'
import { AuditError } from './errors.ts'
import { decodeRecord, GENESIS, type Head, hasBytesBehindRecord, MAX_RECORD_BYTES } from './trail-record.ts'

/** Where a file of a trail ends. */
export interface TrailEnd {
  /** Undefined when there is no record in the file. */
  readonly head: Head | undefined
  /** Up to where the file holds whole records. */
  readonly sizeBytes: number
  /** What lies behind that: a record whose writing was cut short. */
  readonly torn: Buffer
  /** The last record is whole, but for its newline. */
  readonly lacksNewline: boolean
}

const NEWLINE = 0x0a

/** Finds the last record of a file. @throws AuditError CORRUPT if the last whole line is none */
export async function readTrailEnd(file: FileHandle, path: string): Promise<TrailEnd> {
  const { size } = await file.stat()
  const from = Math.max(0, size - 2 * MAX_RECORD_BYTES)
  const bytes = await readRange(file, from, size)
  const last = bytes.lastIndexOf(NEWLINE)
  const rest = bytes.subarray(last + 1)
  const unended = decodeRecord(rest)
  if (unended !== undefined) return { head: unended, sizeBytes: size, torn: Buffer.alloc(0), lacksNewline: true }
  if (hasBytesBehindRecord(rest)) throw corrupt(path, 'there are bytes behind its last record')
  if (last < 0 && from > 0) throw corrupt(path, 'its end is no record')
  const end = { sizeBytes: size - rest.length, torn: rest, lacksNewline: false }
  if (last < 0) return { head: undefined, ...end }
  const line = bytes.subarray(last === 0 ? 0 : bytes.lastIndexOf(NEWLINE, last - 1) + 1, last)
  const head = decodeRecord(line)
  if (head === undefined) throw corrupt(path, 'its last line is no record, or was changed')
  return { head, ...end }
}

/** The number of a file's first record; that of the next one when the file is empty. */
export async function readFirstSeq(file: FileHandle, head: Head = GENESIS): Promise<number> {
  const bytes = await readRange(file, 0, 32)
  return Number(/^\{"seq":(\d{1,15}),/.exec(bytes.toString('latin1'))?.[1] ?? head.seq + 1)
}

async function readRange(file: FileHandle, from: number, to: number): Promise<Buffer> {
  const bytes = Buffer.alloc(to - from)
  let length = 0
  while (length < bytes.length) {
    const { bytesRead } = await file.read(bytes, length, bytes.length - length, from + length)
    if (bytesRead === 0) break
    length += bytesRead
  }
  return bytes.subarray(0, length)
}

function corrupt(path: string, what: string): AuditError {
  const hint = '`nbdgate audit verify` says more; move the file aside to begin a new trail'
  return new AuditError('CORRUPT', `${path}: ${what}; ${hint}`)
}
