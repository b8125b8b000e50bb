import { describe, expect, it } from 'vitest'
import { Framer } from '../../../src/relay/framer.ts'
import { Pending } from '../../../src/relay/pending.ts'
import { type Counters, RequestGrammar, type RequestRules } from '../../../src/relay/requests.ts'
import { Throttle } from '../../../src/relay/throttle.ts'
import { everySplit, hex } from '../../support/bytes.ts'
import { ALL_FLAGS, CACHE, DISC, FLUSH, READ, READ_ONLY, request, TRIM, WRITE, WRITE_ZEROES } from './messages.ts'

const EPERM = 1
const EINVAL = 22
const ENOSPC = 28

const MiB = 1n << 20n
const NO_STRUCTURE = { client: false, upstream: false }

interface Requests {
  readonly framer: Framer
  readonly pending: Pending
  readonly counters: Counters
  /** Error and cookie of each refusal. */
  readonly refused: { type: number; error: number; cookie: bigint }[]
  readonly output: () => Buffer
}

/** Requests to an export of 1 MiB with everything allowed, but for what a test says. */
function requests(rules: Partial<RequestRules> = {}): Requests {
  const pending = new Pending()
  const counters = { reads: 0, writes: 0, flushes: 0, others: 0, refused: 0, bytesRead: 0, bytesWritten: 0 }
  const refused: { type: number; error: number; cookie: bigint }[] = []
  const written: Buffer[] = []
  const grammar = new RequestGrammar(
    { sizeBytes: MiB, flags: ALL_FLAGS, structured: NO_STRUCTURE, throttle: new Throttle(), ...rules },
    pending,
    counters,
    {
      refuse: (type, error, head, at) => refused.push({ type, error, cookie: head.readBigUInt64BE(at + 8) }),
      pass: bytes => framer.inject(bytes),
    },
  )
  const framer: Framer = new Framer(grammar, bytes => written.push(Buffer.from(bytes)))
  return { framer, pending, counters, refused, output: () => Buffer.concat(written) }
}

/** The error that one request is refused with; 0 when the upstream gets it. */
function errorOf(bytes: Buffer, rules: Partial<RequestRules> = {}): number {
  const { framer, refused, output } = requests(rules)
  framer.feed(bytes)
  expect(output().length > 0).toBe(refused.length === 0)
  return refused[0]?.error ?? 0
}

describe('requests to a read-only export', () => {
  const flags = ALL_FLAGS | READ_ONLY

  it('that would change it are answered EPERM, their payload is drained and the next one passes', async () => {
    const stream = Buffer.concat([
      request({ type: WRITE, cookie: 2n, length: 4, payload: '25609513' }),
      request({ type: TRIM, cookie: 3n, length: 512 }),
      request({ type: WRITE_ZEROES, cookie: 4n, length: 512 }),
      request({ type: READ, cookie: 5n, length: 512 }),
    ])
    await everySplit(stream, (chunks, how) => {
      const { framer, refused, output } = requests({ flags })
      for (const chunk of chunks) framer.feed(chunk)
      expect(refused, how).toEqual([
        { type: WRITE, error: EPERM, cookie: 2n },
        { type: TRIM, error: EPERM, cookie: 3n },
        { type: WRITE_ZEROES, error: EPERM, cookie: 4n },
      ])
      expect(output(), how).toEqual(hex('25609513 0000 0000 0000000100000000 0000000000000000 00000200'))
    })
  })

  it('that only read it pass', () => {
    expect(errorOf(request({ type: READ, length: 1 }), { flags })).toBe(0)
    expect(errorOf(request({ type: FLUSH }), { flags })).toBe(0)
    expect(errorOf(request({ type: CACHE, length: 1 }), { flags })).toBe(0)
  })
})

