/**
 * What the commands of the protocol are on a file descriptor. Every operation answers by its callback, exactly once and
 * never before it returned, with an error value of the protocol. Ranges are checked by the caller.
 */
import { fdatasync, read, write } from 'node:fs'
import { constants } from 'node:os'
import { AllocateMode, fileAllocate } from '../platform/libc.ts'
import { Err } from '../protocol/constants.ts'

/** Takes the outcome of an operation. */
export type Done = (error: Err) => void

/** How WRITE_ZEROES is to be done (proto.md, "NBD_CMD_WRITE_ZEROES"). */
export interface ZeroOptions {
  /** Space must stay allocated. */
  readonly noHole: boolean
  /** Say NOTSUP rather than write. */
  readonly fast: boolean
}

/** TRIM and WRITE_ZEROES may be 4 GiB long; they are done in pieces of this many bytes, so that they can be given up. */
const ALLOCATE_PIECE_BYTES = 256 * 1024 * 1024

/** Zeroes are written in pieces of this many bytes. */
const ZERO_PIECE_BYTES = 1024 * 1024
let zeroes: Buffer | undefined

/** The file system or device can not do it to this range: not a fault, there are other ways. */
const UNABLE: readonly number[] = [constants.errno.EOPNOTSUPP, constants.errno.ENOSYS, constants.errno.EINVAL]

export class FileOperations {
  readonly #fd: number
  readonly #isBlockDevice: boolean
  #lostWrites = false
  #abandoned = false

  /** The descriptor stays the caller's; it must stay open until every operation has answered. */
  constructor(fd: number, isBlockDevice: boolean) {
    this.#fd = fd
    this.#isBlockDevice = isBlockDevice
  }

  /** Nobody waits for answers any more: long operations end at their next step. */
  abandon(): void {
    this.#abandoned = true
  }

  /** Fills `buffer` from its byte `start` on; `position` is the file's byte that belongs at `start`. */
  read(buffer: Buffer, start: number, position: number, done: Done): void {
    read(this.#fd, buffer, start, buffer.length - start, position, (error, count) => {
      if (error !== null) done(errorOf(error))
      // Somebody cut the file short while it is exported.
      else if (count === 0 && start < buffer.length) done(Err.IO)
      else if (start + count < buffer.length) this.read(buffer, start + count, position + count, done)
      else done(Err.NONE)
    })
  }

  write(bytes: Buffer, position: number, done: Done): void {
    write(this.#fd, bytes, 0, bytes.length, position, (error, count) => {
      if (error !== null) done(errorOf(error))
      else if (count < bytes.length) this.write(bytes.subarray(count), position + count, done)
      else done(Err.NONE)
    })
  }

  /**
   * What was written is on stable storage. Once that failed it fails for ever: the kernel reports lost pages once and
   * then takes them for clean, so a second fdatasync() would promise what is not so (https://lwn.net/Articles/752063/).
   */
  flush(done: Done): void {
    fdatasync(this.#fd, error => {
      if (error !== null) this.#lostWrites = true
      done(error !== null ? errorOf(error) : this.#lostWrites ? Err.IO : Err.NONE)
    })
  }

  /** Gives the space of a range back where that is possible, and is content where it is not: TRIM is a hint. */
  async trim(offset: number, length: number): Promise<Err> {
    const errno = await this.#allocate(AllocateMode.PUNCH_HOLE, offset, length)
    return isUnable(errno) ? Err.NONE : errorOfErrno(errno)
  }

  /** Makes a range read as zeroes. NOTSUP only if `fast` was asked for, and then nothing was changed. */
  async zero(offset: number, length: number, options: ZeroOptions): Promise<Err> {
    for (const mode of this.#waysToZero(options)) {
      const errno = await this.#allocate(mode, offset, length)
      if (!isUnable(errno)) return errorOfErrno(errno)
    }
    return options.fast ? Err.NOTSUP : this.#writeZeroes(offset, length)
  }

  #waysToZero(options: ZeroOptions): readonly AllocateMode[] {
    // ZERO_RANGE on a device that can not do it makes the kernel write: right, but not fast.
    const zeroRange = this.#isBlockDevice && options.fast ? [] : [AllocateMode.ZERO_RANGE]
    return options.noHole ? zeroRange : [AllocateMode.PUNCH_HOLE, ...zeroRange]
  }

  async #allocate(mode: AllocateMode, offset: number, length: number): Promise<number> {
    for (let at = 0; at < length && !this.#abandoned; at += ALLOCATE_PIECE_BYTES) {
      const errno = await fileAllocate(this.#fd, mode, offset + at, Math.min(length - at, ALLOCATE_PIECE_BYTES))
      if (errno !== 0) return errno
    }
    return 0
  }

  async #writeZeroes(offset: number, length: number): Promise<Err> {
    zeroes ??= Buffer.alloc(ZERO_PIECE_BYTES)
    for (let at = 0; at < length && !this.#abandoned; at += ZERO_PIECE_BYTES) {
      const piece = zeroes.subarray(0, Math.min(length - at, ZERO_PIECE_BYTES))
      const error = await new Promise<Err>(resolve => this.write(piece, offset + at, resolve))
      if (error !== Err.NONE) return error
    }
    return Err.NONE
  }
}

function isUnable(errno: number): boolean {
  return UNABLE.includes(errno)
}

/** Node's errors carry the errno value negated. */
function errorOf(error: NodeJS.ErrnoException): Err {
  return errorOfErrno(-(error.errno ?? -constants.errno.EIO))
}

function errorOfErrno(errno: number): Err {
  switch (errno) {
    case 0:
      return Err.NONE
    case constants.errno.ENOSPC:
    case constants.errno.EDQUOT:
      return Err.NOSPC
    case constants.errno.EPERM:
    case constants.errno.EACCES:
    case constants.errno.EROFS:
      return Err.PERM
    default:
      return Err.IO
  }
}
