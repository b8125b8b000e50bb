/**
 * Every number of the NBD protocol that nbdgate speaks or has to recognise, grouped as doc/proto.md groups them. The
 * names are the spec's without `NBD_`: `NBD_OPT_STARTTLS` is `Opt.STARTTLS`. Nothing here decides anything.
 */

/** Magic numbers of the handshake and of each message (proto.md, "Reserved Magic values"). */
export const Magic = {
  /** "NBDMAGIC", the first eight bytes of every server. */
  NBDMAGIC: 0x4e42444d41474943n,
  /** "IHAVEOPT", newstyle greeting and head of each option. */
  IHAVEOPT: 0x49484156454f5054n,
  /** Oldstyle greeting; refused. */
  CLISERV: 0x00420281861253n,
  /** Head of an option reply. */
  OPTION_REPLY: 0x0003e889045565a9n,
  REQUEST: 0x25609513,
  SIMPLE_REPLY: 0x67446698,
  STRUCTURED_REPLY: 0x668e33ef,
  EXTENDED_REQUEST: 0x21e41c71,
  EXTENDED_REPLY: 0x6e8a278c,
} as const

/** Handshake flags, NBD_FLAG_* of the server's greeting (u16). */
export const HandshakeFlag = { FIXED_NEWSTYLE: 1 << 0, NO_ZEROES: 1 << 1 } as const

/** Client flags, NBD_FLAG_C_* (u32). */
export const ClientFlag = { FIXED_NEWSTYLE: 1 << 0, NO_ZEROES: 1 << 1 } as const

/** Transmission flags, NBD_FLAG_* of an export (u16). */
export const TransmissionFlag = {
  HAS_FLAGS: 1 << 0,
  READ_ONLY: 1 << 1,
  SEND_FLUSH: 1 << 2,
  SEND_FUA: 1 << 3,
  ROTATIONAL: 1 << 4,
  SEND_TRIM: 1 << 5,
  SEND_WRITE_ZEROES: 1 << 6,
  SEND_DF: 1 << 7,
  CAN_MULTI_CONN: 1 << 8,
  SEND_RESIZE: 1 << 9,
  SEND_CACHE: 1 << 10,
  SEND_FAST_ZERO: 1 << 11,
  BLOCK_STATUS_PAYLOAD: 1 << 12,
} as const

/** Option types, NBD_OPT_*. */
export const Opt = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  PEEK_EXPORT: 4,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
  EXTENDED_HEADERS: 11,
} as const
export type Opt = (typeof Opt)[keyof typeof Opt]

/** Option reply types, NBD_REP_*. Errors have bit 31 set. */
export const Rep = {
  ACK: 1,
  SERVER: 2,
  INFO: 3,
  META_CONTEXT: 4,
  ERR_UNSUP: 0x8000_0001,
  ERR_POLICY: 0x8000_0002,
  ERR_INVALID: 0x8000_0003,
  ERR_PLATFORM: 0x8000_0004,
  ERR_TLS_REQD: 0x8000_0005,
  ERR_UNKNOWN: 0x8000_0006,
  ERR_SHUTDOWN: 0x8000_0007,
  ERR_BLOCK_SIZE_REQD: 0x8000_0008,
  ERR_TOO_BIG: 0x8000_0009,
  ERR_EXT_HEADER_REQD: 0x8000_000a,
} as const
export type Rep = (typeof Rep)[keyof typeof Rep]

/** Information types of INFO and GO, NBD_INFO_*. */
export const Info = { EXPORT: 0, NAME: 1, DESCRIPTION: 2, BLOCK_SIZE: 3 } as const
export type Info = (typeof Info)[keyof typeof Info]

/** Request types, NBD_CMD_*. */
export const Cmd = {
  READ: 0,
  WRITE: 1,
  DISC: 2,
  FLUSH: 3,
  TRIM: 4,
  CACHE: 5,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7,
  RESIZE: 8,
} as const
export type Cmd = (typeof Cmd)[keyof typeof Cmd]

/** Command flags, NBD_CMD_FLAG_* (u16). */
export const CmdFlag = {
  FUA: 1 << 0,
  NO_HOLE: 1 << 1,
  DF: 1 << 2,
  REQ_ONE: 1 << 3,
  FAST_ZERO: 1 << 4,
  PAYLOAD_LEN: 1 << 5,
} as const

/** Structured reply flags, NBD_REPLY_FLAG_* (u16). */
export const ReplyFlag = { DONE: 1 << 0 } as const

/** Structured reply types, NBD_REPLY_TYPE_* (u16). Errors have bit 15 set. */
export const ReplyType = {
  NONE: 0,
  OFFSET_DATA: 1,
  OFFSET_HOLE: 2,
  BLOCK_STATUS: 5,
  BLOCK_STATUS_EXT: 6,
  ERROR: 0x8001,
  ERROR_OFFSET: 0x8002,
} as const
export type ReplyType = (typeof ReplyType)[keyof typeof ReplyType]

/** Bit 15 of a structured reply type: the chunk reports an error. */
export const REPLY_TYPE_IS_ERROR = 0x8000

/** Error values of replies, NBD_E* (u32). */
export const Err = {
  NONE: 0,
  PERM: 1,
  IO: 5,
  NOMEM: 12,
  INVAL: 22,
  NOSPC: 28,
  OVERFLOW: 75,
  NOTSUP: 95,
  SHUTDOWN: 108,
} as const
export type Err = (typeof Err)[keyof typeof Err]

/** Longest string of the protocol in bytes (proto.md, "Values": MUST NOT exceed 4096). */
export const MAX_STRING_BYTES = 4096

/** Largest payload that is relayed, and what INFO_BLOCK_SIZE says at most (proto.md, "Size constraints": 2^25). */
export const MAX_PAYLOAD_BYTES = 1 << 25

/** A refused WRITE up to this long is drained; a longer one ends the connection (as nbdkit does). */
export const MAX_DRAINED_BYTES = 1 << 27

/** Block sizes in bytes where an upstream names none (proto.md, "Size constraints"). */
export const DEFAULT_BLOCK_SIZE = { minimum: 1, preferred: 4096, maximumPayload: MAX_PAYLOAD_BYTES } as const

/** Types of the PROXY protocol's TLVs, PP2_TYPE_* and PP2_SUBTYPE_* (proxy-protocol.txt, 2.2); those we know. */
export const Pp2Type = {
  CRC32C: 0x03,
  SSL: 0x20,
  SSL_VERSION: 0x21,
  SSL_CN: 0x22,
  SSL_CIPHER: 0x23,
} as const
export type Pp2Type = (typeof Pp2Type)[keyof typeof Pp2Type]

/** What PP2_TYPE_SSL says that there is, PP2_CLIENT_* (u8). */
export const Pp2Client = {
  SSL: 1 << 0,
  CERT_CONN: 1 << 1,
  CERT_SESS: 1 << 2,
} as const

/** Longest PROXY header that is read or sent, which is what HAProxy's buffer holds; certificates may be in there. */
export const MAX_PROXY_HEADER_BYTES = 16 * 1024
