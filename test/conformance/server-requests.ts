/** The server's rules of requests: what is answered with which error, what is kept in order, what ends. */
import { expect } from 'vitest'
import { COMMAND, ERROR, infoData, OPTION, request, simpleReply, u16 } from '../interop/hostile-support.ts'
import { DISK_BYTES } from './ground.ts'
import { cited, type Entry, notApplicable, proven } from './rows.ts'
import { ask, askAll, CAN, CHUNK, chunkOf, closed, errorOf, exportOf, FLAG, message, NOTHING } from './wire.ts'

const END = BigInt(DISK_BYTES)
const PAGE = Buffer.alloc(4096, 7)

export const serverRequests: readonly Entry[] = [
  proven(
    'gives each reply the cookie of its request, whatever its bits, also where several have the same',
    {
      Transmission: [
        'the server MUST use the same value for cookie as was sent by the client in the corresponding request',
      ],
    },
    async ({ inside }) => {
      const cookies = [0n, 1n, 0x8000_0000_0000_0000n, 0xffff_ffff_ffff_ffffn, 0x6744_6698_668e_33efn, 1n, 1n]
      for (const structured of [false, true]) {
        const peer = await inside('disk', structured)
        for (const cookie of cookies) peer.send(request({ type: COMMAND.READ, cookie, length: 512 }))
        const got: bigint[] = []
        for (const _ of cookies) got.push((await message(peer, 512)).cookie)
        expect(got.toSorted()).toEqual(cookies.toSorted())
        for (const type of [COMMAND.FLUSH, 99]) {
          const [reply] = await ask(peer, { type, cookie: 0xdead_beef_0000_0001n })
          expect(reply?.cookie).toBe(0xdead_beef_0000_0001n)
        }
      }
    },
  ),
  proven(
    'answers a client without structured replies with simple ones alone',
    {
      Transmission: ['Note that without client negotiation, the server MUST use only simple replies'],
      'Simple reply message': [
        'The simple reply message MUST be sent by the server in response to all requests if structured replies have not been negotiated',
      ],
      'Structured reply chunk message': [
        'The server MUST NOT send this reply type unless the client has successfully negotiated structured replies',
      ],
      'Request types': [
        'The server MUST reply with either a simple reply or a structured reply, according to whether the structured replies have been negotiated',
        'If structured replies were not negotiated, then a read request MUST always be answered by a simple reply',
      ],
      Baseline: [
        '- Simple replies',
        'the `NBD_CMD_READ` message (and its response)',
        'the `NBD_CMD_WRITE` message (and its response)',
      ],
    },
    async ({ inside, insideFake }) => {
      const error = ({ cookie }: { cookie: bigint }) => simpleReply(ERROR.EIO, cookie)
      for (const peer of [await inside('disk'), await inside('lifted'), await insideFake({ answer: error })]) {
        for (const type of [COMMAND.READ, COMMAND.FLUSH, COMMAND.BLOCK_STATUS, 77]) {
          const parts = { type, length: type === COMMAND.FLUSH ? 0 : 512 }
          expect((await ask(peer, parts)).map(({ kind }) => kind)).toEqual(['simple'])
        }
        const [write] = await ask(peer, { type: COMMAND.WRITE, length: 512 }, Buffer.alloc(512))
        expect(write?.kind).toBe('simple')
      }
    },
  ),
  proven(
    'replies to FLUSH and to FUA when the upstream has, and not before',
    {
      'Ordering of messages and writes': [
        'completes (i.e. replies to) prior to processing a `NBD_CMD_FLUSH` MUST be written to non-volatile storage',
        'A server MUST NOT reply to a command that has `NBD_CMD_FLAG_FUA` set in its command flags until the data',
      ],
      'Command flags': [
        'it MUST NOT send its reply to that command until all write operations (if any) associated with that command have been completed',
      ],
      'Request types': [
        'The server MUST NOT send a successful reply header for this request before all write requests',
      ],
      'Transmission flags': [
        'MUST be visible across all connections when the server sends its reply to that command to the client',
      ],
      'Maximum interoperability': [
        'implementing `NBD_CMD_FLUSH` and the `NBD_CMD_FLAG_FUA` flag to `NBD_CMD_WRITE` is strongly recommended',
      ],
    },
    async ({ insideFake, fake }) => {
      for (const parts of [
        { type: COMMAND.FLUSH },
        { type: COMMAND.WRITE, flags: FLAG.FUA, length: 512 },
        { type: COMMAND.ZEROES, flags: FLAG.FUA, length: 512 },
        { type: COMMAND.TRIM, flags: FLAG.FUA, length: 512 },
      ]) {
        let held = 0n
        const peer = await insideFake({
          answer: ({ type, cookie }) => {
            if (type !== parts.type) return undefined
            held = cookie
            return NOTHING
          },
        })
        peer.send(request({ cookie: 1n, ...parts }), Buffer.alloc(parts.type === COMMAND.WRITE ? 512 : 0))
        peer.send(request({ type: COMMAND.READ, cookie: 2n, length: 512 }))
        expect(await message(peer, 512)).toMatchObject({ cookie: 2n, error: 0 })
        expect(fake.last.requests[0]).toMatchObject({ type: parts.type, flags: parts.flags ?? 0 })
        fake.last.send(simpleReply(0, held))
        expect(await message(peer)).toMatchObject({ cookie: 1n, error: 0 })
      }
    },
  ),
  proven(
    'writes before it replies: what another connection reads after the reply is what was written',
    {
      'Request types': [
        'The server MUST write the data to disk, and then send the reply message',
        'The server MUST zero out the data on disk, and then send the reply message',
        'but it MUST ensure that the data reads back as zero',
      ],
    },
    async ({ inside }) => {
      const [writer, reader] = [await inside('disk'), await inside('disk')]
      const at = { offset: 1n << 20n, length: 4096 }
      const read = async () => (await ask(reader, { type: COMMAND.READ, ...at }))[0]?.payload
      for (const flags of [0, FLAG.FUA]) {
        expect(await errorOf(writer, { type: COMMAND.WRITE, flags, ...at }, PAGE)).toBe(ERROR.NONE)
        expect(await read()).toEqual(PAGE)
        for (const more of [0, FLAG.NO_HOLE]) {
          expect(await errorOf(writer, { type: COMMAND.ZEROES, flags: flags | more, ...at })).toBe(ERROR.NONE)
          expect(await read()).toEqual(Buffer.alloc(4096))
        }
      }
    },
  ),
  proven(
    'refuses all that writes on a read-only export with EPERM, tells nobody that it could, and stays in step',
    {
      'Transmission flags': ['If this flag is set, the server MUST error subsequent write operations to the export'],
      'Request types': ['return `NBD_EPERM` if it receives a write zeroes request on a read-only export'],
      'Error values': ['SHOULD return `NBD_EPERM` if it receives a write or trim request on a read-only export'],
    },
    async ({ greeted, inside }) => {
      const { flags } = exportOf(await askAll(await greeted(), OPTION.INFO, infoData('read-only')))
      expect(flags & CAN.READ_ONLY).toBe(CAN.READ_ONLY)
      expect(flags & (CAN.TRIM | CAN.ZEROES | CAN.FAST_ZERO)).toBe(0)
      for (const structured of [false, true]) {
        const peer = await inside('read-only', structured)
        expect(await errorOf(peer, { type: COMMAND.WRITE, length: 4096 }, PAGE)).toBe(ERROR.EPERM)
        for (const type of [COMMAND.TRIM, COMMAND.ZEROES]) {
          expect(await errorOf(peer, { type, length: 4096 })).toBe(ERROR.EPERM)
        }
        expect(await errorOf(peer, { type: COMMAND.READ, length: 4096 })).toBe(ERROR.NONE)
      }
    },
  ),
  proven(
    'refuses what lies beyond the export: ENOSPC to what writes, EINVAL to all else',
    {
      'Size constraints': [
        "The server SHOULD report an `NBD_EINVAL` error if the client's request is not aligned to advertised",
      ],
      'Request types': [
        'The server SHOULD return `NBD_ENOSPC` if it receives a write zeroes request including one or more sectors beyond',
      ],
      'Error values': [
        'The server SHOULD return `NBD_ENOSPC` if it receives a write request including one or more sectors beyond the size of the device',
        'return `NBD_EINVAL` if it receives a read or trim request including one or more sectors beyond the size of the device',
      ],
    },
    async ({ inside }) => {
      for (const structured of [false, true]) {
        const peer = await inside('disk', structured)
        for (const offset of [END, END - 4095n, 1n << 63n, (1n << 64n) - 1n]) {
          const at = { offset, length: 4096 }
          expect(await errorOf(peer, { type: COMMAND.READ, ...at })).toBe(ERROR.EINVAL)
          expect(await errorOf(peer, { type: COMMAND.TRIM, ...at })).toBe(ERROR.EINVAL)
          expect(await errorOf(peer, { type: COMMAND.CACHE, ...at })).toBe(ERROR.EINVAL)
          expect(await errorOf(peer, { type: COMMAND.WRITE, ...at }, PAGE)).toBe(ERROR.ENOSPC)
          expect(await errorOf(peer, { type: COMMAND.ZEROES, ...at })).toBe(ERROR.ENOSPC)
        }
        expect(await errorOf(peer, { type: COMMAND.READ, offset: END - 4096n, length: 4096 })).toBe(ERROR.NONE)
      }
    },
  ),
  proven(
    'answers unknown commands, unknown flags and flags of other commands with EINVAL, and stays',
    {
      'Error values': [
        'The server SHOULD return `NBD_EINVAL` if it receives an unknown command.',
        'The server SHOULD return `NBD_EINVAL` if it receives an unknown command flag',
        'It also SHOULD return `NBD_EINVAL` if it receives a request with a flag not explicitly documented as applicable',
      ],
      'Request types': ['the server MUST reject any command flags it does not recognize'],
    },
    async ({ inside }) => {
      const peer = await inside('disk', true)
      for (const type of [8, 9, 77, 0xffff]) expect(await errorOf(peer, { type, length: 512 })).toBe(ERROR.EINVAL)
      const { FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO } = FLAG
      const documented: Readonly<Record<number, number>> = {
        [COMMAND.READ]: FUA | DF,
        [COMMAND.TRIM]: FUA,
        [COMMAND.CACHE]: FUA,
        [COMMAND.ZEROES]: FUA | NO_HOLE | FAST_ZERO,
      }
      for (const [type, allowed] of Object.entries(documented)) {
        for (const flags of [FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, 32, 0x8000]) {
          const error = await errorOf(peer, { type: Number(type), flags, length: 512 })
          if ((flags & ~allowed) !== 0) expect(error, `command ${type}, flags ${flags}`).toBe(ERROR.EINVAL)
        }
      }
      expect(await errorOf(peer, { type: COMMAND.WRITE, flags: DF, length: 4096 }, PAGE)).toBe(ERROR.EINVAL)
      expect(await errorOf(peer, { type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
    },
  ),
  proven(
    'takes FUA on every command where SEND_FUA was told, and NO_HOLE with WRITE_ZEROES',
    {
      'Command flags': [
        'in which case the server MUST accept all commands with this bit set (even by ignoring the bit)',
        'The server MUST support the use of this flag if it advertises `NBD_FLAG_SEND_WRITE_ZEROES`',
      ],
    },
    async ({ inside, greeted }) => {
      const { flags } = exportOf(await askAll(await greeted(), OPTION.INFO, infoData('disk')))
      expect(flags & (CAN.FUA | CAN.ZEROES)).toBe(CAN.FUA | CAN.ZEROES)
      const peer = await inside('disk', true)
      for (const type of [COMMAND.READ, COMMAND.FLUSH, COMMAND.TRIM, COMMAND.CACHE, COMMAND.ZEROES]) {
        const length = type === COMMAND.FLUSH ? 0 : 512
        expect(await errorOf(peer, { type, flags: FLAG.FUA, length }), `command ${type}`).toBe(ERROR.NONE)
      }
      expect(await errorOf(peer, { type: COMMAND.WRITE, flags: FLAG.FUA, length: 4096 }, PAGE)).toBe(ERROR.NONE)
      const both = FLAG.NO_HOLE | FLAG.FUA
      expect(await errorOf(peer, { type: COMMAND.ZEROES, flags: both, length: 512 })).toBe(ERROR.NONE)
    },
  ),
  proven(
    'does not disconnect for requests of no length, whatever they are',
    {
      'Request types': [
        'The client SHOULD NOT request a read length of 0; the behavior of a server on such a request is unspecified although the server SHOULD NOT disconnect',
        'The client SHOULD NOT request a write length of 0; the behavior of a server on such a request is unspecified although the server SHOULD NOT disconnect',
        'The client SHOULD NOT request a trim length of 0; the behavior of a server on such a request is unspecified although the server SHOULD NOT disconnect',
        'request a write length of 0; the behavior of a server on such a request is unspecified although the server SHOULD NOT disconnect. The server MUST zero out',
      ],
    },
    async ({ inside }) => {
      for (const structured of [false, true]) {
        const peer = await inside('disk', structured)
        for (const type of [COMMAND.READ, COMMAND.WRITE, COMMAND.TRIM, COMMAND.CACHE, COMMAND.ZEROES]) {
          await ask(peer, { type, length: 0 })
        }
        expect(await errorOf(peer, { type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
      }
    },
  ),
  proven(
    'takes TRIM and WRITE_ZEROES longer than the largest payload, and refuses longer READs and WRITEs without disconnecting',
    {
      'Size constraints': [
        'the server SHOULD NOT disconnect, but MAY reply with an `NBD_EOVERFLOW` or `NBD_EINVAL` error if the oversize request',
        'any payload not exceeding 2^25 (33,554,432) bytes SHOULD NOT be considered a denial of service attack',
      ],
    },
    async ({ inside }) => {
      const peer = await inside('disk')
      for (const type of [COMMAND.TRIM, COMMAND.ZEROES]) {
        expect(await errorOf(peer, { type, length: DISK_BYTES })).toBe(ERROR.NONE)
      }
      const most = 1 << 25
      expect(await errorOf(peer, { type: COMMAND.WRITE, length: most }, Buffer.alloc(most, 1))).toBe(ERROR.NONE)
      expect(await errorOf(peer, { type: COMMAND.READ, length: most })).toBe(ERROR.NONE)
      expect(await errorOf(peer, { type: COMMAND.READ, length: most + 1 })).toBe(ERROR.EINVAL)
      expect(await errorOf(peer, { type: COMMAND.WRITE, length: most + 1 }, Buffer.alloc(most + 1))).toBe(ERROR.EINVAL)
      expect(await errorOf(peer, { type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
    },
  ),
  proven(
    'passes on the errors of the upstream, and none that the spec does not name',
    {
      'Request types': [
        'If an error occurs, the server SHOULD set the appropriate error code in the error field. The server MAY then initiate',
        'If it chooses not to, it MUST NOT send any payload for this request',
        'If an error occurs, the server MUST set the appropriate error code in the error field.',
      ],
      'Error values': [
        'It also SHOULD map the `EDQUOT` and `EFBIG` errors to `NBD_ENOSPC`',
        'The server SHOULD NOT return `NBD_ENOMEM` if at all possible',
        'the allowed values for the error field have been restricted to set of possibilities',
      ],
    },
    async ({ insideFake }) => {
      const [EDQUOT, EFBIG] = [122, 27]
      const told = {
        1: 1,
        5: 5,
        12: 12,
        22: 22,
        28: 28,
        75: 75,
        95: 95,
        108: 108,
        [EDQUOT]: 28,
        [EFBIG]: 28,
        2: 22,
        999: 22,
      }
      for (const structured of [false, true]) {
        for (const [sent, wanted] of Object.entries(told)) {
          const peer = await insideFake(
            {
              structured,
              answer: ({ cookie }, visit) => {
                const body = Buffer.concat([Buffer.alloc(2), u16(Number(sent)), u16(0)])
                return visit.structured ? chunkOf(cookie, CHUNK.ERROR, body) : simpleReply(Number(sent), cookie)
              },
            },
            structured,
          )
          for (const type of [COMMAND.READ, COMMAND.WRITE, COMMAND.ZEROES, COMMAND.CACHE, COMMAND.FLUSH]) {
            const length = type === COMMAND.FLUSH ? 0 : 512
            const payload = Buffer.alloc(type === COMMAND.WRITE ? 512 : 0)
            expect(await errorOf(peer, { type, length }, payload), `${sent} to ${type}`).toBe(wanted)
          }
        }
      }
    },
  ),
  proven(
    'answers all that is out after DISC, then closes, and answers nothing to DISC itself',
    {
      Baseline: ['the `NBD_CMD_DISC` message (and its resulting effects, although no response is involved)'],
      'Terminating the transmission phase': [
        'On a server shutdown, the server SHOULD wait for inflight requests to be serviced',
      ],
    },
    async ({ inside }) => {
      const peer = await inside('disk')
      for (let n = 0n; n < 8n; n++) peer.send(request({ type: COMMAND.READ, cookie: n, length: 65536 }))
      peer.send(request({ type: COMMAND.DISC, cookie: 99n }))
      const cookies: bigint[] = []
      for (let n = 0; n < 8; n++) cookies.push((await message(peer, 65536)).cookie)
      expect(cookies.toSorted()).toEqual([0n, 1n, 2n, 3n, 4n, 5n, 6n, 7n])
      expect(await closed(peer)).toEqual(NOTHING)
    },
  ),
  proven(
    'ends the connection when the upstream fails in the middle of a payload, and sends no byte more',
    {
      'Request types': [
        'the server MUST immediately initiate a hard disconnect; it MUST NOT send any further data to the client',
      ],
    },
    async ({ insideFake, fake }) => {
      const half = Buffer.alloc(2048, 3)
      const peer = await insideFake({
        answer: ({ cookie }) => Buffer.concat([simpleReply(0, cookie), half]),
        structured: false,
      })
      peer.send(request({ type: COMMAND.READ, cookie: 4n, length: 4096 }))
      expect(await peer.read(16 + 2048)).toEqual(Buffer.concat([simpleReply(0, 4n), half]))
      fake.drop()
      expect(await closed(peer)).toEqual(NOTHING)
    },
  ),
  proven(
    'tells the flags of the upstream, and none of what it can not relay',
    {
      'Transmission flags': [
        'The server MUST NOT set the flag for features it does not support',
        'MUST set this transmission flag to 0 if `NBD_FLAG_SEND_WRITE_ZEROES` is not set',
        'server MUST set this transmission flag to 1 if the `NBD_CMD_WRITE_ZEROES` request supports the `NBD_CMD_FLAG_FAST_ZERO`',
      ],
    },
    async ({ greeted, fake }) => {
      const told = async (flags: number) => {
        fake.use({ flags })
        return exportOf(await askAll(await greeted(), OPTION.INFO, infoData('fake'))).flags
      }
      expect(await told(0xffff & ~CAN.READ_ONLY)).toBe(0xd7d)
      expect(await told(CAN.HAS_FLAGS | CAN.FAST_ZERO)).toBe(CAN.HAS_FLAGS)
      expect(await told(CAN.HAS_FLAGS | CAN.FAST_ZERO | CAN.ZEROES)).toBe(CAN.HAS_FLAGS | CAN.FAST_ZERO | CAN.ZEROES)
      expect(await told(CAN.HAS_FLAGS)).toBe(CAN.HAS_FLAGS)
    },
  ),
  proven(
    'does not answer WRITE_ZEROES with ENOTSUP unless FAST_ZERO was asked for, and refuses FAST_ZERO where it was not told',
    {
      'Request types': [
        'is not set, then the server MUST NOT fail with `NBD_ENOTSUP`',
        'SHOULD fail with `NBD_EINVAL` if the `NBD_CMD_FLAG_FAST_ZERO` flag was set',
        'then it SHOULD NOT fail with `NBD_ENOTSUP`, regardless of the speed of servicing a request',
      ],
      'Error values': [
        'The server SHOULD NOT return `NBD_ENOTSUP` except as documented in response to `NBD_CMD_WRITE_ZEROES`',
      ],
    },
    async ({ inside, insideFake }) => {
      const peer = await inside('disk')
      expect(await errorOf(peer, { type: COMMAND.ZEROES, length: 4096 })).toBe(ERROR.NONE)
      const slow = await insideFake({ flags: CAN.HAS_FLAGS | CAN.ZEROES | CAN.FUA })
      expect(await errorOf(slow, { type: COMMAND.ZEROES, flags: FLAG.FAST_ZERO, length: 512 })).toBe(ERROR.EINVAL)
      expect(await errorOf(slow, { type: COMMAND.ZEROES, length: 512 })).toBe(ERROR.NONE)
    },
  ),
  proven(
    'passes FAST_ZERO on, and the upstream’s ENOTSUP back',
    {
      'Command flags': ['then the server MUST fail quickly with an error of `NBD_ENOTSUP`'],
      'Request types': [
        'MUST fail quickly with `NBD_ENOTSUP` unless the request can be serviced in less time',
        'and SHOULD NOT alter the contents of the export when returning an `NBD_ENOTSUP` failure',
        'is set, the server SHOULD NOT fail with `NBD_EOVERFLOW` regardless of the client length',
        'a server SHOULD fail a fast zero request with `NBD_ENOTSUP` if the server cannot quickly determine in advance',
      ],
    },
    async ({ insideFake, fake }) => {
      const peer = await insideFake({
        answer: ({ type, flags, cookie }) =>
          simpleReply(type === COMMAND.ZEROES && (flags & FLAG.FAST_ZERO) !== 0 ? 95 : 0, cookie),
      })
      expect(await errorOf(peer, { type: COMMAND.ZEROES, flags: FLAG.FAST_ZERO, length: 1 << 20 })).toBe(95)
      expect(fake.last.requests).toMatchObject([{ type: COMMAND.ZEROES, flags: FLAG.FAST_ZERO, length: 1 << 20 }])
    },
  ),
  proven(
    'changes nothing by CACHE, and goes on after it has failed',
    {
      'Request types': [
        'there MUST NOT be any difference in semantics compared to if the client had not used this command',
      ],
    },
    async ({ inside, insideFake }) => {
      const peer = await inside('disk')
      const at = { offset: 8192n, length: 4096 }
      await errorOf(peer, { type: COMMAND.WRITE, ...at }, PAGE)
      expect(await errorOf(peer, { type: COMMAND.CACHE, ...at })).toBe(ERROR.NONE)
      expect((await ask(peer, { type: COMMAND.READ, ...at }))[0]?.payload).toEqual(PAGE)
      const failing = await insideFake({
        answer: ({ type, cookie }) => (type === COMMAND.CACHE ? simpleReply(ERROR.EINVAL, cookie) : undefined),
      })
      expect(await errorOf(failing, { type: COMMAND.CACHE, length: 512 })).toBe(ERROR.EINVAL)
      expect(await errorOf(failing, { type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
    },
  ),
  cited(
    'test/unit/stream/no-delay.test.ts',
    'TCP_NODELAY is set on what a door accepts and on what goes to an upstream',
    { 'Protocol phases': ["both the client and server SHOULD disable Nagle's algorithm"] },
  ),
  cited('test/interop/drain.test.ts', 'a gateway that drains tells all who haggle, whatever they ask for', {
    'Termination of the session during option haggling': [
      'SHOULD error further options received (other than an `NBD_OPT_ABORT`) with `NBD_REP_ERR_SHUTDOWN`',
    ],
  }),
  cited(
    'test/interop/drain.test.ts',
    'a gateway that drains answers what is in flight when the time is over, and ESHUTDOWN to all that comes later',
    {
      'Terminating the transmission phase': [
        'The error value issued in respect of these requests and any subsequently received requests SHOULD be `NBD_ESHUTDOWN`',
      ],
    },
  ),
  proven(
    'answers EINVAL to misaligned requests of a client that has asked for block sizes',
    {
      'Size constraints': ['MUST cleanly error commands that fall outside the constraints without corrupting data'],
      'Error values': ['or if a read or write request is not aligned to advertised minimum block sizes'],
    },
    async ({ greeted, fake }) => {
      fake.use({ sizes: [4096, 4096, 1 << 20] })
      const peer = await greeted()
      await askAll(peer, OPTION.GO, infoData('fake', [3]))
      for (const type of [COMMAND.READ, COMMAND.TRIM, COMMAND.ZEROES, COMMAND.CACHE]) {
        expect(await errorOf(peer, { type, offset: 512n, length: 4096 })).toBe(ERROR.EINVAL)
        expect(await errorOf(peer, { type, offset: 4096n, length: 512 })).toBe(ERROR.EINVAL)
      }
      expect(fake.last.requests).toEqual([])
    },
  ),
  notApplicable('third-party messages: there are none', {
    'Request types': ['authors of such implementations SHOULD contact the maintainer of this document'],
  }),
  notApplicable('what the disk gives for a hole is the upstream’s', {
    'Request types': ['area MUST be fully provisioned, ensuring that future writes to the same area'],
  }),
]
