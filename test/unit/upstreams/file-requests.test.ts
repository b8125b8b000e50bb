import { describe, expect, it } from 'vitest'
import { FileRequests, type WholeRequest } from '../../../src/upstreams/file-requests.ts'

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex')

/** WRITE with FUA of 5 bytes at 0x1_0000_0002, READ of 16 at 3, DISC. */
const CONVERSATION =
  '25609513 0001 0001 1122334455667788 0000000100000002 00000005 68656c6c6f' +
  '25609513 0000 0000 ffffffffffffffff 0000000000000003 00000010' +
  '25609513 0000 0002 0000000000000000 0000000000000000 00000000'

const REQUESTS: readonly WholeRequest[] = [
  { flags: 1, type: 1, cookie: 0x1122334455667788n, offset: 0x1_0000_0002n, length: 5, payload: Buffer.from('hello') },
  { flags: 0, type: 0, cookie: 0xffff_ffff_ffff_ffffn, offset: 3n, length: 16, payload: undefined },
  { flags: 0, type: 2, cookie: 0n, offset: 0n, length: 0, payload: undefined },
]

function readAll(requests: FileRequests, chunks: readonly Buffer[]): WholeRequest[] {
  const found: WholeRequest[] = []
  for (const chunk of chunks) {
    requests.feed(chunk)
    for (let next = requests.next(); next !== undefined; next = requests.next()) found.push(next)
    // Whoever gave the chunk may reuse it now.
    chunk.fill(0xee)
  }
  return found
}

describe('FileRequests', () => {
  it('reads a conversation cut at any two points', () => {
    const size = hex(CONVERSATION).length
    for (let first = 0; first <= size; first++) {
      for (let second = first; second <= size; second += 7) {
        const bytes = hex(CONVERSATION)
        const chunks = [bytes.subarray(0, first), bytes.subarray(first, second), bytes.subarray(second)]
        expect(readAll(new FileRequests(), chunks)).toEqual(REQUESTS)
      }
    }
  })

  it('reads a conversation that comes byte by byte', () => {
    const bytes = hex(CONVERSATION)
    const chunks = Array.from(bytes, byte => Buffer.from([byte]))
    expect(readAll(new FileRequests(), chunks)).toEqual(REQUESTS)
  })

  it('knows whether it stands between two requests', () => {
    const bytes = hex(CONVERSATION)
    const boundaries = [0, 33, 61, 89]
    for (let end = 0; end <= bytes.length; end++) {
      const requests = new FileRequests()
      readAll(requests, [hex(CONVERSATION).subarray(0, end)])
      expect(requests.atBoundary).toBe(boundaries.includes(end))
    }
  })

  it('hands out one request at a time and keeps the rest of the chunk', () => {
    const requests = new FileRequests()
    requests.feed(hex(CONVERSATION))
    expect(requests.next()?.type).toBe(1)
    expect(requests.atBoundary).toBe(false)
    expect(requests.next()?.type).toBe(0)
    expect(requests.next()?.type).toBe(2)
    expect(requests.next()).toBeUndefined()
  })

  it('drops the payload of a WRITE above 32 MiB and goes on behind it', () => {
    const piece = Buffer.alloc(1 << 20)
    const requests = new FileRequests()
    const head = hex('25609513 0000 0001 0000000000000001 0000000000000000 02000001')
    const found = readAll(requests, [head, ...Array.from({ length: 32 }, () => piece), Buffer.alloc(1)])
    expect(found).toEqual([{ flags: 0, type: 1, cookie: 1n, offset: 0n, length: 0x2000001, payload: undefined }])
    expect(readAll(requests, [hex(CONVERSATION)])).toEqual(REQUESTS)
  })

  it('gives up on a WRITE above 128 MiB', () => {
    const requests = new FileRequests()
    requests.feed(hex('25609513 0000 0001 0000000000000001 0000000000000000 08000001'))
    expect(() => requests.next()).toThrow(expect.objectContaining({ name: 'ProtocolError', code: 'TOO_LONG' }))
  })

  it('gives up on a wrong magic', () => {
    const requests = new FileRequests()
    requests.feed(hex('25609514 0000 0000 0000000000000001 0000000000000000 00000001'))
    expect(() => requests.next()).toThrow(expect.objectContaining({ name: 'ProtocolError', code: 'BAD_MAGIC' }))
  })
})
