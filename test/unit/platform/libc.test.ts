import { once } from 'node:events'
import { closeSync, fstatSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { connect, createServer as createTcpServer, type Server, type Socket } from 'node:net'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import {
  AllocateMode,
  descriptorOf,
  fileAllocate,
  isLibcAvailable,
  peerCredentials,
  setKeepAlive,
} from '../../../src/platform/libc.ts'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'nbdgate-libc-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

/** Both ends of a connection to a server that listens on `where`. */
async function connectedPair(where: { path: string } | { port: number; host: string }): Promise<[Socket, Socket]> {
  const server: Server = createTcpServer().listen(where)
  await once(server, 'listening')
  const address = server.address()
  const port = typeof address === 'object' ? address?.port : undefined
  const client = port === undefined ? connect(join(folder, 'sock')) : connect(port, '127.0.0.1')
  const [[accepted]] = await Promise.all([once(server, 'connection'), once(client, 'connect')])
  onTestFinished(() => {
    client.destroy()
    accepted.destroy()
    server.close()
  })
  return [client, accepted]
}

function openFile(): number {
  const fd = openSync(join(folder, 'file'), 'w+')
  onTestFinished(() => closeSync(fd))
  return fd
}

describe.runIf(process.platform === 'linux')('libc', () => {
  it('is available where koffi is installed', () => {
    expect(isLibcAvailable()).toBe(true)
  })

  it('names process, user and group at the other end of a Unix socket', async () => {
    const [, accepted] = await connectedPair({ path: join(folder, 'sock') })
    const fd = descriptorOf(accepted)
    expect(fd).toBeDefined()
    expect(peerCredentials(fd ?? -1)).toEqual({
      pid: process.pid,
      uid: process.getuid?.(),
      gid: process.getgid?.(),
    })
  })

  it('names nobody at the other end of a TCP socket', async () => {
    const [, accepted] = await connectedPair({ port: 0, host: '127.0.0.1' })
    const fd = descriptorOf(accepted)
    expect(fd).toBeDefined()
    expect(peerCredentials(fd ?? -1)).toBeUndefined()
  })

  it('names nobody behind a descriptor that is no socket or not open', () => {
    expect(peerCredentials(openFile())).toBeUndefined()
    expect(peerCredentials(-1)).toBeUndefined()
  })

  it('knows no descriptor of a destroyed socket', async () => {
    const [client] = await connectedPair({ path: join(folder, 'sock') })
    expect(descriptorOf(client)).toBeGreaterThanOrEqual(0)
    client.destroy()
    expect(descriptorOf(client)).toBeUndefined()
  })

  it('punches a hole beyond 4 GiB and leaves the size and the neighbours alone', async () => {
    const fd = openFile()
    const start = 5 * 2 ** 30
    writeSync(fd, Buffer.alloc(3 * 65536, 0xaa), 0, 3 * 65536, start)
    const before = fstatSync(fd)
    expect(await fileAllocate(fd, AllocateMode.PUNCH_HOLE, start + 65536, 65536)).toBe(0)
    const after = fstatSync(fd)
    expect(after.size).toBe(before.size)
    expect(before.blocks - after.blocks).toBe(128)
    const back = Buffer.alloc(3 * 65536)
    readSync(fd, back, 0, back.length, start)
    const expected = Buffer.concat([Buffer.alloc(65536, 0xaa), Buffer.alloc(65536), Buffer.alloc(65536, 0xaa)])
    expect(back.equals(expected)).toBe(true)
  })

  it('never makes a file longer', async () => {
    const fd = openFile()
    ftruncateSync(fd, 4096)
    await fileAllocate(fd, AllocateMode.ZERO_RANGE, 0, 1 << 20)
    expect(fstatSync(fd).size).toBe(4096)
  })

  it('resolves to the errno value of each call, also when many wait', async () => {
    const fd = openFile()
    ftruncateSync(fd, 1 << 20)
    const calls = Array.from({ length: 600 }, (_, i) =>
      fileAllocate(i % 2 === 0 ? fd : -1, AllocateMode.PUNCH_HOLE, 0, 4096),
    )
    const outcomes = await Promise.all(calls)
    expect(outcomes).toEqual(outcomes.map((_, i) => (i % 2 === 0 ? 0 : constants.errno.EBADF)))
  })

  it('refuses offsets that are no exact integers', async () => {
    expect(await fileAllocate(openFile(), AllocateMode.PUNCH_HOLE, 2 ** 53, 1)).toBe(constants.errno.EINVAL)
  })
})

describe('without koffi', () => {
  beforeEach(() => {
    vi.resetModules()
    vi.doMock('node:module', () => ({
      createRequire: () => () => {
        throw new Error('not installed')
      },
    }))
  })
  afterEach(() => {
    vi.doUnmock('node:module')
    vi.resetModules()
  })

  it('says that it is unavailable, names nobody and allocates nothing', async () => {
    const libc = await import('../../../src/platform/libc.ts')
    const [, accepted] = await connectedPair({ path: join(folder, 'sock') })
    expect(libc.isLibcAvailable()).toBe(false)
    expect(libc.peerCredentials(descriptorOf(accepted) ?? -1)).toBeUndefined()
    expect(await libc.fileAllocate(openFile(), AllocateMode.PUNCH_HOLE, 0, 1)).toBe(constants.errno.ENOSYS)
  })
})

describe.runIf(isLibcAvailable())('setKeepAlive', () => {
  it('works on TCP, and says so where it does not', async () => {
    const [, accepted] = await connectedPair({ port: 0, host: '127.0.0.1' })
    const descriptor = descriptorOf(accepted) ?? -1
    const values = { idleS: 10, intervalS: 5, probes: 4, timeoutMs: 30_000 }
    expect(setKeepAlive(descriptor, values)).toBe(true)
    const [, local] = await connectedPair({ path: join(folder, 'sock') })
    expect(setKeepAlive(descriptorOf(local) ?? -1, values)).toBe(false)
    expect(setKeepAlive(-1, values)).toBe(false)
  })
})
