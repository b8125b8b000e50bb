import { describe, expect, it } from 'vitest'
import type { ProtocolErrorCode } from '../../../src/protocol/errors.ts'
import { Framer } from '../../../src/relay/framer.ts'
import { Pending } from '../../../src/relay/pending.ts'
import { ReplyGrammar, type ReplyKinds } from '../../../src/relay/replies.ts'
import { everySplit, hex, inRoom } from '../../support/bytes.ts'
import { chunk, FLUSH, READ, request, simpleReply, WRITE } from './messages.ts'

const SIMPLE = { client: false, upstream: false }
const STRUCTURED = { client: true, upstream: true }
const LIFTED = { client: true, upstream: false }

/** The cookie of the first request that goes out, and of the n-th as long as none has been answered. */
const OURS = 0x0000_0001_0000_0000n
const ours = (at: number): bigint => OURS + BigInt(at)

/** The client's cookie of the n-th request. */
const theirs = (at: number): bigint => 0xffff_ffff_ffff_ff00n + BigInt(at)

const DONE = 1
const NONE = 0
const DATA = 1
const HOLE = 2
const ERROR = 0x8001
const ERROR_OFFSET = 0x8002

interface Out {
  readonly type: number
  readonly offset?: bigint
  readonly length: number
}

const READ_512: Out = { type: READ, offset: 0x1_0000_0000n, length: 512 }

interface Replies {
  readonly framer: Framer
  readonly pending: Pending
  readonly pieces: Buffer[]
  readonly output: () => Buffer
}

/** Memory of our own in front of each chunk that is fed in. */
const HEADROOM = 32

/** Replies to requests that are out. Chunks fed in need HEADROOM in front where a reply is lifted. */
function replies(structured: ReplyKinds, ...out: readonly Out[]): Replies {
  const pending = new Pending()
  out.forEach((fields, at) => {
    const head = request({ ...fields, cookie: theirs(at) })
    pending.add(head, 8, 16, fields.type, fields.length, fields.type === READ ? fields.length : 0)
    expect(head.readBigUInt64BE(8)).toBe(ours(at))
  })
  const pieces: Buffer[] = []
  const written: Buffer[] = []
  const framer = new Framer(
    new ReplyGrammar(structured, pending),
    bytes => {
      pieces.push(bytes)
      written.push(Buffer.from(bytes))
    },
    HEADROOM,
  )
  return { framer, pending, pieces, output: () => Buffer.concat(written) }
}

/** Expects that the session ends, with `code`, for every way to cut the bytes. */
async function refuses(
  code: ProtocolErrorCode,
  bytes: Buffer,
  kinds: ReplyKinds,
  ...out: readonly Out[]
): Promise<void> {
  await everySplit(bytes, (chunks, how) => {
    const { framer } = replies(kinds, ...out)
    expect(() => chunks.map(piece => framer.feed(piece)), how).toThrow(
      expect.objectContaining({ name: 'ProtocolError', code }),
    )
  })
}

const data = (offset: string, bytes: number, flags = DONE): Buffer =>
  chunk({ type: DATA, flags, cookie: OURS, payload: `${offset} ${'61'.repeat(bytes)}` })
const hole = (offset: string, size: string, flags = DONE): Buffer =>
  chunk({ type: HOLE, flags, cookie: OURS, payload: `${offset} ${size}` })
const START = '0000000100000000'

