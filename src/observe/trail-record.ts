/**
 * One record of the audit trail, as a line and back. A line is a JSON object without white space:
 *
 *     {"seq":N,"time":"…","kind":"…", facts…, "prev":"<64 hex>","hash":"<64 hex>"}
 *
 * `hash` is the SHA-256 of the line up to the comma before `"hash"` and so of `prev` too, the hash of the record before.
 * The bytes as written are the canonical form: nothing is parsed and put together again to be checked.
 */
import { createHash } from 'node:crypto'

/** What a record is about. */
export type AuditKind =
  | 'gateway started'
  | 'gateway stopped'
  | 'session opened'
  | 'session refused'
  | 'session ended'
  /** There were more of them than have a record each. */
  | 'refusals counted'
  | 'rights changed'
  | 'reloaded'
  | 'reload failed'
  | 'certificate revoked'
  | 'clock set back'
  | 'lease taken'
  | 'lease released'
  | 'lease lost'
  /** First record of a file that goes on where another one ends. */
  | 'trail continued'
  /** Behind a crash: what was left of a record that was not finished. */
  | 'trail repaired'
  /** There was no place to keep so many records while the trail could not be written. */
  | 'records lost'

/** Facts of a record; the five names of every record are not among them. */
export type AuditFacts = Readonly<Record<string, unknown>> & {
  readonly [Name in 'seq' | 'time' | 'kind' | 'prev' | 'hash']?: never
}

/** Where the next record goes on. */
export interface Head {
  /** Of the last record; 0 when there is none. */
  readonly seq: number
  readonly hash: string
}

/** A record that was read, and whose hash fits. */
export interface TrailRecord extends Head {
  readonly time: string
  readonly kind: string
  readonly prev: string
  /** All facts, in the order of the line; of the five names only what makes it readable is missing. */
  readonly facts: Readonly<Record<string, unknown>>
}

/** Head of a trail without records. */
export const GENESIS: Head = { seq: 0, hash: '0'.repeat(64) }

/** Longer than any record that we write. */
export const MAX_RECORD_BYTES = 256 * 1024

const HASH_TAIL = /^,"hash":"([0-9a-f]{64})"\}$/
/** Bytes of `,"hash":"…"}`. */
const HASH_TAIL_BYTES = 75

/** Makes the record that follows `head`: its line, with the newline, and the new head. */
export function encodeRecord(
  head: Head,
  record: { readonly time: string; readonly kind: AuditKind; readonly facts: AuditFacts },
): { readonly line: Buffer; readonly head: Head } {
  const { time, kind, facts } = record
  const seq = head.seq + 1
  const body = JSON.stringify({ seq, time, kind, ...facts, prev: head.hash }).slice(0, -1)
  const hash = sha256(Buffer.from(body))
  return { line: Buffer.from(`${body},"hash":"${hash}"}\n`), head: { seq, hash } }
}

/** Reads a line, without its newline. Undefined if it is no record, or not as it was written. */
export function decodeRecord(line: Buffer): TrailRecord | undefined {
  const cut = line.length - HASH_TAIL_BYTES
  if (cut <= 0) return undefined
  const hash = HASH_TAIL.exec(line.toString('latin1', cut))?.[1]
  if (hash === undefined || sha256(line.subarray(0, cut)) !== hash) return undefined
  return fieldsOf(line, hash)
}

/** Whether a line begins with a whole record and goes on behind it, which no crash does. */
export function hasBytesBehindRecord(line: Buffer): boolean {
  const end = line.indexOf('"}', line.lastIndexOf(',"hash":"'))
  return end >= 0 && end + 2 < line.length && decodeRecord(line.subarray(0, end + 2)) !== undefined
}

/** SHA-256 in lower-case hexadecimal digits. */
export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function fieldsOf(line: Buffer, hash: string): TrailRecord | undefined {
  const value = parseObject(line.toString())
  if (value === undefined) return undefined
  const { seq, time, kind, prev, hash: _hash, ...facts } = value
  if (typeof seq !== 'number' || !Number.isSafeInteger(seq) || seq < 1) return undefined
  if (typeof time !== 'string' || typeof kind !== 'string' || typeof prev !== 'string') return undefined
  return { seq, time, kind, prev, hash, facts }
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? { ...value } : undefined
  } catch {
    return undefined
  }
}
