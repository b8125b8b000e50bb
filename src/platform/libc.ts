/**
 * The C library's calls that Node lacks, through koffi: an optional dependency with native code, loaded when it is first
 * needed. Without it, and on anything but 64-bit Linux, everything here answers "unavailable"; whoever asked must then
 * refuse what it can not know. Not a general FFI: each call has its own function with checked arguments.
 */

import { createRequire } from 'node:module'
import type { Server, Socket } from 'node:net'
import { constants, uptime } from 'node:os'

/** Who is at the other end of a Unix socket, as the kernel noted at connect() (unix(7), SO_PEERCRED). */
export interface PeerCredentials {
  readonly pid: number
  readonly uid: number
  readonly gid: number
}

/** Modes of fallocate(2), FALLOC_FL_*; both with KEEP_SIZE, so that a file never grows. */
export const AllocateMode = { PUNCH_HOLE: 0x02 | 0x01, ZERO_RANGE: 0x10 | 0x01 } as const
export type AllocateMode = (typeof AllocateMode)[keyof typeof AllocateMode]

type GetSockOpt = (fd: number, level: number, name: number, value: Buffer, length: Uint32Array) => number
type SetSockOpt = (fd: number, level: number, name: number, value: Buffer, length: number) => number
type ClockGetTime = (clock: number, time: Buffer) => number
type AsyncDone = (error: unknown, result: number) => void
type Fallocate = { async(fd: number, mode: number, offset: number, length: number, done: AsyncDone): void }

type Lseek = { async(fd: number, offset: number, whence: number, done: AsyncDone): void }

/** As much of koffi as is used; its own types come with the package, which may be absent. */
export interface Koffi {
  load(path: null): { func(definition: string): unknown }
  errno(): number
}

interface Libc {
  readonly getsockopt: GetSockOpt
  readonly setsockopt: SetSockOpt
  readonly fallocate: Fallocate
  readonly lseek: Lseek
  readonly clock_gettime: ClockGetTime
  /** Of the call that answered last; valid in its callback only. */
  readonly errno: () => number
}

/** clock_gettime(2). */
const CLOCK_BOOTTIME = 7
const timespec = Buffer.alloc(16)

const SOL_SOCKET = 1
const IPPROTO_TCP = 6
const TcpOption = { KEEPIDLE: 4, KEEPINTVL: 5, KEEPCNT: 6, QUICKACK: 12, USER_TIMEOUT: 18 } as const
const ON = Buffer.from([1, 0, 0, 0])
const SO_PEERCRED = 17
/** struct ucred: pid, uid, gid, 32 bits each. */
const UCRED_SIZE = 12
/** What the kernel reports when it noted nobody, and the overflow of (uid_t) -1. */
const NOBODY = 0xffff_ffff

/**
 * fallocate() runs on libuv's threads, four by default, which also do all reads and writes of files: half of them at
 * most may be busy with a slow one. koffi itself throws when too many wait.
 */
const MAX_RUNNING_ALLOCATIONS = 2

let libc: Libc | null | undefined
let runningAllocations = 0
const waitingAllocations: (() => void)[] = []

/** Whether the functions of this module work here at all. */
export function isLibcAvailable(): boolean {
  return loadLibc() !== undefined
}

/** The peer of a connected Unix socket; undefined if that can not be known (another kind of socket, no koffi). */
export function peerCredentials(fd: number): PeerCredentials | undefined {
  const ucred = Buffer.alloc(UCRED_SIZE)
  const length = new Uint32Array([UCRED_SIZE])
  const failed = loadLibc()?.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ucred, length) !== 0
  if (failed || length[0] !== UCRED_SIZE) return undefined
  const uid = ucred.readUInt32LE(4)
  const gid = ucred.readUInt32LE(8)
  // A TCP socket answers too: pid 0, uid and gid -1.
  if (uid === NOBODY || gid === NOBODY) return undefined
  return { pid: ucred.readInt32LE(0), uid, gid }
}

/** How often TCP asks a silent peer whether it is there, in seconds, and when it gives up. */
export interface KeepAlive {
  readonly idleS: number
  readonly intervalS: number
  readonly probes: number
  /** Also for data that the peer does not acknowledge or does not take (tcp(7), TCP_USER_TIMEOUT). */
  readonly timeoutMs: number
}

/** Sets all of it on a TCP socket; whether that worked. The socket's SO_KEEPALIVE is the caller's. */
export function setKeepAlive(fd: number, { idleS, intervalS, probes, timeoutMs }: KeepAlive): boolean {
  const setsockopt = loadLibc()?.setsockopt
  if (setsockopt === undefined) return false
  const values = [
    [TcpOption.KEEPIDLE, idleS],
    [TcpOption.KEEPINTVL, intervalS],
    [TcpOption.KEEPCNT, probes],
    [TcpOption.USER_TIMEOUT, timeoutMs],
  ] as const
  return values.every(([name, value]) => {
    const bytes = Buffer.alloc(4)
    bytes.writeInt32LE(value)
    return setsockopt(fd, IPPROTO_TCP, name, bytes, bytes.length) === 0
  })
}

