/** Messages with extended headers, put together from the specification's byte tables and not from our codecs. */
import { hex } from '../../support/bytes.ts'

export const PAYLOAD_LEN = 0x20
const DONE = 1
const ERROR = 0x8001

/** A number as hexadecimal of so many bytes. */
export const field = (value: number | bigint, bytes: number): string => value.toString(16).padStart(2 * bytes, '0')

export interface ExtendedFields {
  readonly type: number
  readonly flags?: number
  readonly cookie?: bigint
  readonly offset?: bigint
  readonly length?: bigint
  readonly payload?: string
}

/** A request, with its payload if it has one. */
export const extendedRequest = ({
  type,
  flags = 0,
  cookie = 1n,
  offset = 0n,
  length = 0n,
  payload = '',
}: ExtendedFields): Buffer =>
  hex('21e41c71', field(flags, 2), field(type, 2), field(cookie, 8), field(offset, 8), field(length, 8), payload)

/** A chunk of a reply. */
export const extendedReply = (type: number, cookie: bigint, offset: bigint, payload = '', flags = DONE): Buffer =>
  hex(
    '6e8a278c',
    field(flags, 2),
    field(type, 2),
    field(cookie, 8),
    field(offset, 8),
    field(hex(payload).length, 8),
    payload,
  )

/** The chunk of a request that has failed, without a text. */
export const failed = (error: number, cookie: bigint, offset: bigint): Buffer =>
  extendedReply(ERROR, cookie, offset, `${field(error, 4)} 0000`)