describe('simple replies', () => {
  it('give each client cookie back, in any order, the same for every cut', async () => {
    const stream = Buffer.concat([simpleReply(ours(2)), simpleReply(ours(0), 0, '67446698'), simpleReply(ours(1), 5)])
    await everySplit(stream, (chunks, how) => {
      const out = [
        { type: READ, length: 4 },
        { type: READ, length: 512 },
        { type: WRITE, length: 9 },
      ]
      const { framer, pending, output } = replies(SIMPLE, ...out)
      for (const piece of chunks) framer.feed(piece)
      const passes = hex(
        '67446698 00000000 ffffffffffffff02',
        '67446698 00000000 ffffffffffffff00 67446698',
        '67446698 00000005 ffffffffffffff01',
      )
      expect(output(), how).toEqual(passes)
      expect([pending.count, pending.readBytes], how).toEqual([0, 0])
    })
  })

  it('that are whole leave as the memory they came in', () => {
    const { framer, pieces } = replies(SIMPLE, { type: READ, length: 4 }, { type: WRITE, length: 4 })
    const bytes = Buffer.concat([simpleReply(ours(0), 0, '61626364'), simpleReply(ours(1))])
    framer.feed(bytes)
    expect(pieces).toHaveLength(1)
    expect(pieces[0]).toBe(bytes)
  })

  it('to a request that is not out end the session', async () => {
    await refuses('UNKNOWN_COOKIE', simpleReply(0n), SIMPLE, READ_512)
    await refuses('UNKNOWN_COOKIE', simpleReply(theirs(0)), SIMPLE, READ_512)
    await refuses('UNKNOWN_COOKIE', simpleReply(0xffff_ffff_ffff_ffffn), SIMPLE, READ_512)
    await refuses('UNKNOWN_COOKIE', simpleReply(OURS), SIMPLE)
  })

  it('given twice to one request end the session', async () => {
    const twice = Buffer.concat([simpleReply(OURS), simpleReply(OURS)])
    await refuses('UNKNOWN_COOKIE', twice, SIMPLE, { type: WRITE, length: 4 })
  })

  it('with another magic end the session', async () => {
    for (const magic of ['25609513', '00000000', '6e8a278c', '67446699']) {
      await refuses('BAD_MAGIC', hex(magic, '00000000 0000000100000000'), SIMPLE, READ_512)
    }
  })

  it('are all there is where structured ones were not negotiated', async () => {
    await refuses('BAD_MAGIC', data(START, 512), SIMPLE, READ_512)
    await refuses('BAD_MAGIC', data(START, 512), LIFTED, READ_512)
  })

  it('may not answer a READ where structured ones were negotiated, but anything else; their errors become chunks', async () => {
    await refuses('BAD_REPLY', simpleReply(OURS, 0), STRUCTURED, READ_512)
    await refuses('BAD_REPLY', simpleReply(OURS, 5), STRUCTURED, READ_512)
    const { framer, output } = replies(STRUCTURED, { type: FLUSH, length: 0 })
    framer.feed(simpleReply(OURS, 28))
    expect(output()).toEqual(hex('668e33ef 0001 8001 ffffffffffffff00 00000006 0000001c 0000'))
  })
})

