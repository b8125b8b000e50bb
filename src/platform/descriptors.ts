/** Descriptors that another process has made: what they are, and that children do not get them. Through koffi, as libc.ts. */
import { closeSync } from 'node:fs'
import { constants } from 'node:os'
import { getSystemErrorName } from 'node:util'
import { openLibrary } from './libc.ts'

/** Where a socket is bound, or, `peer`, what it is connected to. */
export type SocketName =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'ip'; readonly address: string; readonly port: number }

interface Calls {
  readonly getsockname: (fd: number, name: Buffer, length: Uint32Array) => number
  readonly getsockopt: (fd: number, level: number, name: number, value: Buffer, length: Uint32Array) => number
  readonly fcntl: (fd: number, command: number, ...rest: readonly (string | number)[]) => number
  readonly socket: (domain: number, type: number, protocol: number) => number
  readonly bind: (fd: number, name: Buffer, length: number) => number
  readonly errno: () => number
  readonly sendto: (fd: number, data: Buffer, size: number, flags: number, name: Buffer, length: number) => number
}

const AF = { UNIX: 1, INET: 2, INET6: 10 } as const
const SOCK = { STREAM: 1, DGRAM: 2, NONBLOCK: 0o4000, CLOEXEC: 0o2000000 } as const
const SOL_SOCKET = 1
const SO = { TYPE: 3, ACCEPTCONN: 30 } as const
const F_SETFD = 2
const FD_CLOEXEC = 1
const MSG_NOSIGNAL = 0x4000
/** struct sockaddr_un: family and 108 bytes. */
const SOCKADDR_UN_SIZE = 110
const MAX_PATH_BYTES = 107

let calls: Calls | null | undefined

/** Whether the functions of this module work here at all. */
export function areDescriptorsKnown(): boolean {
  return load() !== undefined
}

/** Whether it is a stream socket that listens. */
export function isListening(fd: number): boolean {
  return option(fd, SO.TYPE) === SOCK.STREAM && option(fd, SO.ACCEPTCONN) === 1
}

/** Whether it is a stream socket that is connected to somebody, or was. */
export function isStream(fd: number): boolean {
  return option(fd, SO.TYPE) === SOCK.STREAM && option(fd, SO.ACCEPTCONN) === 0
}

/** Where a socket is bound; undefined if it is no socket, or of a kind that is not known here. */
export function socketName(fd: number): SocketName | undefined {
  const name = Buffer.alloc(SOCKADDR_UN_SIZE)
  const length = new Uint32Array([name.length])
  if (load()?.getsockname(fd, name, length) !== 0) return undefined
  const [size = 0] = length
  switch (name.readUInt16LE(0)) {
    case AF.UNIX: {
      const bytes = name.subarray(2, Math.min(size, name.length))
      // unix(7): a path ends with its NUL, an abstract name begins with one and has no end.
      const isAbstract = bytes[0] === 0
      const end = isAbstract ? -1 : bytes.indexOf(0)
      const text = (end < 0 ? bytes : bytes.subarray(0, end)).toString('utf8')
      return { kind: 'unix', path: isAbstract ? `@${text.slice(1)}` : text }
    }
    case AF.INET:
      return { kind: 'ip', address: [...name.subarray(4, 8)].join('.'), port: name.readUInt16BE(2) }
    case AF.INET6: {
      const groups = Array.from({ length: 8 }, (_, at) => name.readUInt16BE(8 + 2 * at).toString(16))
      return { kind: 'ip', address: groups.join(':'), port: name.readUInt16BE(2) }
    }
    default:
      return undefined
  }
}

/** Keeps a descriptor from the programs that this one starts; whether that worked. */
export function closeOnExec(fd: number): boolean {
  return load()?.fcntl(fd, F_SETFD, 'int', FD_CLOEXEC) === 0
}

/**
 * A stream socket that is bound to a path, and does not listen yet. Not by Node, which removes the path when it closes the
 * socket, whoever else has it. Undefined where this module does not work. @throws Error with the `code` of what is wrong
 */
export function bindUnix(path: string): number | undefined {
  const c = load()
  if (c === undefined) return undefined
  const name = unixName(path)
  if (name === undefined) throw systemError(constants.errno.ENAMETOOLONG)
  const fd = c.socket(AF.UNIX, SOCK.STREAM | SOCK.CLOEXEC | SOCK.NONBLOCK, 0)
  if (fd < 0) throw systemError(c.errno())
  if (c.bind(fd, name.bytes, name.size) === 0) return fd
  const errno = c.errno()
  closeSync(fd)
  throw systemError(errno)
}

/** Sends one datagram to a Unix socket, `@` standing for the NUL of an abstract name; whether it was taken. */
export function sendDatagram(path: string, data: Buffer): boolean {
  const c = load()
  const name = unixName(path)
  if (c === undefined || name === undefined) return false
  const fd = c.socket(AF.UNIX, SOCK.DGRAM | SOCK.CLOEXEC, 0)
  if (fd < 0) return false
  try {
    return c.sendto(fd, data, data.length, MSG_NOSIGNAL, name.bytes, name.size) === data.length
  } finally {
    closeSync(fd)
  }
}

/** struct sockaddr_un; undefined for a path that does not fit into it. */
function unixName(path: string): { readonly bytes: Buffer; readonly size: number } | undefined {
  const isAbstract = path.startsWith('@')
  const text = Buffer.from(isAbstract ? `\0${path.slice(1)}` : path)
  if (text.length > MAX_PATH_BYTES) return undefined
  const bytes = Buffer.alloc(SOCKADDR_UN_SIZE)
  bytes.writeUInt16LE(AF.UNIX, 0)
  text.copy(bytes, 2)
  return { bytes, size: 2 + text.length + (isAbstract ? 0 : 1) }
}

function systemError(errno: number): Error {
  const code = getSystemErrorName(-errno)
  return Object.assign(new Error(code), { code })
}

function option(fd: number, name: number): number | undefined {
  const value = Buffer.alloc(4)
  const failed = load()?.getsockopt(fd, SOL_SOCKET, name, value, new Uint32Array([value.length])) !== 0
  return failed ? undefined : value.readInt32LE(0)
}

function load(): Calls | undefined {
  calls ??=
    openLibrary((library, koffi) => ({
      errno: () => koffi.errno(),
      bind: library.func('int bind(int, void *, uint32_t)') as Calls['bind'],
      getsockname: library.func('int getsockname(int, void *, uint32_t *)') as Calls['getsockname'],
      getsockopt: library.func('int getsockopt(int, int, int, void *, uint32_t *)') as Calls['getsockopt'],
      fcntl: library.func('int fcntl(int, int, ...)') as Calls['fcntl'],
      socket: library.func('int socket(int, int, int)') as Calls['socket'],
      sendto: library.func('int64_t sendto(int, void *, uint64_t, int, void *, uint32_t)') as Calls['sendto'],
    })) ?? null
  return calls ?? undefined
}
