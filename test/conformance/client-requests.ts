/** The client's rules of the transmission phase: which requests reach an upstream, and what is done of its replies. */
import { expect } from 'vitest'
import { COMMAND, ERROR, infoData, OPTION, request, simpleReply, u16, u32, u64 } from '../interop/hostile-support.ts'
import { waitFor } from '../support/wait.ts'
import { ALL_FLAGS, type Asked, bytesAt, type Plan } from './fake.ts'
import type { Ground } from './ground.ts'
import { type Entry, notApplicable, notKept, proven } from './rows.ts'
import {
  ask,
  askAll,
  CAN,
  CHUNK,
  chunkOf,
  closed,
  errorOf,
  FLAG,
  message,
  metaQuery,
  NOTHING,
  typesOf,
} from './wire.ts'

const MIB = 1 << 20
const { FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO } = FLAG

/** A client with structured replies and base:allocation. */
async function mapping({ fake, greeted }: Ground, plan: Plan) {
  fake.use(plan)
  const peer = await greeted()
  await askAll(peer, OPTION.STRUCTURED_REPLY)
  await askAll(peer, OPTION.SET_META_CONTEXT, metaQuery('fake', 'base:allocation'))
  await peer.enter('fake')
  return peer
}

/** Reads of which the upstream answers one in this way, on a connection with structured replies. */
async function read(ground: Ground, answer: (asked: Asked) => Uint8Array) {
  let isFirst = true
  const once = (asked: Asked) => {
    const own = isFirst && asked.type === COMMAND.READ
    if (own) isFirst = false
    return own ? answer(asked) : undefined
  }
  const peer = await ground.insideFake({ answer: once }, true)
  return { peer, reply: ask(peer, { type: COMMAND.READ, offset: 4096n, length: 4096 }) }
}

const data = (cookie: bigint, offset: number, length: number, flags = 1) =>
  chunkOf(cookie, CHUNK.DATA, Buffer.concat([u64(BigInt(offset)), bytesAt(offset, length)]), flags)
const hole = (cookie: bigint, offset: number, length: number, flags = 1) =>
  chunkOf(cookie, CHUNK.HOLE, Buffer.concat([u64(BigInt(offset)), u32(length)]), flags)
const none = (cookie: bigint) => chunkOf(cookie, CHUNK.NONE, NOTHING)
const failure = (cookie: bigint, type: number, text = '', flags = 1) =>
  chunkOf(cookie, type, Buffer.concat([u32(5), u16(text.length), Buffer.from(text)]), flags)