describe('structured replies', () => {
  it('pass with the client’s cookie, chunk by chunk, the same for every cut', async () => {
    const out = [
      { type: READ, offset: 0x1_0000_0000n, length: 12 },
      { type: WRITE, length: 4 },
    ]
    const stream = Buffer.concat([
      data('0000000100000008', 4, 0),
      chunk({ type: NONE, flags: DONE, cookie: ours(1) }),
      hole(START, '00000008', 0),
      chunk({ type: NONE, flags: DONE, cookie: OURS }),
    ])
    const passes = hex(
      '668e33ef 0000 0001 ffffffffffffff00 0000000c 0000000100000008 61616161',
      '668e33ef 0001 0000 ffffffffffffff01 00000000',
      '668e33ef 0000 0002 ffffffffffffff00 0000000c 0000000100000000 00000008',
      '668e33ef 0001 0000 ffffffffffffff00 00000000',
    )
    await everySplit(stream, (chunks, how) => {
      const { framer, pending, output } = replies(STRUCTURED, ...out)
      for (const piece of chunks) framer.feed(piece)
      expect(output(), how).toEqual(passes)
      expect([pending.count, pending.readBytes], how).toEqual([0, 0])
    })
  })

  it('that are whole leave as the memory they came in', () => {
    const { framer, pieces } = replies(STRUCTURED, READ_512)
    const bytes = data(START, 512)
    framer.feed(bytes)
    expect(pieces[0]).toBe(bytes)
  })

  it('end the session with an unknown cookie, and with one whose reply is over', async () => {
    await refuses('UNKNOWN_COOKIE', chunk({ type: NONE, flags: DONE, cookie: 5n }), STRUCTURED, READ_512)
    const more = Buffer.concat([data(START, 512), chunk({ type: NONE, flags: DONE, cookie: OURS })])
    await refuses('UNKNOWN_COOKIE', more, STRUCTURED, READ_512)
  })

  it('end the session with a chunk before, after or around the request', async () => {
    await refuses('BAD_REPLY', data('00000000ffffffff', 1), STRUCTURED, READ_512)
    await refuses('BAD_REPLY', data('0000000000000000', 512), STRUCTURED, READ_512)
    await refuses('BAD_REPLY', data('0000000100000200', 1), STRUCTURED, READ_512)
    await refuses('BAD_REPLY', data('00000001000001ff', 2), STRUCTURED, READ_512)
    await refuses('BAD_REPLY', data('ffffffffffffffff', 2), STRUCTURED, READ_512)
    await refuses('BAD_REPLY', data(START, 513), STRUCTURED, READ_512)
    await refuses('BAD_REPLY', hole('00000000ffffffff', '00000002'), STRUCTURED, READ_512)
    await refuses('BAD_REPLY', hole(START, '00000201'), STRUCTURED, READ_512)
    await refuses('BAD_REPLY', hole(START, 'ffffffff'), STRUCTURED, READ_512)
    await refuses('BAD_REPLY', hole('0000000100000200', '00000001'), STRUCTURED, READ_512)
  })

  it('end the session at the head of a chunk of 4 GiB, before a byte of it is there', async () => {
    const head = chunk({ type: DATA, cookie: OURS, length: 0xffff_ffff, payload: START })
    await refuses('BAD_REPLY', head, STRUCTURED, READ_512)
  })

  it('end the session with more data than was asked for, in however many chunks', async () => {
    const more = Buffer.concat([data(START, 400, 0), data('0000000100000100', 200, 0)])
    await refuses('BAD_REPLY', more, STRUCTURED, READ_512)
  })

  it('end the session when they are done before all has come', async () => {
    await refuses('BAD_REPLY', data(START, 511), STRUCTURED, READ_512)
    await refuses('BAD_REPLY', chunk({ type: NONE, flags: DONE, cookie: OURS }), STRUCTURED, READ_512)
    await refuses('BAD_REPLY', hole(START, '000001ff'), STRUCTURED, READ_512)
  })

  it('may be done before all has come when an error was told', () => {
    const error = chunk({ type: ERROR, cookie: OURS, payload: '00000005 0000' })
    for (const last of [chunk({ type: NONE, flags: DONE, cookie: OURS }), data(START, 8)]) {
      const { framer, pending } = replies(STRUCTURED, READ_512)
      framer.feed(Buffer.concat([error, last]))
      expect([pending.count, pending.readBytes]).toEqual([0, 0])
    }
  })

  it('end the session with a hole of nothing, or of a wrong length', async () => {
    await refuses('BAD_REPLY', hole(START, '00000000'), STRUCTURED, READ_512)
    await refuses('BAD_LENGTH', chunk({ type: HOLE, cookie: OURS, payload: START }), STRUCTURED, READ_512)
    const long = chunk({ type: HOLE, cookie: OURS, payload: `${START} 00000200 00` })
    await refuses('BAD_LENGTH', long, STRUCTURED, READ_512)
  })

  it('end the session with data of nothing, and with a NONE that has a payload or is not the last', async () => {
    await refuses('BAD_LENGTH', data(START, 0), STRUCTURED, READ_512)
    await refuses('BAD_LENGTH', chunk({ type: DATA, cookie: OURS }), STRUCTURED, READ_512)
    const payload = chunk({ type: NONE, flags: DONE, cookie: OURS, payload: '00' })
    await refuses('BAD_LENGTH', payload, STRUCTURED, { type: FLUSH, length: 0 })
    await refuses('BAD_REPLY', chunk({ type: NONE, cookie: OURS }), STRUCTURED, { type: FLUSH, length: 0 })
  })

  it('end the session with data or a hole for what is no READ', async () => {
    for (const type of [WRITE, FLUSH]) {
      const out = { type, offset: 0x1_0000_0000n, length: 512 }
      await refuses('BAD_REPLY', data(START, 512), STRUCTURED, out)
      await refuses('BAD_REPLY', hole(START, '00000200'), STRUCTURED, out)
    }
  })

  it('end the session with an unknown type, since nobody asked for it', async () => {
    for (const type of [3, 4, 6, 99, 0x7fff]) {
      await refuses('BAD_REPLY', chunk({ type, flags: DONE, cookie: OURS, payload: '0000' }), STRUCTURED, READ_512)
    }
  })
})

