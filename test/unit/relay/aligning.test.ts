/** Requests for any bytes, over a connection to an upstream that takes whole blocks alone. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { aligningStream } from '../../../src/relay/aligning-stream.ts'
import { Memory, Share } from '../../../src/stream/memory.ts'
import { FakeStream, hex, settled } from '../../support/bytes.ts'
import { CACHE, chunk, DISC, FLUSH, READ, request, simpleReply, TRIM, WRITE, WRITE_ZEROES } from './messages.ts'

const BLOCK = 16
const BLOCK_STATUS = 7
const [NONE, DATA, HOLE, STATUS, ERROR] = [0, 1, 2, 5, 0x8001]
const DONE = 1
const [FUA, REQ_ONE, FAST_ZERO] = [1, 8, 16]

class Gated extends FakeStream {
  gate(): void {}
}

interface Out {
  readonly type: number
  readonly flags: number
  readonly cookie: bigint
  readonly offset: number
  readonly length: number
  readonly payload: Buffer
}

function aligning(structured = false, sizeBytes = 1024) {
  const inner = new Gated()
  const memory = new Share(new Memory(), 1 << 20)
  const stream = aligningStream(inner, { blockBytes: BLOCK, sizeBytes, structured, memory })
  const pieces: Buffer[] = []
  const seen = { end: undefined as Error | undefined, isClosed: false, drained: 0 }
  stream.start({
    data: piece => {
      pieces.push(Buffer.from(piece))
      stream.release(piece)
    },
    ended: () => {},
    closed: error => {
      seen.end = error
      seen.isClosed = true
    },
    drained: () => void seen.drained++,
  })
  let read = 0
  /** The requests that have come to the upstream since it was asked last. */
  const asked = (): Out[] => {
    const all: Out[] = []
    const bytes = inner.output
    while (read < bytes.length) {
      expect(bytes.subarray(read, read + 4)).toEqual(hex('25609513'))
      const [type, length] = [bytes.readUInt16BE(read + 6), bytes.readUInt32BE(read + 24)]
      const end = read + 28 + (type === WRITE ? length : 0)
      all.push({
        type,
        flags: bytes.readUInt16BE(read + 4),
        cookie: bytes.readBigUInt64BE(read + 8),
        offset: Number(bytes.readBigUInt64BE(read + 16)),
        length,
        payload: Buffer.from(bytes.subarray(read + 28, end)),
      })
      read = end
    }
    return all
  }
  const got = (): Buffer => Buffer.concat(pieces.splice(0))
  const answers = async (...all: readonly Buffer[]): Promise<void> => {
    inner.deliver(...all)
    await settled()
  }
  return { stream, inner, asked, got, answers, seen, memory }
}

const shape = ({ type, flags, offset, length, payload }: Out) => [type, flags, offset, length, payload.toString()]
const field = (value: number | bigint, bytes: number): string => value.toString(16).padStart(2 * bytes, '0')

describe('what is whole blocks', () => {
  it('passes as it is, and so does its answer', async () => {
    const { stream, asked, got, answers } = aligning()
    stream.write(request({ type: WRITE, flags: FUA, cookie: 7n, offset: 16n, length: 16, payload: '61'.repeat(16) }))
    stream.write(request({ type: READ, cookie: 8n, offset: 32n, length: 32 }))
    stream.write(request({ type: FLUSH, cookie: 9n }))
    const out = asked()
    expect(out.map(shape)).toEqual([
      [WRITE, FUA, 16, 16, 'a'.repeat(16)],
      [READ, 0, 32, 32, ''],
      [FLUSH, 0, 0, 0, ''],
    ])
    const [write, read, flush] = out.map(({ cookie }) => cookie)
    await answers(simpleReply(flush ?? 0n, 5), simpleReply(read ?? 0n, 0, '62'.repeat(32)), simpleReply(write ?? 0n))
    expect(got()).toEqual(Buffer.concat([simpleReply(9n, 5), simpleReply(8n, 0, '62'.repeat(32)), simpleReply(7n)]))
  })

  it('may end with the export in the middle of one', async () => {
    const { stream, asked } = aligning(false, 40)
    stream.write(request({ type: WRITE, cookie: 7n, offset: 32n, length: 8, payload: '61'.repeat(8) }))
    expect(asked().map(shape)).toEqual([[WRITE, 0, 32, 8, 'a'.repeat(8)]])
    stream.write(request({ type: READ, cookie: 8n, offset: 35n, length: 5 }))
    expect(asked().map(shape)).toEqual([[READ, 0, 32, 8, '']])
  })
})