export const clientRequests: readonly Entry[] = [
  proven(
    'gives each request that is out a cookie of its own, also where its client gives several the same',
    { Transmission: ['Clients SHOULD use a cookie that is distinct from all other currently pending transactions'] },
    async ({ insideFake, fake }) => {
      const held: Asked[] = []
      const peer = await insideFake({
        answer: asked => {
          held.push(asked)
          return NOTHING
        },
      })
      for (let n = 0; n < 20; n++)
        peer.send(request({ type: COMMAND.READ, cookie: 7n, offset: BigInt(512 * n), length: 512 }))
      await waitFor('all of them out', () => held.length === 20)
      expect(new Set(held.map(({ cookie }) => cookie)).size).toBe(20)
      for (const { cookie, offset } of held.toReversed()) {
        fake.last.send(Buffer.concat([simpleReply(0, cookie), bytesAt(Number(offset), 512)]))
      }
      for (let n = 19; n >= 0; n--) expect((await message(peer, 512)).payload).toEqual(bytesAt(512 * n, 512))
    },
  ),
  proven(
    'passes on no command and no flag that the upstream has not told of',
    {
      'Transmission flags': [
        "The client MUST NOT use a feature documented as 'exposed' by a flag unless that flag was set",
        'Clients MUST NOT set the `NBD_CMD_FLAG_DF` request flag unless this transmission flag is set',
        'Clients MUST NOT set the `NBD_CMD_FLAG_FAST_ZERO` request flag unless this transmission flag is set',
      ],
      'Command flags': [
        'Clients MUST NOT set a command flag bit that is not documented for the particular command',
        'MUST NOT be set unless the transmission flags include `NBD_FLAG_SEND_DF`',
        'The client MUST NOT set this unless the server advertised `NBD_FLAG_SEND_FAST_ZERO`',
      ],
      'Request types': [
        'A client MUST NOT send a flush request unless `NBD_FLAG_SEND_FLUSH` was set in the transmission flags field',
        'A client MUST NOT send a trim request unless `NBD_FLAG_SEND_TRIM` was set in the transmission flags field',
        'A client MUST NOT send a write zeroes request unless `NBD_FLAG_SEND_WRITE_ZEROES` was set in the transmission flags field',
        'Additionally, a client MUST NOT send the `NBD_CMD_FLAG_FAST_ZERO` flag unless `NBD_FLAG_SEND_FAST_ZERO` was set',
      ],
    },
    async ({ insideFake, fake }) => {
      const tries = [0, 1, 3, 4, 5, 6, 7, 8, 99].flatMap(type =>
        [0, FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, 0x20, 0x8000].map(flags => ({ type, flags })),
      )
      const needs: readonly (readonly [flag: number, isUsing: (asked: Asked) => boolean])[] = [
        [CAN.FLUSH, ({ type }) => type === COMMAND.FLUSH],
        [CAN.FUA, ({ flags }) => (flags & FUA) !== 0],
        [CAN.TRIM, ({ type }) => type === COMMAND.TRIM],
        [CAN.ZEROES, ({ type, flags }) => type === COMMAND.ZEROES || (flags & NO_HOLE) !== 0],
        [CAN.DF, ({ flags }) => (flags & DF) !== 0],
        [CAN.CACHE, ({ type }) => type === COMMAND.CACHE],
        [CAN.FAST_ZERO, ({ flags }) => (flags & FAST_ZERO) !== 0],
      ]
      for (const told of [CAN.HAS_FLAGS, ...needs.map(([flag]) => ALL_FLAGS & ~flag), ALL_FLAGS]) {
        const peer = await insideFake({ flags: told }, true)
        for (const { type, flags } of tries) {
          const length = type === COMMAND.FLUSH ? 0 : 512
          await errorOf(peer, { type, flags, length }, Buffer.alloc(type === COMMAND.WRITE ? 512 : 0))
        }
        const { requests } = fake.last
        expect(requests.length).toBeGreaterThan(0)
        for (const [flag, isUsing] of needs) {
          if ((told & flag) === 0) expect(requests.filter(isUsing), `without flag ${flag}`).toEqual([])
          else if (told === ALL_FLAGS) expect(requests.some(isUsing), `with flag ${flag}`).toBe(true)
        }
        expect(requests.filter(({ type }) => type > COMMAND.ZEROES)).toEqual([])
        expect(requests.filter(({ flags }) => (flags & ~0x17) !== 0)).toEqual([])
        const documented = { 0: DF, 1: FUA, 3: 0, 4: FUA, 5: 0, 6: FUA | NO_HOLE | FAST_ZERO }
        for (const [type, allowed] of Object.entries(documented)) {
          expect(requests.filter(each => each.type === Number(type) && (each.flags & ~allowed) !== 0)).toEqual([])
        }
      }
    },
  ),
  proven(
    'sets FUA on what writes alone, though its client may set it on everything',
    { 'Command flags': ['client SHOULD NOT set this bit unless the command has the potential of writing data'] },
    async ({ insideFake, fake }) => {
      for (const structured of [false, true]) {
        const peer = await insideFake({}, structured)
        for (const type of [0, 1, 3, 4, 5, 6]) {
          const length = type === COMMAND.FLUSH ? 0 : 512
          const error = await errorOf(peer, { type, flags: FUA, length }, Buffer.alloc(type === 1 ? 512 : 0))
          expect(error).toBe(ERROR.NONE)
        }
        const withFua = fake.last.requests.filter(({ flags }) => (flags & FUA) !== 0).map(({ type }) => type)
        expect(withFua).toEqual([COMMAND.WRITE, COMMAND.TRIM, COMMAND.ZEROES])
        expect(fake.last.requests).toHaveLength(6)
      }
    },
  ),
  proven(
    'asks for one content chunk, and for no hole, where its client does',
    {
      'Command flags': [
        'SHOULD be set to 1 if the client requires the server to send at most one content chunk in reply',
        'SHOULD be set to 1 if the client wants to ensure that the server does not create a hole',
      ],
    },
    async ({ insideFake, fake }) => {
      const peer = await insideFake({}, true)
      await errorOf(peer, { type: COMMAND.READ, flags: DF, length: 512 })
      await errorOf(peer, { type: COMMAND.ZEROES, flags: NO_HOLE, length: 512 })
      expect(fake.last.requests.map(({ flags }) => flags)).toEqual([DF, NO_HOLE])
    },
  ),
  proven(
    'passes on no request that reaches beyond the export, is of no length, or writes on a read-only one',
    {
      'Size constraints': [
        'the client MUST NOT use a *length* which, when added to *offset*, would exceed the export size',
      ],
      'Request types': [
        'The client SHOULD NOT request a read length of 0',
        'The client SHOULD NOT request a write length of 0',
        'The client SHOULD NOT request a trim length of 0',
        'request a write length of 0; the behavior of a server on such a request is unspecified although the server SHOULD NOT disconnect. The server MUST zero out',
        'The client SHOULD NOT request a status length of 0',
      ],
    },
    async ground => {
      const peer = await mapping(ground, {})
      for (const type of [0, 1, 4, 5, 6, 7]) {
        for (const [offset, length] of [
          [MIB, 1],
          [MIB - 511, 512],
          [2 ** 53, 512],
          [0, 0],
        ] as const) {
          const payload = Buffer.alloc(type === COMMAND.WRITE ? length : 0)
          expect(await errorOf(peer, { type, offset: BigInt(offset), length }, payload)).not.toBe(ERROR.NONE)
        }
      }
      expect(ground.fake.last.requests).toEqual([])
      const reader = await ground.insideFake({ flags: ALL_FLAGS | CAN.READ_ONLY })
      for (const type of [1, 4, 6]) {
        expect(await errorOf(reader, { type, length: 512 }, Buffer.alloc(type === 1 ? 512 : 0))).toBe(ERROR.EPERM)
      }
      expect(ground.fake.last.requests).toEqual([])
    },
  ),
  proven(
    'asks for no more than 2^25 bytes at a time',
    { 'Size constraints': ['limit `NBD_CMD_READ` and `NBD_CMD_WRITE` commands to a maximum payload size of 2^25'] },
    async ({ insideFake, fake }) => {
      const peer = await insideFake({ size: 1n << 30n })
      expect(await errorOf(peer, { type: COMMAND.READ, length: (1 << 25) + 1 })).toBe(ERROR.EINVAL)
      const long = Buffer.alloc((1 << 25) + 1)
      expect(await errorOf(peer, { type: COMMAND.WRITE, length: long.length }, long)).toBe(ERROR.EINVAL)
      expect(fake.last.requests).toEqual([])
    },
  ),
  proven(
    'follows the head of a WRITE with its payload, FLUSH with nothing in it',
    {
      'Request types': [
        'The client MUST follow the request header with *length* number of bytes to be written to the device',
        'For a flush request, *length* and *offset* are reserved, and MUST be set to all-zero',
      ],
    },
    async ({ insideFake, fake }) => {
      const peer = await insideFake({})
      for (const length of [1, 512, 65536, 300_000]) {
        expect(await errorOf(peer, { type: COMMAND.WRITE, offset: 4096n, length }, bytesAt(9, length))).toBe(ERROR.NONE)
        const last = fake.last.requests.at(-1)
        expect(last).toMatchObject({ offset: 4096n, length })
        expect(last?.payload.equals(bytesAt(9, length))).toBe(true)
      }
      expect(await errorOf(peer, { type: COMMAND.FLUSH, offset: 1n })).toBe(ERROR.EINVAL)
      expect(await errorOf(peer, { type: COMMAND.FLUSH, length: 512 })).toBe(ERROR.EINVAL)
      expect(await errorOf(peer, { type: COMMAND.FLUSH })).toBe(ERROR.NONE)
      expect(fake.last.requests.filter(({ type }) => type === 3)).toMatchObject([{ offset: 0n, length: 0, flags: 0 }])
    },
  ),
  proven(
    'leaves with DISC of zeroes once all is answered, and sends nothing after it',
    {
      'Request types': [
        'A client MUST NOT send anything to the server after sending an `NBD_CMD_DISC` command',
        'The values of the length and offset fields in a disconnect request MUST be zero',
      ],
      'Terminating the transmission phase': ['SHOULD wait until there are no inflight requests first'],
    },
    async ({ insideFake, fake }) => {
      const held: Asked[] = []
      const peer = await insideFake({
        answer: asked => {
          held.push(asked)
          return NOTHING
        },
      })
      for (const cookie of [1n, 2n]) peer.send(request({ type: COMMAND.READ, cookie, length: 512 }))
      peer.send(request({ type: COMMAND.DISC, cookie: 9n, offset: 77n, length: 88, flags: 1 }))
      // What comes after DISC is nobody's.
      peer.send(request({ type: COMMAND.READ, cookie: 3n, length: 512 }))
      await waitFor('both are out', () => held.length === 2)
      for (const { cookie } of held) fake.last.send(Buffer.concat([simpleReply(0, cookie), bytesAt(0, 512)]))
      const visit = await fake.ended()
      expect(visit.requests.map(({ type }) => type)).toEqual([0, 0, 2])
      expect(visit.requests.at(-1)).toMatchObject({ flags: 0, offset: 0n, length: 0 })
      expect(visit.late).toBe(0)
      await closed(peer)
    },
  ),
  proven(
    'leaves with DISC when its client is gone without a word',
    {
      'Terminating the transmission phase': [
        'The client and the server MUST NOT initiate any form of disconnect other than',
      ],
    },
    async ({ insideFake, fake }) => {
      for (const how of ['destroy', 'reset', 'finish'] as const) {
        const peer = await insideFake({})
        expect(await errorOf(peer, { type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
        peer[how]()
        expect((await fake.ended()).end, how).toBe('DISC')
      }
    },
  ),
  proven(
    'tells its client of ESHUTDOWN, and leaves the upstream with DISC when that leaves',
    {
      'Terminating the transmission phase': [
        'If the client receives an `NBD_ESHUTDOWN` error it MUST initiate a soft disconnect',
      ],
    },
    async ({ insideFake, fake }) => {
      const peer = await insideFake({
        answer: ({ type, cookie }) => (type === 2 ? undefined : simpleReply(108, cookie)),
      })
      expect(await errorOf(peer, { type: COMMAND.READ, length: 512 })).toBe(108)
      peer.send(request({ type: COMMAND.DISC }))
      expect((await fake.ended()).end).toBe('DISC')
    },
  ),
  proven(
    'takes an error that nobody knows for EINVAL, and stays',
    {
      'Error values': [
        'The client SHOULD treat an unexpected error value as if it had been `NBD_EINVAL`, rather than disconnecting',
      ],
    },
    async ({ insideFake }) => {
      let error = 12_345
      const peer = await insideFake({ answer: ({ cookie }) => (error === 0 ? undefined : simpleReply(error, cookie)) })
      expect(await errorOf(peer, { type: COMMAND.READ, length: 512 })).toBe(ERROR.EINVAL)
      error = 0
      expect(await errorOf(peer, { type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
    },
  ),
  proven(
    'passes over flags that it does not know: of the export, of a chunk, of an extent',
    {
      'Transmission flags': ['Clients SHOULD ignore unknown flags'],
      'Structured reply flags': ['Clients MUST ignore unrecognized flags'],
      '`base:allocation` metadata context': ['clients MUST ignore unknown flags'],
      'Request types': [
        'although the client SHOULD be prepared to handle consecutive descriptors with the same *status* value',
      ],
    },
    async ground => {
      const peer = await mapping(ground, {
        flags: 0xfffd,
        answer: ({ type, cookie, offset, length }) => {
          if (type === COMMAND.READ) return data(cookie, Number(offset), length, 0xfff1)
          const extents = [u32(7), u32(256), u32(0xffff_fff0), u32(length - 256), u32(0xffff_fff0)]
          return type === COMMAND.BLOCK_STATUS ? chunkOf(cookie, CHUNK.STATUS, Buffer.concat(extents)) : undefined
        },
      })
      const [content] = await ask(peer, { type: COMMAND.READ, length: 4096 })
      expect(content?.payload.subarray(8)).toEqual(bytesAt(0, 4096))
      expect(await errorOf(peer, { type: COMMAND.BLOCK_STATUS, length: 4096 })).toBe(ERROR.NONE)
    },
  ),
  proven(
    'takes chunks in any order, and lets its client have each where it belongs',
    { 'Request types': ['MUST reassemble content chunks into the correct order'] },
    async ground => {
      const { reply } = await read(ground, ({ cookie }) =>
        Buffer.concat([
          data(cookie, 6144, 2048, 0),
          hole(cookie, 5120, 1024, 0),
          data(cookie, 4096, 1024, 0),
          none(cookie),
        ]),
      )
      const chunks = (await reply).filter(({ type }) => type !== CHUNK.NONE)
      expect(chunks.map(({ payload }) => Number(payload.readBigUInt64BE(0)))).toEqual([6144, 5120, 4096])
      expect(chunks[0]?.payload.subarray(8)).toEqual(bytesAt(6144, 2048))
    },
  ),
  proven(
    'closes on content that overlaps, lies outside, is missing, is of no length, or is no answer to the command',
    {
      'Structured reply types': [
        'If the client receives an unknown or unexpected type, other than an *error chunk*, it MUST initiate a hard disconnect',
        'For all other messages with unknown or unexpected type or inconsistent contents, the client MUST initiate a hard disconnect',
        'and MUST NOT overlap with the bounds of any earlier content chunk',
        '*length* MUST be at least 9',
        '*length* MUST be exactly 12',
        '*length* MUST be 0 (and the payload field omitted)',
      ],
      'Request types': ['the server MUST send enough data chunks to cover the entire region'],
    },
    async ground => {
      const cases: Readonly<Record<string, (cookie: bigint) => readonly Buffer[]>> = {
        'an unknown type': c => [chunkOf(c, 77, NOTHING)],
        'block status to READ': c => [chunkOf(c, CHUNK.STATUS, Buffer.concat([u32(7), u32(4096), u32(0)]))],
        'data below': c => [data(c, 4095, 4096)],
        'data above': c => [data(c, 4097, 4096)],
        'a gap': c => [data(c, 4096, 2048)],
        'a gap, and NONE': c => [data(c, 4096, 2048, 0), none(c)],
        nothing: c => [none(c)],
        'the same half twice': c => [data(c, 4096, 2048, 0), data(c, 4096, 2048)],
        'a hole over data': c => [data(c, 4096, 2048, 0), hole(c, 5120, 2048)],
        'data over a later hole': c => [hole(c, 6144, 2048, 0), data(c, 5120, 2048)],
        'a byte twice, a byte never': c => [data(c, 6144, 2048, 0), data(c, 4096, 1024, 0), data(c, 5121, 1024)],
        'data without data': c => [chunkOf(c, CHUNK.DATA, u64(4096n))],
        'a hole of eight bytes': c => [chunkOf(c, CHUNK.HOLE, u64(4096n))],
        'NONE with a payload': c => [chunkOf(c, CHUNK.NONE, Buffer.alloc(1))],
        'a simple reply': c => [simpleReply(0, c), bytesAt(4096, 4096)],
      }
      for (const [what, answer] of Object.entries(cases)) {
        const { reply } = await read(ground, ({ cookie }) => Buffer.concat(answer(cookie)))
        await expect(reply, what).rejects.toThrow('the connection ended')
        await waitFor('the upstream is left', () => ground.fake.last.end !== undefined)
        expect(ground.fake.last.end, what).toBe('none')
      }
    },
  ),
  proven(
    'takes error chunks of unknown type for errors and goes on, and closes on one whose message does not fit',
    {
      'Structured reply types': [
        'If the client receives an unknown or unexpected type with bit 15 set, it MUST consider the current reply as errored',
        'This chunk represents that an error occurred',
      ],
    },
    async ground => {
      for (const type of [0x8001, 0x8003, 0xffff]) {
        const { peer, reply } = await read(ground, ({ cookie }) => failure(cookie, type, 'so it is'))
        expect((await reply).map(each => [each.type, each.error])).toEqual([[type, 5]])
        expect(await errorOf(peer, { type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
      }
      for (const type of [0x8001, 0x8003]) {
        const { reply } = await read(ground, ({ cookie }) =>
          chunkOf(cookie, type, Buffer.concat([u32(5), u16(9), Buffer.from('short')])),
        )
        await expect(reply).rejects.toThrow('the connection ended')
      }
      const { reply } = await read(ground, ({ cookie }) =>
        Buffer.concat([data(cookie, 4096, 512, 0), failure(cookie, 0x8001, 'at 4608', 0), none(cookie)]),
      )
      expect((await reply).map(({ error }) => error)).toEqual([0, 5, 0])
    },
  ),
  proven(
    'sends BLOCK_STATUS for the export alone whose contexts it has selected, after the last selection',
    {
      'Option types': [
        'A client MUST NOT send `NBD_CMD_BLOCK_STATUS` unless within the negotiation phase it sent `NBD_OPT_SET_META_CONTEXT`',
      ],
      'Request types': ['A client MUST NOT send `NBD_CMD_BLOCK_STATUS` unless within the negotiation phase it sent'],
    },
    async ground => {
      const good = metaQuery('fake', 'base:allocation')
      for (const [queries, wanted] of [
        [[good], ERROR.NONE],
        [[good, metaQuery('disk', 'base:allocation')], ERROR.EINVAL],
        [[good, metaQuery('fake')], ERROR.EINVAL],
        [[metaQuery('disk', 'base:allocation'), good], ERROR.NONE],
        [[metaQuery('fake', 'x-none:a')], ERROR.EINVAL],
      ] as const) {
        ground.fake.use({})
        const peer = await ground.greeted()
        await askAll(peer, OPTION.STRUCTURED_REPLY)
        for (const each of queries) await askAll(peer, OPTION.SET_META_CONTEXT, each)
        await peer.enter('fake')
        expect(await errorOf(peer, { type: COMMAND.BLOCK_STATUS, length: 512 })).toBe(wanted)
        const { options, requests } = ground.fake.last
        expect(requests.filter(({ type }) => type === 7)).toHaveLength(wanted === ERROR.NONE ? 1 : 0)
        if (wanted === ERROR.NONE)
          expect(options.at(-2)).toMatchObject({ type: 10, data: metaQuery('there', 'base:allocation') })
      }
    },
  ),
  proven(
    'comes with one connection for each of its clients, whatever the upstream says of more',
    { 'Transmission flags': ['SHOULD NOT multiplex their commands over more than one connection to the export'] },
    async ({ fake, inside }) => {
      for (const flags of [ALL_FLAGS, ALL_FLAGS & ~CAN.MULTI_CONN]) {
        fake.use({ flags })
        const peer = await inside('fake', true)
        for (let n = 0n; n < 50n; n++) peer.send(request({ type: COMMAND.READ, cookie: n, length: 4096 }))
        for (let n = 0; n < 50; n++) await message(peer)
        expect(fake.visits).toHaveLength(1)
        expect(fake.last.requests).toHaveLength(50)
      }
    },
  ),
  proven(
    'keeps to the block sizes that it has asked for, whatever its client asks: long requests go out in parts, misaligned ones not at all',
    {
      'Size constraints': [
        'it MUST abide by the size constraints it receives',
        'the client MUST ensure that *offset* and *length* are integer multiples of any advertised minimum block size',
        'the client MUST NOT request a length larger than the maximum payload size',
      ],
      'Maximum interoperability': [
        'Clients that do not implement querying for size constraints SHOULD abide by the rules laid out',
      ],
    },
    async ground => {
      for (const type of [COMMAND.READ, COMMAND.WRITE]) {
        ground.fake.use({ sizes: [4096, 8192, 70_000] })
        const peer = await ground.greeted()
        expect(typesOf(await askAll(peer, OPTION.GO, infoData('fake', [3]))).at(-1)).toBe(1)
        for (const [offset, length] of [
          [512n, 4096],
          [4096n, 512],
          [4097n, 131_072],
        ] as const) {
          const payload = type === COMMAND.WRITE ? Buffer.alloc(length) : undefined
          expect(await errorOf(peer, { type, offset, length }, payload)).toBe(ERROR.EINVAL)
        }
        const payload = type === COMMAND.WRITE ? Buffer.alloc(131_072) : undefined
        expect(await errorOf(peer, { type, offset: 4096n, length: 131_072 }, payload)).toBe(ERROR.NONE)
        expect(ground.fake.last.requests.map(({ offset, length }) => [offset, length])).toEqual([
          [4096n, 65_536],
          [69_632n, 65_536],
        ])
      }
    },
  ),
  notKept(
    'passes on requests in whole blocks that are not of the size that the upstream prefers',
    'the client knows it and decides; a gateway could only read what lies around it, change that, and write it',
    { 'Size constraints': ['and SHOULD use integer multiples of any advertised preferred block size where possible'] },
    async ground => {
      ground.fake.use({ sizes: [4096, 65_536, 1 << 20] })
      const peer = await ground.greeted()
      await askAll(peer, OPTION.GO, infoData('fake', [3]))
      await errorOf(peer, { type: COMMAND.READ, offset: 4096n, length: 4096 })
      expect(ground.fake.last.requests).toEqual([])
    },
  ),
  notApplicable('what a client makes of what it has trimmed is its own affair: nothing is cached here', {
    'Request types': [
      'a client MUST NOT make any assumptions about the contents of the export affected by this command',
    ],
  }),
]