describe('error chunks', () => {
  it('pass with their message, and with the offset', async () => {
    const stream = Buffer.concat([
      chunk({ type: ERROR_OFFSET, cookie: OURS, payload: '00000005 0003 626164 0000000100000010' }),
      chunk({ type: ERROR, flags: DONE, cookie: OURS, payload: '0000001c 0002 6e6f' }),
    ])
    await everySplit(stream, (chunks, how) => {
      const { framer, pending, output } = replies(STRUCTURED, READ_512)
      for (const piece of chunks) framer.feed(piece)
      const passes = hex(
        '668e33ef 0000 8002 ffffffffffffff00 00000011 00000005 0003 626164 0000000100000010',
        '668e33ef 0001 8001 ffffffffffffff00 00000008 0000001c 0002 6e6f',
      )
      expect(output(), how).toEqual(passes)
      expect(pending.count, how).toBe(0)
    })
  })

  it('answer every command', () => {
    for (const type of [WRITE, FLUSH]) {
      const { framer, pending } = replies(STRUCTURED, { type, length: 0 })
      framer.feed(chunk({ type: ERROR, flags: DONE, cookie: OURS, payload: '00000005 0000' }))
      expect(pending.count).toBe(0)
    }
  })

  it('end the session when their lengths do not add up', async () => {
    for (const payload of ['00000005 0001', '00000005 0000 61', '00000005 ffff 61']) {
      await refuses('BAD_REPLY', chunk({ type: ERROR, cookie: OURS, payload }), STRUCTURED, READ_512)
    }
    for (const payload of ['00000005 0000', '00000005 0001 0000000100000000']) {
      await refuses('BAD_REPLY', chunk({ type: ERROR_OFFSET, cookie: OURS, payload }), STRUCTURED, READ_512)
    }
    for (const type of [ERROR, ERROR_OFFSET, 0x8abc]) {
      await refuses('BAD_LENGTH', chunk({ type, cookie: OURS, payload: '00000005 00' }), STRUCTURED, READ_512)
    }
  })

  it('end the session when their offset lies outside the request', async () => {
    for (const offset of ['00000000ffffffff', '0000000100000200', 'ffffffffffffffff']) {
      const bytes = chunk({ type: ERROR_OFFSET, cookie: OURS, payload: `00000005 0001 61 ${offset}` })
      await refuses('BAD_REPLY', bytes, STRUCTURED, READ_512)
    }
    for (const offset of [START, '00000001000001ff']) {
      const { framer, pieces } = replies(STRUCTURED, READ_512)
      framer.feed(chunk({ type: ERROR_OFFSET, cookie: OURS, payload: `00000005 0001 61 ${offset}` }))
      expect(pieces).toHaveLength(1)
    }
  })

  it('end the session when an unknown type names a message longer than the chunk', async () => {
    const bytes = chunk({ type: 0x8abc, cookie: OURS, payload: '00000005 0003 6161' })
    await refuses('BAD_REPLY', bytes, STRUCTURED, READ_512)
  })

  it('with the longest message pass whole', async () => {
    const payload = `00000005 1000 ${'61'.repeat(4096)} ${START}`
    const whole = chunk({ type: ERROR_OFFSET, cookie: OURS, payload })
    for (const cut of [1, 20, 26, 28, 4000, whole.length]) {
      const { framer, output } = replies(STRUCTURED, READ_512)
      framer.feed(Buffer.from(whole.subarray(0, cut)))
      framer.feed(Buffer.from(whole.subarray(cut)))
      expect(output()).toEqual(chunk({ type: ERROR_OFFSET, cookie: theirs(0), payload }))
    }
  })

  it('end the session when they report no error', async () => {
    await refuses('BAD_REPLY', chunk({ type: ERROR, cookie: OURS, payload: '00000000 0000' }), STRUCTURED, READ_512)
  })

  it('end the session with a message longer than 4096 bytes', async () => {
    const head = chunk({ type: ERROR, cookie: OURS, length: 6 + 4096 + 9, payload: '00000005 1009' })
    await refuses('BAD_LENGTH', head, STRUCTURED, READ_512)
  })

  it('of an unknown type fail the request and nothing else', () => {
    const { framer, pending, output } = replies(STRUCTURED, READ_512)
    framer.feed(chunk({ type: 0xffff, flags: DONE, cookie: OURS, payload: '00000005 0001 61 6262' }))
    expect(pending.count).toBe(0)
    expect(output()).toEqual(hex('668e33ef 0001 ffff ffffffffffffff00 00000009 00000005 0001 61 6262'))
  })
})

