import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { AllocateMode, fileAllocate } from '../../../src/platform/libc.ts'
import { Err } from '../../../src/protocol/constants.ts'
import { FileOperations } from '../../../src/upstreams/file-operations.ts'

const { EOPNOTSUPP, EINVAL, ENOSPC, EDQUOT, EPERM, EROFS, EIO } = constants.errno
const sync = vi.hoisted(() => ({ errors: [] as (NodeJS.ErrnoException | null)[] }))
vi.mock(import('../../../src/platform/libc.ts'), async original => ({ ...(await original()), fileAllocate: vi.fn() }))
vi.mock(import('node:fs'), async original => {
  const fs = await original()
  const fdatasync = (_fd: number, done: (error: NodeJS.ErrnoException | null) => void): void => {
    process.nextTick(() => done(sync.errors.shift() ?? null))
  }
  return { ...fs, fdatasync: Object.assign(fdatasync, { __promisify__: fs.fdatasync.__promisify__ }) }
})

const SIZE = 3 * 1024 * 1024 + 5
let folder = ''
let path = ''
let fd = -1

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'nbdgate-file-'))
  path = join(folder, 'disk')
  fd = openSync(path, 'w+')
  writeSync(fd, Buffer.alloc(SIZE, 0x55))
  vi.mocked(fileAllocate).mockReset().mockResolvedValue(0)
  sync.errors = []
})
afterEach(() => {
  closeSync(fd)
  rmSync(folder, { recursive: true })
})

const file = (): FileOperations => new FileOperations(fd, false)
const outcome = (start: (done: (error: Err) => void) => void): Promise<Err> => new Promise(resolve => start(resolve))

describe('FileOperations', () => {
  it('writes zeroes where the file system has no better way, and nowhere else', async () => {
    vi.mocked(fileAllocate).mockResolvedValue(EOPNOTSUPP)
    expect(await file().zero(3, SIZE - 4, { noHole: false, fast: false })).toBe(Err.NONE)
    const expected = Buffer.alloc(SIZE)
    expected.fill(0x55, 0, 3).fill(0x55, SIZE - 1)
    expect(readFileSync(path).equals(expected)).toBe(true)
  })

  it('refuses a fast zero that would have to write, and changes nothing', async () => {
    vi.mocked(fileAllocate).mockResolvedValue(EOPNOTSUPP)
    expect(await file().zero(0, SIZE, { noHole: false, fast: true })).toBe(Err.NOTSUP)
    expect(readFileSync(path).equals(Buffer.alloc(SIZE, 0x55))).toBe(true)
  })

  it.each([
    [
      'a file may have holes',
      false,
      { noHole: false, fast: false },
      [AllocateMode.PUNCH_HOLE, AllocateMode.ZERO_RANGE],
    ],
    ['a file keeps its space', false, { noHole: true, fast: true }, [AllocateMode.ZERO_RANGE]],
    ['a device is to be fast', true, { noHole: false, fast: true }, [AllocateMode.PUNCH_HOLE]],
    ['a device is to be fast and to keep its space', true, { noHole: true, fast: true }, []],
  ])('tries only what is promised when %s', async (_title, isBlockDevice, options, modes) => {
    vi.mocked(fileAllocate).mockResolvedValue(EINVAL)
    await new FileOperations(fd, isBlockDevice).zero(0, 4096, options)
    expect(vi.mocked(fileAllocate).mock.calls.map(call => call[1])).toEqual(modes)
  })

  it('cuts 4 GiB into pieces without gap or overlap', async () => {
    await file().trim(7, 2 ** 32 - 1)
    let next = 7
    for (const [, , offset, length] of vi.mocked(fileAllocate).mock.calls) {
      expect(offset).toBe(next)
      expect(length).toBeLessThanOrEqual(2 ** 28)
      next += length
    }
    expect(next).toBe(7 + 2 ** 32 - 1)
  })

  it('gives up a long operation that nobody waits for', async () => {
    const operations = file()
    vi.mocked(fileAllocate).mockImplementation(async () => {
      operations.abandon()
      return 0
    })
    await operations.trim(0, 2 ** 32 - 1)
    expect(fileAllocate).toHaveBeenCalledTimes(1)
  })

  it('is content with a TRIM that is not possible', async () => {
    vi.mocked(fileAllocate).mockResolvedValue(EOPNOTSUPP)
    expect(await file().trim(0, 4096)).toBe(Err.NONE)
    expect(readFileSync(path).equals(Buffer.alloc(SIZE, 0x55))).toBe(true)
  })

  it.each([
    ['ENOSPC', ENOSPC, Err.NOSPC],
    ['EDQUOT', EDQUOT, Err.NOSPC],
    ['EPERM', EPERM, Err.PERM],
    ['EROFS', EROFS, Err.PERM],
    ['EIO', EIO, Err.IO],
  ])('passes %s on in the words of the protocol', async (_name, errno, expected) => {
    vi.mocked(fileAllocate).mockResolvedValue(errno)
    expect(await file().trim(0, 4096)).toBe(expected)
    expect(await file().zero(0, 4096, { noHole: false, fast: false })).toBe(expected)
  })

  it.runIf(process.platform === 'linux')('says ENOSPC when a write finds no room', async () => {
    const full = openSync('/dev/full', 'r+')
    const operations = new FileOperations(full, false)
    expect(await outcome(done => operations.write(Buffer.alloc(10), 0, done))).toBe(Err.NOSPC)
    closeSync(full)
  })

  it('says EIO when the file was cut short under it', async () => {
    ftruncateSync(fd, 100)
    const bytes = Buffer.alloc(50)
    expect(await outcome(done => file().read(bytes, 0, 50, done))).toBe(Err.NONE)
    expect(await outcome(done => file().read(bytes, 0, 51, done))).toBe(Err.IO)
  })

  it('never again promises stable storage after a flush that failed', async () => {
    const operations = file()
    const flush = (): Promise<Err> => outcome(done => operations.flush(done))
    expect(await flush()).toBe(Err.NONE)
    sync.errors = [Object.assign(new Error('no room'), { errno: -ENOSPC })]
    expect(await flush()).toBe(Err.NOSPC)
    expect(await flush()).toBe(Err.IO)
  })
})
