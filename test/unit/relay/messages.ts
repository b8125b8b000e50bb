/** Messages of the transmission phase, put together from proto.md's byte tables and not from our codecs. */
import { hex } from '../../support/bytes.ts'

const field = (value: number | bigint, bytes: number): string => value.toString(16).padStart(2 * bytes, '0')

export interface RequestFields {
  readonly type: number
  readonly flags?: number
  readonly cookie?: bigint
  readonly offset?: bigint
  readonly length?: number
  /** Hexadecimal. */
  readonly payload?: string
}

/** A request, with its payload if it has one. */
export function request({
  type,
  flags = 0,
  cookie = 1n,
  offset = 0n,
  length = 0,
  payload = '',
}: RequestFields): Buffer {
  return hex('25609513', field(flags, 2), field(type, 2), field(cookie, 8), field(offset, 8), field(length, 4), payload)
}

/** A simple reply, with its payload if it has one. */
export function simpleReply(cookie: bigint, error = 0, payload = ''): Buffer {
  return hex('67446698', field(error, 4), field(cookie, 8), payload)
}

export interface ChunkFields {
  readonly type: number
  /** 1 is DONE. */
  readonly flags?: number
  readonly cookie?: bigint
  /** Hexadecimal. */
  readonly payload?: string
  /** Where the length is a lie. */
  readonly length?: number
}

/** A structured reply chunk. */
export function chunk({ type, flags = 0, cookie = 1n, payload = '', length }: ChunkFields): Buffer {
  const size = length ?? hex(payload).length
  return hex('668e33ef', field(flags, 2), field(type, 2), field(cookie, 8), field(size, 4), payload)
}

/** Command numbers of proto.md, "Request types". */
export const READ = 0
export const WRITE = 1
export const DISC = 2
export const FLUSH = 3
export const TRIM = 4
export const CACHE = 5
export const WRITE_ZEROES = 6

/** HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES, DF, CACHE, FAST_ZERO: proto.md, "Transmission flags". */
export const ALL_FLAGS = 0x0ced

/** READ_ONLY. */
export const READ_ONLY = 0x0002