describe('simple replies for a client with structured ones', () => {
  it('become one chunk with the offset of the READ, the same for every cut', async () => {
    const out = [
      { type: READ, offset: 0x1_0000_0003n, length: 4 },
      { type: READ, length: 512 },
      { type: WRITE, length: 1 },
      { type: WRITE, length: 1 },
    ]
    const stream = Buffer.concat([
      simpleReply(ours(1), 5),
      simpleReply(ours(0), 0, '61626364'),
      simpleReply(ours(2), 1),
      simpleReply(ours(3), 0),
    ])
    const passes = hex(
      '668e33ef 0001 8001 ffffffffffffff01 00000006 00000005 0000',
      '668e33ef 0001 0001 ffffffffffffff00 0000000c 0000000100000003 61626364',
      '668e33ef 0001 8001 ffffffffffffff02 00000006 00000001 0000',
      '67446698 00000000 ffffffffffffff03',
    )
    await everySplit(stream, (chunks, how) => {
      const { framer, pending, output } = replies(LIFTED, ...out)
      for (const piece of chunks) framer.feed(inRoom(piece, HEADROOM))
      expect(output(), how).toEqual(passes)
      expect(pending.count, how).toBe(0)
    })
  })

  it('keep their payload in the memory it came in', () => {
    const { framer, pieces } = replies(LIFTED, { type: READ, length: 4 })
    const bytes = inRoom(simpleReply(OURS, 0, '61626364'), HEADROOM)
    framer.feed(bytes)
    expect(pieces).toHaveLength(1)
    expect(pieces[0]?.buffer).toBe(bytes.buffer)
    expect(pieces[0]?.subarray(28)).toEqual(bytes.subarray(16))
    expect(pieces[0]?.byteOffset).toBe(HEADROOM - 12)
  })
})

describe('messages of our own among the replies', () => {
  it('stand only between two of them, wherever the stream was cut', async () => {
    const own = simpleReply(0xaaaan, 22)
    const stream = Buffer.concat([simpleReply(ours(0), 0, '61626364'), simpleReply(ours(1)), simpleReply(ours(2), 5)])
    const out = [
      { type: READ, length: 4 },
      { type: WRITE, length: 1 },
      { type: WRITE, length: 1 },
    ]
    const boundaries = [0, 20, 36, 52]
    for (let cut = 0; cut <= stream.length; cut++) {
      const { framer, output } = replies(SIMPLE, ...out)
      framer.feed(Buffer.from(stream.subarray(0, cut)))
      framer.inject(own)
      framer.feed(Buffer.from(stream.subarray(cut)))
      const at = output().indexOf(own)
      expect(boundaries, `cut at ${cut}`).toContain(at)
      const rest = Buffer.concat([output().subarray(0, at), output().subarray(at + own.length)])
      expect(rest, `cut at ${cut}`).toHaveLength(stream.length)
      expect(rest.subarray(16, 20).toString(), `cut at ${cut}`).toBe('abcd')
    }
  })
})