describe('ranges', () => {
  const kinds = [
    { type: READ, error: EINVAL },
    { type: WRITE, error: ENOSPC },
    { type: TRIM, error: EINVAL },
    { type: CACHE, error: EINVAL },
    { type: WRITE_ZEROES, error: ENOSPC },
  ]
  const of = (type: number, offset: bigint, length: number): Buffer =>
    request({ type, offset, length, payload: type === WRITE ? '61'.repeat(Math.min(length, 4096)) : '' })

  it('may end with the last byte of the export and not one behind it', () => {
    for (const { type, error } of kinds) {
      expect(errorOf(of(type, MiB - 512n, 512))).toBe(0)
      expect(errorOf(of(type, MiB - 511n, 512))).toBe(error)
      expect(errorOf(of(type, MiB, 1))).toBe(error)
      expect(errorOf(of(type, 0n, 1), { sizeBytes: 0n })).toBe(error)
    }
  })

  it('do not wrap around 64 bits', () => {
    const sizes = [MiB, 1n << 40n, (1n << 53n) - 1n, 1n << 53n, (1n << 63n) - 1n]
    const offsets = [0xffff_ffff_ffff_ffffn, 0xffff_ffff_ffff_fe00n, 1n << 63n, 0xffff_ffff_0000_0000n]
    for (const sizeBytes of sizes) {
      for (const offset of offsets) {
        for (const { type, error } of kinds) expect(errorOf(of(type, offset, 512), { sizeBytes })).toBe(error)
      }
    }
  })

  it('are exact where numbers are no longer exact', () => {
    for (const sizeBytes of [(1n << 53n) - 1n, 1n << 53n, (1n << 53n) + 1n, (1n << 63n) - 1n]) {
      const read = (offset: bigint, length: number): number =>
        errorOf(request({ type: READ, offset, length }), { sizeBytes })
      expect([read(sizeBytes - 1n, 1), read(sizeBytes, 1), read(sizeBytes - 1n, 2)]).toEqual([0, EINVAL, EINVAL])
      expect([read(sizeBytes - 4097n, 4097), read(sizeBytes - 4096n, 4097)]).toEqual([0, EINVAL])
    }
  })
})

describe('lengths', () => {
  it('of READ and WRITE go up to 32 MiB', () => {
    const rules = { sizeBytes: 1n << 40n }
    expect(errorOf(request({ type: READ, length: 1 << 25 }), rules)).toBe(0)
    expect(errorOf(request({ type: READ, length: (1 << 25) + 1 }), rules)).toBe(EINVAL)
    expect(errorOf(request({ type: WRITE, length: 1 << 25 }), rules)).toBe(0)
    expect(errorOf(request({ type: WRITE, length: (1 << 25) + 1 }), rules)).toBe(EINVAL)
    expect(errorOf(request({ type: READ, length: 0xffff_ffff }), rules)).toBe(EINVAL)
  })

  it('of a WRITE up to 128 MiB are drained to the last byte, and the session goes on', () => {
    const { framer, refused, output } = requests({ sizeBytes: 1n << 40n })
    framer.feed(request({ type: WRITE, length: 1 << 27 }))
    const piece = Buffer.alloc(1 << 20, 0x25)
    for (let sent = 0; sent < 128; sent++) {
      expect(framer.atBoundary).toBe(false)
      framer.feed(piece)
    }
    expect(framer.atBoundary).toBe(true)
    framer.feed(request({ type: FLUSH }))
    expect([refused.length, output().length]).toEqual([1, 28])
  })

  it('of a WRITE above 128 MiB end the connection, whatever else is wrong with it', () => {
    const tooLong = expect.objectContaining({ name: 'ProtocolError', code: 'TOO_LONG' })
    for (const flags of [ALL_FLAGS, ALL_FLAGS | READ_ONLY]) {
      for (const length of [(1 << 27) + 1, 0xffff_ffff]) {
        const { framer } = requests({ flags, sizeBytes: 1n << 40n })
        expect(() => framer.feed(request({ type: WRITE, length }))).toThrow(tooLong)
      }
    }
  })

  it('of commands without payload go up to 2^32 − 1: the kernel sends a TRIM of 0xfffffe00', () => {
    const rules = { sizeBytes: 1n << 40n }
    for (const type of [TRIM, WRITE_ZEROES, CACHE]) {
      expect(errorOf(request({ type, length: 0xffff_fe00 }), rules)).toBe(0)
      expect(errorOf(request({ type, length: 0xffff_ffff }), rules)).toBe(0)
    }
  })

  it('of nothing are EINVAL, of a FLUSH they have to be', () => {
    for (const type of [READ, WRITE, TRIM, CACHE, WRITE_ZEROES]) expect(errorOf(request({ type }))).toBe(EINVAL)
    expect(errorOf(request({ type: FLUSH }))).toBe(0)
    expect(errorOf(request({ type: FLUSH, length: 512 }))).toBe(EINVAL)
    expect(errorOf(request({ type: FLUSH, offset: 512n }))).toBe(EINVAL)
    expect(errorOf(request({ type: FLUSH, offset: 1n << 40n }))).toBe(EINVAL)
  })
})

