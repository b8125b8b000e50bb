import { Duplex } from 'node:stream'
import { describe, expect, it, vi } from 'vitest'
import { readProxyHeader } from '../../../src/doors/proxy-reader.ts'
import { DuplexStream } from '../../../src/stream/duplex-stream.ts'
import { Wire } from '../../../src/stream/wire.ts'
import { everySplit, settled } from '../../support/bytes.ts'

const HEADER = Buffer.from('PROXY TCP4 192.0.2.7 198.51.100.1 50312 10809\r\n')
const BEHIND = Buffer.from('what comes behind')

/** A connection that delivers what it is given, and is paused as an accepted socket is. */
function connection(): Duplex {
  const duplex = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() })
  duplex.pause()
  return duplex
}

/** What a promise ends in: its value, or the code of its error. */
function outcome(promise: Promise<unknown>): Promise<unknown> {
  return promise.catch((error: unknown) => (error instanceof Error && 'code' in error ? error.code : error))
}

describe('a PROXY header in front of a connection', () => {
  it('is taken off, and not a byte of what is behind it, however it comes', async () => {
    await everySplit(Buffer.concat([HEADER, BEHIND]), async (chunks, how) => {
      const duplex = connection()
      const header = readProxyHeader(duplex, 10_000)
      for (const chunk of chunks) if (chunk.length > 0) duplex.push(chunk)
      expect(await header, how).toMatchObject({ kind: 'client', source: { address: '192.0.2.7', port: 50312 } })
      expect(duplex.isPaused(), how).toBe(true)
      const wire = new Wire(new DuplexStream(duplex), 10_000)
      expect((await wire.read(BEHIND.length)).toString(), how).toBe(BEHIND.toString())
      duplex.push('and more')
      expect((await wire.read(8)).toString(), how).toBe('and more')
      duplex.destroy()
    })
  })

  it('may be all that the peer says before it ends', async () => {
    const duplex = connection()
    const header = readProxyHeader(duplex, 10_000)
    duplex.push(Buffer.concat([HEADER, BEHIND]))
    duplex.push(null)
    await header
    const wire = new Wire(new DuplexStream(duplex), 10_000)
    expect((await wire.read(BEHIND.length)).equals(BEHIND)).toBe(true)
    expect(await wire.readOrEnd(1)).toBeNull()
  })

  it.each([
    ['ends', (duplex: Duplex) => void duplex.push(null), 'TRUNCATED'],
    ['closes', (duplex: Duplex) => void duplex.destroy(), 'CLOSED'],
  ])('is missing when the peer %s before its end, and null before its beginning', async (_, go, code) => {
    for (const size of [1, 5, HEADER.length - 1]) {
      const duplex = connection()
      const header = outcome(readProxyHeader(duplex, 10_000))
      duplex.push(HEADER.subarray(0, size))
      await settled()
      go(duplex)
      expect(await header).toBe(code)
    }
    const duplex = connection()
    const header = outcome(readProxyHeader(duplex, 10_000))
    go(duplex)
    expect(await header).toBeNull()
  })

  it('is refused when it is none, and when it takes too long, byte after byte', async () => {
    const wrong = connection()
    const refused = outcome(readProxyHeader(wrong, 10_000))
    wrong.push('SSH-2.0-x\r\n')
    expect(await refused).toBe('BAD_MAGIC')

    vi.useFakeTimers()
    try {
      const slow = connection()
      const late = outcome(readProxyHeader(slow, 1000))
      for (let sent = 0; sent < 3; sent++) {
        slow.push(HEADER.subarray(sent, sent + 1))
        await vi.advanceTimersByTimeAsync(333)
      }
      await vi.advanceTimersByTimeAsync(1)
      expect(await late).toBe('TIMEOUT')
    } finally {
      vi.useRealTimers()
    }
  })
})