describe('a READ that is not', () => {
  it('is widened, and answered with the bytes that it asked for', async () => {
    const { stream, asked, got, answers } = aligning()
    stream.write(request({ type: READ, cookie: 7n, offset: 18n, length: 16 }))
    const [read] = asked()
    expect(read && shape(read)).toEqual([READ, 0, 16, 32, ''])
    const data = hex('00'.repeat(2), '61'.repeat(16), '00'.repeat(14))
    await answers(simpleReply(read?.cookie ?? 0n, 0, data.toString('hex')))
    expect(got()).toEqual(simpleReply(7n, 0, '61'.repeat(16)))
  })

  it('is put together of chunks and holes in any order', async () => {
    const { stream, asked, got, answers } = aligning(true)
    stream.write(request({ type: READ, cookie: 7n, offset: 18n, length: 16 }))
    const cookie = asked()[0]?.cookie ?? 0n
    await answers(
      chunk({ type: HOLE, cookie, payload: `${field(32, 8)} 00000010` }),
      chunk({ type: DATA, cookie, payload: `${field(16, 8)} ${'61'.repeat(16)}` }),
      chunk({ type: NONE, flags: DONE, cookie }),
    )
    const payload = `${field(18, 8)} ${'61'.repeat(14)} 0000`
    expect(got()).toEqual(chunk({ type: DATA, flags: DONE, cookie: 7n, payload }))
  })

  it('fails with the error of the upstream, by a chunk where there are chunks', async () => {
    for (const structured of [false, true]) {
      const { stream, asked, got, answers } = aligning(structured)
      stream.write(request({ type: READ, cookie: 7n, offset: 18n, length: 16 }))
      const cookie = asked()[0]?.cookie ?? 0n
      const failed = (to: bigint): Buffer =>
        structured ? chunk({ type: ERROR, flags: DONE, cookie: to, payload: '00000005 0000' }) : simpleReply(to, 5)
      await answers(failed(cookie))
      expect(got()).toEqual(failed(7n))
    }
  })

  it('ends the connection where its chunks are too much, too little, outside or simple', async () => {
    const wrong: ((cookie: bigint) => Buffer)[] = [
      cookie => chunk({ type: DATA, flags: DONE, cookie, payload: `${field(16, 8)} 61` }),
      cookie => chunk({ type: DATA, flags: DONE, cookie, payload: `${field(8, 8)} ${'61'.repeat(32)}` }),
      cookie => chunk({ type: DATA, flags: DONE, cookie, payload: `${field(16, 8)} ${'61'.repeat(33)}` }),
      cookie => chunk({ type: NONE, flags: DONE, cookie }),
      cookie => chunk({ type: STATUS, flags: DONE, cookie, payload: '00000000 00000010 00000000' }),
      cookie => simpleReply(cookie, 0, '61'.repeat(32)),
      () => simpleReply(99n),
    ]
    for (const answer of wrong) {
      const { stream, inner, asked, answers, seen } = aligning(true)
      stream.write(request({ type: READ, cookie: 7n, offset: 18n, length: 16 }))
      await answers(answer(asked()[0]?.cookie ?? 0n))
      expect(seen.end).toMatchObject({ name: 'ProtocolError' })
      expect(inner.destroyed).toBe(true)
    }
  })
})

