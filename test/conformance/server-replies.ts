/** The server's rules of structured replies: made by us where the upstream has none, checked on their way where it has. */
import { expect } from 'vitest'
import { COMMAND, ERROR, infoData, OPTION, REPLY, request, u32, u64 } from '../interop/hostile-support.ts'
import { bytesAt } from './fake.ts'
import type { Ground } from './ground.ts'
import { type Entry, notApplicable, proven } from './rows.ts'
import { ask, askAll, CAN, CHUNK, chunkOf, exportOf, FLAG, type Message, message, NOTHING } from './wire.ts'

/** The content that chunks bring, put together; throws where they overlap or leave a gap. */
function assembled(chunks: readonly Message[], offset: number, length: number): Buffer {
  const whole = Buffer.alloc(length)
  const isThere = Buffer.alloc(length)
  for (const { type, payload } of chunks) {
    if (type !== CHUNK.DATA && type !== CHUNK.HOLE) continue
    const from = Number(payload.readBigUInt64BE(0)) - offset
    const size = type === CHUNK.DATA ? payload.length - 8 : payload.readUInt32BE(8)
    if (size < 1 || from < 0 || from + size > length) throw new Error('a chunk outside its request')
    if (isThere.subarray(from, from + size).includes(1)) throw new Error('chunks overlap')
    isThere.fill(1, from, from + size)
    if (type === CHUNK.DATA) payload.copy(whole, from, 8)
  }
  if (isThere.includes(0)) throw new Error('a gap')
  return whole
}

/** Halves of a READ, the later one first, with a hole between where the content is zero anyway. */
const scattered = ({ cookie, offset, length }: { cookie: bigint; offset: bigint; length: number }) => {
  const [half, at] = [length / 2, Number(offset)]
  const second = chunkOf(cookie, CHUNK.DATA, Buffer.concat([u64(offset + BigInt(half)), bytesAt(at + half, half)]), 0)
  const first = chunkOf(cookie, CHUNK.DATA, Buffer.concat([u64(offset), bytesAt(at, half)]), 0)
  return Buffer.concat([second, first, chunkOf(cookie, CHUNK.NONE, NOTHING)])
}

/** Exports of all kinds: chunks of the upstream's, lifted ones, scattered ones. */
async function clients({ inside, insideFake }: Ground) {
  return {
    nbdkit: await inside('disk', true),
    lifted: await inside('lifted', true),
    scattered: await insideFake({ answer: asked => (asked.type === 0 ? scattered(asked) : undefined) }, true),
  }
}