describe('commands and flags', () => {
  it('that nobody knows are EINVAL', () => {
    for (const type of [7, 8, 9, 255, 256, 0xffff]) expect(errorOf(request({ type, length: 512 }))).toBe(EINVAL)
    for (const type of [READ, FLUSH, TRIM, CACHE, WRITE_ZEROES]) {
      for (const flags of [0x8, 0x20, 0x40, 0x8000, 0xfff0]) {
        expect(errorOf(request({ type, flags, length: type === FLUSH ? 0 : 512 }))).toBe(EINVAL)
      }
    }
  })

  it('drain the payload of a WRITE with an unknown flag', () => {
    const { framer, refused, output } = requests()
    framer.feed(request({ type: WRITE, flags: 0x20, cookie: 9n, length: 4, payload: '61626364' }))
    framer.feed(request({ type: FLUSH, cookie: 10n }))
    expect(refused).toEqual([{ type: WRITE, error: EINVAL, cookie: 9n }])
    expect(output().readUInt16BE(6)).toBe(FLUSH)
  })

  it('are only there when they were advertised', () => {
    const commands = [
      { type: FLUSH, bit: 0x004, length: 0 },
      { type: TRIM, bit: 0x020, length: 512 },
      { type: WRITE_ZEROES, bit: 0x040, length: 512 },
      { type: CACHE, bit: 0x400, length: 512 },
    ]
    for (const { type, bit, length } of commands) {
      expect(errorOf(request({ type, length }), { flags: 1 | bit })).toBe(0)
      expect(errorOf(request({ type, length }), { flags: ALL_FLAGS & ~bit })).toBe(EINVAL)
    }
  })

  it('let FUA stand on every command when it was advertised, and on none when not', () => {
    for (const type of [READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES]) {
      const length = type === FLUSH ? 0 : 1
      const bytes = (): Buffer => request({ type, flags: 1, length, payload: type === WRITE ? '61' : '' })
      expect(errorOf(bytes())).toBe(0)
      expect(errorOf(bytes(), { flags: ALL_FLAGS & ~0x8 })).toBe(EINVAL)
    }
  })

  it('let NO_HOLE and FAST_ZERO stand on WRITE_ZEROES alone, FAST_ZERO only when advertised', () => {
    const zero = (flags: number, rules = {}): number =>
      errorOf(request({ type: WRITE_ZEROES, flags, length: 1 }), rules)
    expect([zero(2), zero(0x10), zero(0x13)]).toEqual([0, 0, 0])
    expect(zero(0x10, { flags: ALL_FLAGS & ~0x800 })).toBe(EINVAL)
    for (const flags of [2, 0x10]) expect(errorOf(request({ type: TRIM, flags, length: 1 }))).toBe(EINVAL)
  })

  it('let DF stand on READ for clients with structured replies, and hide it from an upstream without, and FUA from all', () => {
    const read = (structured: RequestRules['structured']): { error: number; flags: number } => {
      const { framer, refused, output } = requests({ structured })
      framer.feed(request({ type: READ, flags: 5, length: 1 }))
      return { error: refused[0]?.error ?? 0, flags: output().length > 0 ? output().readUInt16BE(4) : -1 }
    }
    expect(read(NO_STRUCTURE)).toEqual({ error: EINVAL, flags: -1 })
    expect(read({ client: true, upstream: false })).toEqual({ error: 0, flags: 0 })
    expect(read({ client: true, upstream: true })).toEqual({ error: 0, flags: 4 })
  })
})