describe('a WRITE that is not', () => {
  it('is made of what lies around it, read before', async () => {
    const cases = [
      // Within one block; at its start; over two; with a whole one in between; up to a border.
      { offset: 18, length: 4, reads: [[16, 16]], at: 16, to: 32 },
      { offset: 16, length: 4, reads: [[16, 16]], at: 16, to: 32 },
      {
        offset: 30,
        length: 4,
        reads: [
          [16, 16],
          [32, 16],
        ],
        at: 16,
        to: 48,
      }, // prettier-ignore
      {
        offset: 30,
        length: 20,
        reads: [
          [16, 16],
          [48, 16],
        ],
        at: 16,
        to: 64,
      }, // prettier-ignore
      { offset: 30, length: 18, reads: [[16, 16]], at: 16, to: 48 },
      { offset: 32, length: 18, reads: [[48, 16]], at: 32, to: 64 },
    ]
    for (const { offset, length, reads, at, to } of cases) {
      const { stream, asked, got, answers } = aligning()
      const payload = '61'.repeat(length)
      stream.write(request({ type: WRITE, flags: FUA, cookie: 7n, offset: BigInt(offset), length, payload }))
      const out = asked()
      expect(out.map(shape)).toEqual(reads.map(([from, bytes]) => [READ, 0, from, bytes, '']))
      // Each block is full of a letter of its own.
      const letters = (from: number): string => field(0x41 + from / BLOCK, 1).repeat(BLOCK)
      await answers(...out.toReversed().map(each => simpleReply(each.cookie, 0, letters(each.offset))))
      const expected = Buffer.alloc(to - at)
      for (let from = at; from < to; from += BLOCK) expected.fill(0x41 + from / BLOCK, from - at, from - at + BLOCK)
      expected.fill('a', offset - at, offset - at + length)
      const [write, ...more] = asked()
      expect(write && shape(write)).toEqual([WRITE, FUA, at, to - at, expected.toString()])
      expect([more, got()]).toEqual([[], Buffer.alloc(0)])
      await answers(simpleReply(write?.cookie ?? 0n))
      expect(got()).toEqual(simpleReply(7n))
    }
  })

  it('changes nothing where what is around it can not be read, and says so where it can not be written', async () => {
    const { stream, asked, got, answers } = aligning()
    stream.write(request({ type: WRITE, cookie: 7n, offset: 18n, length: 4, payload: '61626364' }))
    await answers(simpleReply(asked()[0]?.cookie ?? 0n, 5))
    expect([asked(), got()]).toEqual([[], simpleReply(7n, 5)])
    stream.write(request({ type: WRITE, cookie: 8n, offset: 18n, length: 4, payload: '61626364' }))
    await answers(simpleReply(asked()[0]?.cookie ?? 0n, 0, '00'.repeat(16)))
    await answers(simpleReply(asked()[0]?.cookie ?? 0n, 28))
    expect(got()).toEqual(simpleReply(8n, 28))
  })

  it('has changes of the same blocks wait for it, and waits for those that are out, in their order', async () => {
    const { stream, asked, got, answers } = aligning()
    const write = (cookie: bigint, offset: bigint, length: number, byte: string): Buffer =>
      request({ type: WRITE, cookie, offset, length, payload: byte.repeat(length) })
    stream.write(write(1n, 16n, 16, '31'))
    stream.write(write(2n, 18n, 2, '32'))
    stream.write(write(3n, 16n, 16, '33'))
    stream.write(write(4n, 20n, 2, '34'))
    stream.write(write(5n, 64n, 16, '35'))
    stream.write(request({ type: READ, cookie: 6n, offset: 16n, length: 16 }))
    const [first, elsewhere, read] = asked()
    expect([first, elsewhere, read].map(each => each?.offset)).toEqual([16, 64, 16])
    expect(stream.unsentBytes).toBeGreaterThanOrEqual(20)
    await answers(simpleReply(first?.cookie ?? 0n))
    const [around, ...none] = asked()
    expect([around?.type, none]).toEqual([READ, []])
    await answers(simpleReply(around?.cookie ?? 0n, 0, '31'.repeat(16)))
    const [second] = asked()
    expect(second?.payload.toString()).toBe('1122111111111111')
    await answers(simpleReply(second?.cookie ?? 0n))
    const [third, ...others] = asked()
    expect([third?.payload.toString(), others]).toEqual(['3'.repeat(16), []])
    await answers(simpleReply(third?.cookie ?? 0n))
    const [last] = asked()
    await answers(simpleReply(last?.cookie ?? 0n, 0, '33'.repeat(16)))
    expect(asked()[0]?.payload.toString()).toBe('3333443333333333')
    expect(got()).toEqual(Buffer.concat([1n, 2n, 3n].map(cookie => simpleReply(cookie))))
  })

  it('is not begun after DISC, nor after the end', async () => {
    const { stream, asked, answers } = aligning()
    stream.write(request({ type: WRITE, cookie: 7n, offset: 18n, length: 4, payload: '61626364' }))
    stream.write(request({ type: DISC }))
    const [read, disc] = asked()
    expect([read?.type, disc?.type]).toEqual([READ, DISC])
    await answers(simpleReply(read?.cookie ?? 0n, 0, '00'.repeat(16)))
    expect(asked()).toEqual([])
  })
})