export const serverReplies: readonly Entry[] = [
  proven(
    'acknowledges STRUCTURED_REPLY whatever the upstream can, and answers every READ with chunks from then on',
    {
      'Option types': ['the server MUST use structured replies to the `NBD_CMD_READ` transmission request'],
      'Structured reply chunk message': [
        'if structured replies are negotiated, the server MUST use a structured reply for any response with a payload',
        'MUST NOT use a simple reply for `NBD_CMD_READ` (even for the case of an early `NBD_EINVAL` due to bad flags)',
      ],
      'Request types': [
        'If structured replies are negotiated, then a read request MUST result in a structured reply with one or more chunks',
      ],
    },
    async ground => {
      const peers = await clients(ground)
      for (const peer of Object.values(peers)) {
        for (const parts of [
          { length: 512 },
          { length: 65536, offset: 4096n },
          { length: 512, flags: 0x4000 },
          { length: 512, flags: FLAG.REQ_ONE },
          { length: 0 },
          { length: 512, offset: 1n << 60n },
        ]) {
          const reply = await ask(peer, { type: COMMAND.READ, cookie: 3n, ...parts })
          expect(reply.map(({ kind }) => kind)).toEqual(reply.map(() => 'chunk'))
        }
      }
      const early = (await ask(peers.lifted, { type: COMMAND.READ, flags: 0x4000, length: 512 }))[0]
      expect(early).toMatchObject({ type: CHUNK.ERROR, error: ERROR.EINVAL })
      const failed = await ground.insideFake(
        {
          structured: false,
          answer: ({ cookie }) => Buffer.concat([Buffer.from('6744669800000005', 'hex'), u64(cookie)]),
        },
        true,
      )
      expect((await ask(failed, { type: COMMAND.READ, length: 512 }))[0]).toMatchObject({ kind: 'chunk', error: 5 })
    },
  ),
  proven(
    'covers the whole of each READ, inside its bounds, no byte twice, in chunks of at least a byte',
    {
      'Request types': [
        'each chunk MUST describe at least one byte',
        'The server MUST NOT send content chunks that overlap with any earlier content or error chunk',
        'and MUST NOT send chunks that describe data outside the offset and length of the request',
        'When no error is detected, the server MUST send enough data chunks to cover the entire region described',
        'the server SHOULD use chunks with lengths and offsets as an integer multiple of 512 bytes, where possible',
      ],
      'Structured reply types': [
        '*length* MUST be at least 9',
        "The data MUST lie within the bounds of the original offset and length of the client's request",
        'and MUST NOT overlap with the bounds of any earlier content chunk or error chunk in the same reply',
      ],
      'Structured reply chunk message': ['A server SHOULD try to minimize the number of chunks sent in a reply'],
    },
    async ground => {
      for (const [name, peer] of Object.entries(await clients(ground))) {
        for (const [offset, length] of [
          [0, 512],
          [512, 4096],
          [4096, 65536],
          [1000, 24],
        ] as const) {
          const chunks = await ask(peer, { type: COMMAND.READ, offset: BigInt(offset), length })
          const content = assembled(chunks, offset, length)
          if (name === 'scattered') expect(content).toEqual(bytesAt(offset, length))
          // One at most for what nbdkit and we ourselves send.
          else expect(chunks.filter(({ type }) => type !== CHUNK.NONE)).toHaveLength(1)
          for (const { type, payload } of chunks.filter(each => each.type === CHUNK.DATA && name === 'scattered')) {
            if (length % 1024 === 0) expect(payload.readBigUInt64BE(0) % 512n, String(type)).toBe(0n)
          }
        }
      }
    },
  ),
  proven(
    'marks the last chunk of a reply, and none before it; nothing but DONE is set',
    {
      'Structured reply chunk message': ['except that the chunk with the flag `NBD_REPLY_FLAG_DONE` MUST be sent last'],
      'Structured reply flags': [
        'the server MUST clear this bit if more structured reply chunks will be sent for the same client request',
        'This bit MUST always be set for the `NBD_REPLY_TYPE_NONE` chunk',
        'The server MUST NOT set any other flags without first negotiating the extension with the client',
      ],
      'Structured reply types': [
        '*length* MUST be 0 (and the payload field omitted)',
        'This chunk type MUST always be used with the `NBD_REPLY_FLAG_DONE` bit set',
      ],
    },
    async ground => {
      const odd = await ground.insideFake(
        {
          answer: ({ type, cookie, offset, length }) =>
            type === COMMAND.READ
              ? chunkOf(cookie, CHUNK.DATA, Buffer.concat([u64(offset), bytesAt(Number(offset), length)]), 0xff01)
              : chunkOf(cookie, CHUNK.NONE, NOTHING, 0x8001),
        },
        true,
      )
      const all = [odd, ...Object.values(await clients(ground))]
      for (const peer of all) {
        // In flight together: chunks of one must not end another.
        for (const cookie of [1n, 2n, 3n]) {
          peer.send(request({ type: COMMAND.READ, cookie, offset: 4096n * cookie, length: 4096 }))
        }
        peer.send(request({ type: COMMAND.FLUSH, cookie: 4n }))
        const open = new Set([1n, 2n, 3n, 4n])
        while (open.size > 0) {
          const { cookie, flags, type, payload } = await message(peer)
          expect(open.has(cookie), 'a chunk after the last one').toBe(true)
          expect(flags & ~1).toBe(0)
          if (type === CHUNK.NONE) expect([flags, payload.length]).toEqual([1, 0])
          if ((flags & 1) !== 0) open.delete(cookie)
        }
        expect((await ask(peer, { type: COMMAND.READ, length: 512 })).at(-1)?.flags).toBe(1)
      }
    },
  ),
  proven(
    'marks a content chunk as the last one where nothing can fail any more, and ends the session when it does',
    {
      'Structured reply chunk message': [
        'MUST NOT mark a chunk as final if there is still a possibility of detecting an error',
      ],
      'Request types': [
        'MUST NOT do so for a content chunk if it would still be possible to detect an error while transmitting the chunk',
        'If an error is detected, the server MUST still complete the transmission of any current chunk',
      ],
    },
    async ({ insideFake }) => {
      // A chunk whose upstream dies in the middle can not be completed: the client must not be made to believe in it.
      const peer = await insideFake(
        {
          answer: ({ cookie, offset }, visit) => {
            visit.send(chunkOf(cookie, CHUNK.DATA, Buffer.concat([u64(offset), bytesAt(0, 4096)])).subarray(0, 2000))
            throw new Error('the upstream dies')
          },
        },
        true,
      )
      peer.send(request({ type: COMMAND.READ, length: 4096 }))
      await expect(message(peer)).rejects.toThrow('the connection ended')
    },
  ),
  proven(
    'passes holes of 12 bytes and of at least one byte, inside their READ',
    {
      'Structured reply types': [
        '*length* MUST be exactly 12',
        "The hole MUST lie within the bounds of the original offset and length of the client's request",
        'hole size (unsigned, MUST be nonzero)',
      ],
    },
    async ({ insideFake }) => {
      const peer = await insideFake(
        {
          answer: ({ cookie, offset, length }) =>
            chunkOf(cookie, CHUNK.HOLE, Buffer.concat([u64(offset), u32(length)])),
        },
        true,
      )
      const chunks = await ask(peer, { type: COMMAND.READ, offset: 8192n, length: 4096 })
      expect(chunks).toMatchObject([{ type: CHUNK.HOLE, payload: Buffer.concat([u64(8192n), u32(4096)]) }])
      expect(assembled(chunks, 8192, 4096)).toEqual(Buffer.alloc(4096))
      for (const bad of [u32(0), u32(4097), NOTHING, Buffer.alloc(5)]) {
        const refused = await insideFake(
          { answer: ({ cookie, offset }) => chunkOf(cookie, CHUNK.HOLE, Buffer.concat([u64(offset), bad])) },
          true,
        )
        refused.send(request({ type: COMMAND.READ, offset: 8192n, length: 4096 }))
        await expect(message(refused)).rejects.toThrow('the connection ended')
      }
    },
  ),
  proven(
    'reports errors of its own by one chunk with a message of fit length, for every command',
    {
      'Structured reply chunk message': ['The server SHOULD prefer sending errors via a structured reply'],
      'Structured reply types': [
        'This chunk type is in the error chunk category. *length* MUST be at least 6',
        'This type SHOULD NOT be used more than once in a structured reply',
        '*message length* MUST NOT exceed the 4096 bytes string length limit',
        '32 bits: error (MUST be nonzero) 16 bits: message length (no more than header *length* - 6)',
      ],
      'Request types': ['and if used, SHOULD be the only error chunk in the reply'],
    },
    async ({ inside }) => {
      const [peer, reader] = [await inside('disk', true), await inside('read-only', true)]
      const refused = [
        ...[COMMAND.READ, COMMAND.TRIM, COMMAND.CACHE, COMMAND.ZEROES, COMMAND.BLOCK_STATUS, 99].map(
          type => [peer, { type, offset: 1n << 60n, length: 512 }] as const,
        ),
        [peer, { type: COMMAND.FLUSH, length: 1 }] as const,
        [reader, { type: COMMAND.TRIM, length: 512 }] as const,
        [reader, { type: COMMAND.WRITE, length: 512 }] as const,
      ]
      for (const [client, parts] of refused) {
        const payload = Buffer.alloc(parts.type === COMMAND.WRITE ? 512 : 0)
        const [reply, ...more] = await ask(client, { cookie: 6n, ...parts }, payload)
        expect(reply, `command ${parts.type}`).toMatchObject({ kind: 'chunk', type: CHUNK.ERROR, flags: 1 })
        expect(more).toEqual([])
        const told = reply?.payload ?? NOTHING
        expect(told.readUInt32BE(0)).not.toBe(0)
        const length = told.readUInt16BE(4)
        expect(length).toBe(told.length - 6)
        expect(length).toBeGreaterThan(0)
        expect(told.toString('utf8', 6)).toMatch(/^[ -~]+$/)
      }
    },
  ),
  proven(
    'passes errors with an offset where it lies in the request, and ends the session where it does not, or does not add up',
    {
      'Structured reply types': [
        'This reply represents that an error occurred at a given offset, which MUST lie within the original offset',
        'This chunk type is in the error chunk category. *length* MUST be at least 14',
        '32 bits: error (MUST be nonzero) 16 bits: message length (no more than header *length* - 14)',
      ],
      'Request types': ['The server MUST include an error chunk as one of the subsequent chunks'],
    },
    async ({ insideFake }) => {
      const error = (value: number, text: string, offset: bigint, claims = text.length) =>
        Buffer.concat([u32(value), u32(claims).subarray(2), Buffer.from(text), u64(offset)])
      const sent = async (payload: Buffer, type: number = CHUNK.ERROR_OFFSET) => {
        const peer = await insideFake({ answer: ({ cookie }) => chunkOf(cookie, type, payload) }, true)
        return await ask(peer, { type: COMMAND.READ, offset: 4096n, length: 4096 })
      }
      for (const [text, offset] of [
        ['', 4096n],
        ['bad sector', 8191n],
      ] as const) {
        const payload = error(5, text, offset)
        expect(await sent(payload)).toMatchObject([{ type: CHUNK.ERROR_OFFSET, error: 5, payload }])
      }
      const long = 'x'.repeat(4097)
      for (const payload of [error(5, '', 4095n), error(5, '', 8192n), error(0, '', 4096n), error(5, 'ab', 4096n, 3)]) {
        await expect(sent(payload)).rejects.toThrow('the connection ended')
      }
      for (const payload of [
        Buffer.alloc(5),
        Buffer.concat([u32(0), Buffer.alloc(2)]),
        Buffer.concat([u32(5), u32(4097).subarray(2), Buffer.from(long)]),
      ]) {
        await expect(sent(payload, CHUNK.ERROR)).rejects.toThrow('the connection ended')
      }
    },
  ),
  proven(
    'sends one content chunk for DF, zeroes and all, where SEND_DF was told, which takes structured replies',
    {
      'Transmission flags': [
        'server MUST set this transmission flag to 1 if the `NBD_CMD_READ` request supports the `NBD_CMD_FLAG_DF` flag',
        'MUST leave this flag clear if structured replies have not been negotiated',
      ],
      'Request types': [
        'If this flag is set, the server MUST send at most one content chunk',
        'If the area being read contains both data and a hole, the server MUST use `NBD_REPLY_TYPE_OFFSET_DATA`',
        "the server MUST support unfragmented reads in which the client's request length does not exceed 65,536 bytes",
      ],
      'Error values': ['The server SHOULD NOT return `NBD_EOVERFLOW` except as documented'],
    },
    async ({ inside, greeted }) => {
      for (const name of ['disk', 'lifted']) {
        const plain = exportOf(await askAll(await greeted(), OPTION.INFO, infoData(name)))
        expect(plain.flags & CAN.DF).toBe(0)
        const client = await greeted()
        expect(await client.ask(OPTION.STRUCTURED_REPLY)).toBe(REPLY.ACK)
        expect(exportOf(await askAll(client, OPTION.INFO, infoData(name))).flags & CAN.DF).toBe(CAN.DF)
        const peer = await inside(name, true)
        if (name === 'disk') {
          const half = { type: COMMAND.WRITE, offset: 3n << 20n, length: 32768 }
          expect((await ask(peer, half, Buffer.alloc(32768, 5)))[0]?.error).toBe(ERROR.NONE)
        }
        const at = name === 'disk' ? 3n << 20n : 0n
        for (const length of [1, 512, 65536]) {
          const chunks = await ask(peer, { type: COMMAND.READ, flags: FLAG.DF, offset: at, length })
          expect(chunks.filter(({ type }) => type !== CHUNK.NONE)).toHaveLength(1)
          expect(chunks[0]?.type).toBe(CHUNK.DATA)
          expect(assembled(chunks, Number(at), length)).toHaveLength(length)
        }
        const refused = await inside(name)
        expect((await ask(refused, { type: COMMAND.READ, flags: FLAG.DF, length: 512 }))[0]?.error).toBe(ERROR.EINVAL)
      }
    },
  ),
  proven(
    'sends no chunk with more data than was asked for, which is the largest payload at most',
    {
      'Structured reply types': [
        'A server MUST NOT send a chunk where any variable-length portion of the chunk is larger than any advertised maximum payload size',
      ],
    },
    async ({ inside, greeted }) => {
      const most = 1 << 25
      const [sizes] = (await askAll(await greeted(), OPTION.INFO, infoData('disk', [3]))).filter(
        ({ type, data }) => type === REPLY.INFO && data.readUInt16BE(0) === 3,
      )
      expect(sizes?.data.readUInt32BE(10)).toBe(most)
      const peer = await inside('disk', true)
      for (const { type, payload } of await ask(peer, { type: COMMAND.READ, length: most })) {
        if (type === CHUNK.DATA) expect(payload.length).toBeLessThanOrEqual(most + 8)
      }
      expect((await ask(peer, { type: COMMAND.READ, length: most + 1 }))[0]?.error).toBe(ERROR.EINVAL)
    },
  ),
  notApplicable(
    'which errors come how often, beside which others and with which padding is the upstream’s, and passed on as it is',
    {
      'Structured reply types': [
        'although the same offset SHOULD NOT be repeated',
        'the server SHOULD NOT send multiple distinct offsets that lie within the bounds of a single content chunk',
      ],
      'Request types': [
        '(it MUST use padding bytes which SHOULD be zero, for any remaining data portion of a chunk with type',
        'MUST ensure that the content chunk is sent first if a content and error chunk cover the same offset',
        'a server SHOULD NOT mix errors with offsets with a generic error',
      ],
    },
  ),
  notApplicable('reads of more than 2^32 - 8 bytes take extended headers; one of ours has 32 MiB at most', {
    'Request types': ['a request for more than 2^32 - 8 bytes containing data rather than holes MUST be split'],
  }),
]