describe('a conversation of requests', () => {
  const CONVERSATION = Buffer.concat([
    request({ type: READ, cookie: 0xffff_ffff_ffff_ffffn, offset: 0x1000n, length: 512 }),
    request({ type: WRITE, flags: 1, cookie: 2n, offset: 3n, length: 5, payload: '68656c6c6f' }),
    request({ type: WRITE, cookie: 3n, offset: MiB, length: 3, payload: '626164' }),
    request({ type: 77, cookie: 4n }),
    request({ type: FLUSH, cookie: 5n }),
    request({ type: DISC, cookie: 6n }),
    hex('00112233'),
  ])

  it('reaches the upstream as the same bytes for every cut, under cookies of ours, up to DISC', async () => {
    const passes = hex(
      '25609513 0000 0000 0000000100000000 0000000000001000 00000200',
      '25609513 0001 0001 0000000100000001 0000000000000003 00000005 68656c6c6f',
      '25609513 0000 0003 0000000100000002 0000000000000000 00000000',
    )
    await everySplit(CONVERSATION, (chunks, how) => {
      const { framer, refused, output, pending } = requests()
      for (const chunk of chunks) framer.feed(chunk)
      expect(output(), how).toEqual(passes)
      expect(refused, how).toEqual([
        { type: WRITE, error: ENOSPC, cookie: 3n },
        { type: 77, error: EINVAL, cookie: 4n },
      ])
      expect([framer.stopped, pending.count], how).toEqual([true, 3])
    })
  })

  it('is counted by kind, refusals apart', () => {
    const { framer, counters } = requests()
    framer.feed(CONVERSATION)
    expect(counters).toEqual({
      reads: 1,
      writes: 1,
      flushes: 1,
      others: 0,
      refused: 2,
      bytesRead: 512,
      bytesWritten: 5,
    })
  })

  it('in which nothing is refused leaves as the memory it came in', () => {
    const pieces: Buffer[] = []
    const counters = { reads: 0, writes: 0, flushes: 0, others: 0, refused: 0, bytesRead: 0, bytesWritten: 0 }
    const rules = { sizeBytes: MiB, flags: ALL_FLAGS, structured: NO_STRUCTURE, throttle: new Throttle() }
    const grammar = new RequestGrammar(rules, new Pending(), counters, { refuse: () => {}, pass: () => {} })
    const framer = new Framer(grammar, bytes => pieces.push(bytes))
    const chunk = Buffer.concat([
      request({ type: WRITE, length: 4, payload: '61626364' }),
      request({ type: READ, length: 4 }),
    ])
    framer.feed(chunk)
    expect(pieces).toHaveLength(1)
    expect(pieces[0]).toBe(chunk)
  })

  it('ends with the first wrong magic, at every cut', async () => {
    const bytes = Buffer.concat([request({ type: FLUSH }), hex('21e41c71', '00'.repeat(24))])
    await everySplit(bytes, (chunks, how) => {
      const { framer } = requests()
      expect(() => chunks.map(chunk => framer.feed(chunk)), how).toThrow(expect.objectContaining({ code: 'BAD_MAGIC' }))
    })
  })

  it('may have 1000 requests in flight', () => {
    const { framer, pending, refused } = requests()
    for (let at = 0; at < 1000; at++) framer.feed(request({ type: READ, cookie: 1n, length: 1 }))
    expect([pending.count, pending.readBytes, refused.length]).toEqual([1000, 1000, 0])
  })
})

describe('a range that is guarded', () => {
  const BLOCK = 512
  const admitted: (number | string)[] = []
  const guard = (isGood: boolean) => ({
    touches: (offset: number, length: number) => offset < BLOCK && offset + length > 0,
    admits: (_offset: number, bytes: Buffer | number) => {
      admitted.push(typeof bytes === 'number' ? bytes : bytes.toString('latin1'))
      return isGood
    },
  })
  const stream = Buffer.concat([
    request({ type: WRITE, cookie: 1n, length: 4, payload: '61626364' }),
    request({ type: WRITE, cookie: 2n, offset: 4096n, length: 4, payload: '65666768' }),
  ])

  it.each(Array.from({ length: stream.length + 1 }, (_, at) => at))('is judged by whole WRITEs, split at %i', at => {
    for (const isGood of [true, false]) {
      admitted.length = 0
      const { framer, refused, output } = requests({ guard: guard(isGood) })
      framer.feed(Buffer.from(stream.subarray(0, at)))
      framer.feed(Buffer.from(stream.subarray(at)))
      expect(admitted).toEqual(['abcd'])
      expect(refused).toEqual(isGood ? [] : [{ type: WRITE, error: 1, cookie: 1n }])
      // In order, and with nothing in between.
      const passed = isGood ? ['abcd', 'efgh'] : ['efgh']
      const payloads = passed.map((_, index) => output().toString('latin1', index * 32 + 28, index * 32 + 32))
      expect([payloads, output().length]).toEqual([passed, passed.length * 32])
    }
  })

  it('is not judged by what lies elsewhere or changes nothing', () => {
    admitted.length = 0
    const { framer, output } = requests({ guard: guard(false) })
    framer.feed(request({ type: READ, length: 4 }))
    framer.feed(request({ type: WRITE, offset: 512n, length: 4, payload: '61626364' }))
    expect([admitted, output().length]).toEqual([[], 60])
  })

  it('counts zeroes without a payload', () => {
    admitted.length = 0
    const { framer, refused, output } = requests({ guard: guard(false) })
    framer.feed(request({ type: TRIM, cookie: 5n, length: 4096 }))
    framer.feed(request({ type: WRITE_ZEROES, cookie: 6n, length: 512 }))
    expect(admitted).toEqual([4096, 512])
    expect(refused.map(({ cookie, error }) => [cookie, error])).toEqual([
      [5n, 1],
      [6n, 1],
    ])
    expect(output()).toHaveLength(0)
  })
})
