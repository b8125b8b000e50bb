import { type BigIntStats, close, constants, fstat, open, stat } from 'node:fs'
import { readFile } from 'node:fs/promises'
import type { Duplex } from 'node:stream'
import { promisify } from 'node:util'
import { isLibcAvailable } from '../platform/libc.ts'
import { DEFAULT_BLOCK_SIZE, TransmissionFlag } from '../protocol/constants.ts'
import type { BlockSize, ExportFacts } from '../protocol/info.ts'
import type { Share } from '../stream/memory.ts'
import { UpstreamError } from './errors.ts'
import { serveFile } from './file-server.ts'

/** A file or block device as an upstream that needs no server: what GO would have told of it, and its stream. */
export interface FileUpstream extends ExportFacts {
  readonly blockSize: BlockSize
  /**
   * Speaks the transmission phase as a server, with structured replies if asked to: requests are written, replies are read. Owns the
   * descriptor, so it has to be ended or destroyed.
   */
  readonly stream: Duplex
}

/** Not to become the terminal's process, and not to wait for whatever is no plain file after all. */
const OPEN_ALWAYS = constants.O_NONBLOCK | constants.O_NOCTTY

/** Codes that mean: perhaps not for writing, but for reading. */
const NOT_WRITABLE: readonly string[] = ['EACCES', 'EPERM', 'EROFS']

/** Sizes in /sys are in sectors of 512 bytes, whatever the device's own are. */
const SECTOR_BYTES = 512n

const openDescriptor = promisify(open)
const closeDescriptor = promisify(close)
const statPath: (path: string, options: { bigint: true }) => Promise<BigIntStats> = promisify(stat)
const statDescriptor: (fd: number, options: { bigint: true }) => Promise<BigIntStats> = promisify(fstat)

/**
 * Opens an existing file or block device; never creates one. One that may not be written is opened for reading, and says
 * so in its flags. What is read into and written from takes `memory`. The size is that of now: a file that grows later is not seen to.
 * @throws UpstreamError DIAL when it can not be opened, REFUSED when it is neither file nor block device
 */
export async function openFile(
  path: string,
  options: { readonly readOnly: boolean; readonly structured?: boolean; readonly memory?: Share | undefined },
): Promise<FileUpstream> {
  // Before opening, too: to open a tape, a watchdog or a FIFO is already to do something to it.
  refuseOthers(path, await statPath(path, { bigint: true }).catch(error => fail(path, error)))
  const { fd, writable } = await openWhatIsAllowed(path, options.readOnly)
  try {
    const stats = await statDescriptor(fd, { bigint: true })
    refuseOthers(path, stats)
    const isBlockDevice = stats.isBlockDevice()
    const sizeBytes = isBlockDevice ? await deviceSize(stats.rdev) : stats.size
    if (sizeBytes > BigInt(Number.MAX_SAFE_INTEGER)) throw new UpstreamError('REFUSED', `${path} is too large`)
    const structured = options.structured === true
    const flags = transmissionFlags(writable) | (structured ? TransmissionFlag.SEND_DF : 0)
    const stream = serveFile(
      { fd, isBlockDevice, isSparse: isSparse(stats), sizeBytes, flags, structured },
      options.memory,
    )
    return { sizeBytes, flags, blockSize: DEFAULT_BLOCK_SIZE, stream }
  } catch (error) {
    await closeDescriptor(fd)
    return fail(path, error)
  }
}

async function openWhatIsAllowed(path: string, readOnly: boolean): Promise<{ fd: number; writable: boolean }> {
  if (!readOnly) {
    try {
      return { fd: await openDescriptor(path, constants.O_RDWR | OPEN_ALWAYS), writable: true }
    } catch (error) {
      if (!NOT_WRITABLE.includes(codeOf(error))) return fail(path, error)
    }
  }
  try {
    return { fd: await openDescriptor(path, constants.O_RDONLY | OPEN_ALWAYS), writable: false }
  } catch (error) {
    return fail(path, error)
  }
}

function transmissionFlags(writable: boolean): number {
  const { HAS_FLAGS, READ_ONLY, SEND_FLUSH, SEND_FUA, CAN_MULTI_CONN } = TransmissionFlag
  // The page cache is one for all descriptors of a file, so what one connection flushed the others have flushed.
  const always = HAS_FLAGS | SEND_FLUSH | SEND_FUA | CAN_MULTI_CONN
  if (!writable) return always | READ_ONLY
  const zeroes = TransmissionFlag.SEND_TRIM | TransmissionFlag.SEND_WRITE_ZEROES
  // Without fallocate() zeroes are always written, so nothing is fast.
  return always | zeroes | (isLibcAvailable() ? TransmissionFlag.SEND_FAST_ZERO : 0)
}

/** The size of a block device (partitions too), in bytes; stat says 0. Source: the kernel's ABI/stable/sysfs-block. */
async function deviceSize(rdev: bigint): Promise<bigint> {
  const { major, minor } = deviceNumbers(rdev)
  const sectors = await readFile(`/sys/dev/block/${major}:${minor}/size`, 'latin1')
  return BigInt(sectors.trim()) * SECTOR_BYTES
}

/** Takes a device number apart as gnu_dev_major() and gnu_dev_minor() do (makedev(3)). */
export function deviceNumbers(rdev: bigint): { readonly major: bigint; readonly minor: bigint } {
  return {
    major: ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn),
    minor: (rdev & 0xffn) | ((rdev >> 12n) & ~0xffn & 0xffff_ffffn),
  }
}

/**
 * Whether holes are a part of a file that is worth looking for: to find none may take as long as there is data, where the file
 * system keeps it page by page (tmpfs).
 */
function isSparse(stats: BigIntStats): boolean {
  return stats.isFile() && stats.blocks * SECTOR_BYTES * 16n < stats.size * 15n
}

function refuseOthers(path: string, stats: BigIntStats): void {
  if (stats.isFile() || stats.isBlockDevice()) return
  throw new UpstreamError('REFUSED', `${path} is ${kindOf(stats)}, neither a file nor a block device`)
}

function kindOf(stats: BigIntStats): string {
  if (stats.isDirectory()) return 'a directory'
  if (stats.isFIFO()) return 'a FIFO'
  if (stats.isSocket()) return 'a socket'
  return 'a character device'
}

function fail(path: string, error: unknown): never {
  if (error instanceof UpstreamError) throw error
  throw new UpstreamError('DIAL', `${path} can not be opened: ${codeOf(error)}`, { cause: error })
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
}