describe('other requests that are not', () => {
  it('are done to whole blocks: less for TRIM, more for CACHE', async () => {
    const { stream, asked, got, answers } = aligning()
    stream.write(request({ type: TRIM, flags: FUA, cookie: 1n, offset: 18n, length: 40 }))
    stream.write(request({ type: TRIM, cookie: 2n, offset: 118n, length: 4 }))
    stream.write(request({ type: CACHE, cookie: 3n, offset: 18n, length: 40 }))
    await settled()
    const out = asked()
    expect(out.map(shape)).toEqual([
      [TRIM, FUA, 32, 16, ''],
      [CACHE, 0, 16, 48, ''],
    ])
    expect(got()).toEqual(simpleReply(2n))
    await answers(...out.map(({ cookie }) => simpleReply(cookie)))
    expect(got()).toEqual(Buffer.concat([simpleReply(1n), simpleReply(3n)]))
  })

  it('are zeroes in the middle and writes at the ends, answered once, by the first error', async () => {
    for (const error of [0, 28]) {
      const { stream, asked, got, answers } = aligning()
      stream.write(request({ type: WRITE_ZEROES, flags: FUA | 2, cookie: 1n, offset: 18n, length: 40 }))
      const reads = asked()
      expect(reads.map(shape)).toEqual([
        [READ, 0, 16, 16, ''],
        [READ, 0, 48, 16, ''],
      ])
      await answers(...reads.map(({ cookie }) => simpleReply(cookie, 0, '61'.repeat(16))))
      const out = asked()
      expect(out.map(shape)).toEqual([
        [WRITE, FUA, 16, 16, `aa${'\0'.repeat(14)}`],
        [WRITE, FUA, 48, 16, `${'\0'.repeat(10)}${'a'.repeat(6)}`],
        [WRITE_ZEROES, FUA | 2, 32, 16, ''],
      ])
      await answers(...out.map(({ cookie }, at) => simpleReply(cookie, at === 1 ? error : 0)))
      expect(got()).toEqual(simpleReply(1n, error))
    }
  })

  it('are written where there is no whole block in them, and not fast', async () => {
    const { stream, asked, got, answers } = aligning()
    stream.write(request({ type: WRITE_ZEROES, cookie: 1n, offset: 30n, length: 4 }))
    await answers(...asked().map(({ cookie }) => simpleReply(cookie, 0, '61'.repeat(16))))
    const [write] = asked()
    expect(write && shape(write)).toEqual([WRITE, 0, 16, 32, `${'a'.repeat(14)}\0\0\0\0${'a'.repeat(14)}`])
    stream.write(request({ type: WRITE_ZEROES, flags: FAST_ZERO, cookie: 2n, offset: 130n, length: 64 }))
    await settled()
    expect([asked(), got()]).toEqual([[], simpleReply(2n, 95)])
  })

  it('have a status whose first extent begins where they began, and with REQ_ONE ends where they ended', async () => {
    const { stream, asked, got, answers } = aligning(true)
    const status = (cookie: bigint, extents: string): Buffer =>
      chunk({ type: STATUS, flags: DONE, cookie, payload: `00000007 ${extents}` })
    stream.write(request({ type: BLOCK_STATUS, cookie: 1n, offset: 18n, length: 40 }))
    stream.write(request({ type: BLOCK_STATUS, flags: REQ_ONE, cookie: 2n, offset: 18n, length: 40 }))
    stream.write(request({ type: BLOCK_STATUS, cookie: 3n, offset: 18n, length: 40 }))
    const out = asked()
    expect(out.map(shape)).toEqual([0, REQ_ONE, 0].map(flags => [BLOCK_STATUS, flags, 16, 48, '']))
    const [many = 0n, one = 0n, failing = 0n] = out.map(({ cookie }) => cookie)
    await answers(
      status(many, '00000010 00000000 00000040 00000003'),
      status(one, '00000030 00000000'),
      chunk({ type: ERROR, flags: DONE, cookie: failing, payload: '00000005 0002 6e6f' }),
    )
    const failed = chunk({ type: ERROR, flags: DONE, cookie: 3n, payload: '00000005 0000' })
    expect(got()).toEqual(
      Buffer.concat([status(1n, '0000000e 00000000 00000040 00000003'), status(2n, '00000028 00000000'), failed]),
    )
  })
})