/**
 * Acknowledges what has come on a TCP socket at once (tcp(7), TCP_QUICKACK), and what comes until we send again. Whether
 * that worked.
 */
export function acknowledge(fd: number): boolean {
  return loadLibc()?.setsockopt(fd, IPPROTO_TCP, TcpOption.QUICKACK, ON, ON.length) === 0
}

/**
 * Milliseconds since this machine was started, those in which it slept included (CLOCK_BOOTTIME): one number for all
 * processes of the machine, that nobody sets. It takes a fifth of a microsecond, and without koffi some ten.
 */
export function bootMs(): number {
  if (loadLibc()?.clock_gettime(CLOCK_BOOTTIME, timespec) !== 0) return uptime() * 1000
  // Seconds of 32 bits are 136 years.
  return timespec.readUInt32LE(0) * 1000 + timespec.readUInt32LE(8) / 1_000_000
}

/**
 * fallocate(2) on another thread. `offset` and `length` are in bytes, safe integers. Resolves to 0 or an errno value:
 * EOPNOTSUPP where the file system can not, ENOSYS where this module can not. Never rejects.
 */
export async function fileAllocate(fd: number, mode: AllocateMode, offset: number, length: number): Promise<number> {
  const loaded = loadLibc()
  if (loaded === undefined) return constants.errno.ENOSYS
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length)) return constants.errno.EINVAL
  if (runningAllocations === MAX_RUNNING_ALLOCATIONS) await new Promise<void>(wake => waitingAllocations.push(wake))
  else runningAllocations++
  try {
    return await new Promise<number>((resolve, reject) => {
      loaded.fallocate.async(fd, mode, offset, length, (error, result) => {
        if (error) reject(error)
        else resolve(result === 0 ? 0 : loaded.errno())
      })
    })
  } catch {
    return constants.errno.EIO
  } finally {
    // A waiting call takes over the place of this one, so the count stays.
    const wake = waitingAllocations.shift()
    if (wake === undefined) runningAllocations--
    else wake()
  }
}

/** Where lseek(2) goes: SEEK_END, SEEK_DATA and SEEK_HOLE. */
export const SeekTo = { END: 2, DATA: 3, HOLE: 4 } as const
export type SeekTo = (typeof SeekTo)[keyof typeof SeekTo]

/**
 * lseek(2) on another thread: it may have to wait for a disk, or for a server. Undefined: there is no such place, or nobody can tell. The
 * caller sees to it that few are under way. Never rejects.
 */
export async function seekFile(fd: number, offset: number, to: SeekTo): Promise<number | undefined> {
  const loaded = loadLibc()
  if (loaded === undefined || !Number.isSafeInteger(offset)) return undefined
  return await new Promise<number | undefined>(resolve => {
    try {
      loaded.lseek.async(fd, offset, to, (error, result) => resolve(error || result < 0 ? undefined : Number(result)))
    } catch {
      resolve(undefined)
    }
  })
}

/**
 * The file descriptor of a connected or listening socket; undefined when it has none (destroyed, or not Linux).
 * Node documents no way to it. `_handle.fd` has been there since 0.10 on all Unix systems, and what is found is checked.
 */
export function descriptorOf(socket: Socket | Server): number | undefined {
  const { _handle: handle } = socket as (Socket | Server) & { readonly _handle?: { readonly fd?: unknown } | null }
  const fd = handle?.fd
  return typeof fd === 'number' && Number.isInteger(fd) && fd >= 0 ? fd : undefined
}

function loadLibc(): Libc | undefined {
  if (libc === undefined) libc = openLibc() ?? null
  return libc ?? undefined
}

function openLibc(): Libc | undefined {
  return openLibrary((library, koffi) => {
    return {
      getsockopt: library.func('int getsockopt(int, int, int, void *, uint32_t *)') as GetSockOpt,
      setsockopt: library.func('int setsockopt(int, int, int, void *, uint32_t)') as SetSockOpt,
      fallocate: library.func('int fallocate(int, int, int64_t, int64_t)') as Fallocate,
      lseek: library.func('int64_t lseek(int, int64_t, int)') as Lseek,
      clock_gettime: library.func('int clock_gettime(int, void *)') as ClockGetTime,
      errno: () => koffi.errno(),
    }
  })
}

/** What `define` makes of the C library's functions; undefined where they can not be called. */
export function openLibrary<T>(define: (library: ReturnType<Koffi['load']>, koffi: Koffi) => T): T | undefined {
  // The definitions are those of 64-bit Linux (off_t of 64 bits, little endian), glibc and musl alike.
  if (process.platform !== 'linux' || (process.arch !== 'x64' && process.arch !== 'arm64')) return undefined
  try {
    const koffi: Koffi = createRequire(import.meta.url)('koffi')
    // null: what the process itself is linked with, so the library's file name does not matter.
    return define(koffi.load(null), koffi)
  } catch {
    return undefined
  }
}
