import { Info, MAX_STRING_BYTES } from './constants.ts'
import { ProtocolError } from './errors.ts'
import { decodeString } from './strings.ts'

/** What a client asks for with INFO or GO. */
export interface InfoRequest {
  readonly name: string
  /** Information types as sent; unknown ones are to be ignored. */
  readonly infos: readonly number[]
}

/** Block size constraints of an export, in bytes (proto.md, "Size constraints"). */
export interface BlockSize {
  readonly minimum: number
  readonly preferred: number
  readonly maximumPayload: number
}

/** What INFO_EXPORT says. */
export interface ExportFacts {
  readonly sizeBytes: bigint
  readonly flags: number
}

/** Why data of INFO or GO can not be used; becomes ERR_INVALID or ERR_TOO_BIG. */
export type InfoProblem = 'invalid' | 'too big'

/**
 * Data of INFO and GO (proto.md, "NBD_OPT_INFO").
 *
 *     0  u32  length of name, at most data length − 6
 *     4       name
 *     …  u16  number of information requests
 *     …  u16  each of them
 *
 * Every length is held against the data that are really there: CVE-2022-26495 and CVE-2022-26496 were this message.
 */
export function decodeInfoRequest(data: Buffer): InfoRequest | InfoProblem {
  if (data.length < 6) return 'invalid'
  const nameLength = data.readUInt32BE(0)
  if (nameLength > data.length - 6) return 'invalid'
  if (nameLength > MAX_STRING_BYTES) return 'too big'
  const name = decodeString(data.subarray(4, 4 + nameLength))
  if (name === undefined) return 'invalid'
  const count = data.readUInt16BE(4 + nameLength)
  const start = 6 + nameLength
  if (data.length !== start + 2 * count) return 'invalid'
  const infos: number[] = []
  for (let at = start; at < data.length; at += 2) infos.push(data.readUInt16BE(at))
  return { name, infos }
}

/** The same message from the client's side. */
export function encodeInfoRequest(request: InfoRequest): Buffer {
  const name = Buffer.from(request.name)
  const bytes = Buffer.allocUnsafe(6 + name.length + 2 * request.infos.length)
  bytes.writeUInt32BE(name.length, 0)
  bytes.set(name, 4)
  bytes.writeUInt16BE(request.infos.length, 4 + name.length)
  let at = 6 + name.length
  for (const info of request.infos) at = bytes.writeUInt16BE(info, at)
  return bytes
}

/**
 * INFO_EXPORT, 12 bytes.
 *
 *     0  u16  0
 *     2  u64  size in bytes
 *    10  u16  transmission flags
 */
export function encodeInfoExport(facts: ExportFacts): Buffer {
  const bytes = Buffer.allocUnsafe(12)
  bytes.writeUInt16BE(Info.EXPORT, 0)
  bytes.writeBigUInt64BE(facts.sizeBytes, 2)
  bytes.writeUInt16BE(facts.flags, 10)
  return bytes
}

/** INFO_NAME or INFO_DESCRIPTION: a u16 and the text to the end. */
export function encodeInfoText(info: typeof Info.NAME | typeof Info.DESCRIPTION, text: string): Buffer {
  const body = Buffer.from(text)
  const bytes = Buffer.allocUnsafe(2 + body.length)
  bytes.writeUInt16BE(info, 0)
  bytes.set(body, 2)
  return bytes
}

/**
 * INFO_BLOCK_SIZE, 14 bytes.
 *
 *     0  u16  3
 *     2  u32  minimum
 *     6  u32  preferred
 *    10  u32  maximum payload
 */
export function encodeInfoBlockSize(size: BlockSize): Buffer {
  const bytes = Buffer.allocUnsafe(14)
  bytes.writeUInt16BE(Info.BLOCK_SIZE, 0)
  bytes.writeUInt32BE(size.minimum, 2)
  bytes.writeUInt32BE(size.preferred, 6)
  bytes.writeUInt32BE(size.maximumPayload, 10)
  return bytes
}

/** One NBD_REP_INFO as a client of the upstream reads it; types we did not ask for are passed over. */
export type InfoReply =
  | ({ readonly kind: 'export' } & ExportFacts)
  | ({ readonly kind: 'block size' } & BlockSize)
  | { readonly kind: 'text'; readonly type: typeof Info.NAME | typeof Info.DESCRIPTION; readonly text: string }
  | { readonly kind: 'other' }

/**
 * Data of NBD_REP_INFO.
 * @throws ProtocolError BAD_LENGTH when it is too short for its type; BAD_REPLY for block sizes that the spec forbids
 */
export function decodeInfoReply(data: Buffer): InfoReply {
  if (data.length < 2) throw new ProtocolError('BAD_LENGTH', 'NBD_REP_INFO without a type')
  const type = data.readUInt16BE(0)
  if (type === Info.EXPORT) {
    if (data.length !== 12) throw new ProtocolError('BAD_LENGTH', `INFO_EXPORT of ${data.length} bytes`)
    return { kind: 'export', sizeBytes: data.readBigUInt64BE(2), flags: data.readUInt16BE(10) }
  }
  // proto.md, "NBD_INFO_NAME": what the server prefers to call it; "NBD_INFO_DESCRIPTION": for people.
  if (type === Info.NAME || type === Info.DESCRIPTION) return { kind: 'text', type, text: data.toString('utf8', 2) }
  if (type !== Info.BLOCK_SIZE) return { kind: 'other' }
  if (data.length !== 14) throw new ProtocolError('BAD_LENGTH', `INFO_BLOCK_SIZE of ${data.length} bytes`)
  const [minimum, preferred, maximumPayload] = [data.readUInt32BE(2), data.readUInt32BE(6), data.readUInt32BE(10)]
  // proto.md, "Size constraints": minimum MUST be a power of 2 up to 2^16; preferred MUST be a power of 2, no smaller
  // than minimum; maximum payload MUST NOT be smaller than preferred.
  const sane =
    isPowerOfTwo(minimum) &&
    minimum <= 1 << 16 &&
    isPowerOfTwo(preferred) &&
    preferred >= minimum &&
    maximumPayload >= preferred
  if (!sane) {
    throw new ProtocolError('BAD_REPLY', `impossible block sizes ${minimum}/${preferred}/${maximumPayload}`)
  }
  return { kind: 'block size', minimum, preferred, maximumPayload }
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && Number.isInteger(Math.log2(value))
}