describe('whatever is asked for at once', () => {
  const op = fc.record({
    type: fc.constantFrom(READ, WRITE, WRITE, WRITE, WRITE_ZEROES, TRIM),
    offset: fc.nat(190),
    length: fc.integer({ min: 1, max: 40 }),
    /** Which of the upstream's requests is answered next, before this one is sent. */
    answered: fc.array(fc.nat(7), { maxLength: 3 }),
    cut: fc.nat(60),
  })

  it('reads and leaves behind what it would without blocks', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(op, { maxLength: 40 }), fc.boolean(), async (ops, structured) => {
        const size = 200
        const { stream, inner, asked, got, memory } = aligning(structured, size)
        const disk = Buffer.from(Array.from({ length: size }, (_, at) => at))
        const model = Buffer.from(disk)
        /** Where a TRIM may have left zeroes, or not. */
        const open: Out[] = []
        const out = new Map<bigint, { from: number; to: number; type: number; data: Buffer }>()
        const carryOut = async (which: number): Promise<void> => {
          open.push(...asked())
          const [one] = open.splice(which % Math.max(1, open.length), 1)
          if (one === undefined) return
          const { type, offset, length, cookie, payload } = one
          expect([offset % BLOCK, offset + length === size ? 0 : length % BLOCK]).toEqual([0, 0])
          if (type === WRITE) payload.copy(disk, offset)
          if (type === WRITE_ZEROES || type === TRIM) disk.fill(0, offset, offset + length)
          const data = disk.toString('hex', offset, offset + length)
          if (type !== READ) inner.deliver(simpleReply(cookie))
          else if (!structured) inner.deliver(simpleReply(cookie, 0, data))
          else inner.deliver(chunk({ type: DATA, flags: DONE, cookie, payload: `${field(offset, 8)}${data}` }))
          await settled()
          take()
        }
        const take = (): void => {
          for (let bytes = got(); bytes.length > 0; ) {
            const cookie = bytes.readBigUInt64BE(8)
            const was = out.get(cookie)
            if (was === undefined) throw new Error('an answer to nothing')
            out.delete(cookie)
            const isChunk = bytes.readUInt32BE(0) === 0x668e33ef
            const head = isChunk ? 28 : 16
            const dataBytes = was.type === READ ? was.to - was.from : 0
            if (was.type === READ) expect(bytes.subarray(head, head + dataBytes)).toEqual(was.data)
            bytes = bytes.subarray((was.type === READ ? head : 16) + dataBytes)
          }
        }
        for (const [at, { type, offset, length: most, answered, cut }] of ops.entries()) {
          for (const which of answered) await carryOut(which)
          const length = Math.min(most, size - offset)
          const touched = [...out.values()].some(
            each => each.from < offset + length && offset < each.to && !(type === READ && each.type === READ),
          )
          if (touched) continue
          const data = Buffer.alloc(length, 1 + (at % 250))
          const payload = type === WRITE ? data.toString('hex') : ''
          if (type === WRITE) data.copy(model, offset)
          if (type === WRITE_ZEROES) model.fill(0, offset, offset + length)
          if (type === TRIM) {
            const [from, to] = [Math.ceil(offset / BLOCK) * BLOCK, offset + length]
            const end = to === size ? to : to - (to % BLOCK)
            if (from < end) model.fill(0, from, end)
          }
          const expected = Buffer.from(model.subarray(offset, offset + length))
          out.set(BigInt(at), { from: offset, to: offset + length, type, data: expected })
          const bytes = request({ type, cookie: BigInt(at), offset: BigInt(offset), length, payload })
          stream.write(bytes.subarray(0, cut))
          stream.write(bytes.subarray(cut))
          await settled()
          take()
        }
        for (let left = 400; out.size > 0 && left > 0; left--) await carryOut(left)
        expect(out.size).toBe(0)
        expect(disk).toEqual(model)
        expect([stream.unsentBytes, memory.bytes]).toEqual([inner.unsentBytes, 0])
      }),
      { numRuns: 150 },
    )
  })
})
