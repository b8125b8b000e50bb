/** The client's rules of greeting and options: what an upstream gets to see of nbdgate before the transmission phase. */
import { expect } from 'vitest'
import { COMMAND, ERROR, infoData, OPTION, REPLY, u16, u32, u64 } from '../interop/hostile-support.ts'
import { waitFor } from '../support/wait.ts'
import { ALL_FLAGS, type Plan } from './fake.ts'
import { DOOR, type Ground } from './ground.ts'
import { cited, type Entry, notApplicable, proven } from './rows.ts'
import { ask, askAll, closed, contextsOf, errorOf, exportOf, metaQuery, NOTHING, optionReply, typesOf } from './wire.ts'

const INFO_EXPORT = Buffer.concat([u16(0), u64(1n << 20n), u16(ALL_FLAGS)])
const ERR_SHUTDOWN = 0x8000_0007

/** A client that asks for all there is, in the export of the false server; how GO was answered. */
async function goes({ fake, greeted }: Ground, plan: Plan, infos: readonly number[] = [3]) {
  fake.use(plan)
  const peer = await greeted()
  await askAll(peer, OPTION.STRUCTURED_REPLY)
  const set = await askAll(peer, OPTION.SET_META_CONTEXT, metaQuery('fake', 'base:allocation'))
  const replies = await askAll(peer, OPTION.GO, infoData('fake', infos))
  return { peer, set, replies, reply: replies.at(-1)?.type }
}

/** GO is refused to the client, and the upstream is left with its own word. */
async function leaves(ground: Ground, answer: Uint8Array): Promise<void> {
  const { reply } = await goes(ground, { option: type => (type === OPTION.GO ? answer : undefined) })
  expect(reply).toBe(REPLY.PLATFORM)
  expect(await ground.fake.ended()).toMatchObject({ end: 'ABORT', late: 0 })
}

export const clientHaggling: readonly Entry[] = [
  proven(
    'answers the flags that it knows, and passes over all others',
    {
      'Newstyle negotiation': ['The client SHOULD ignore any handshake flags it does not recognize'],
      'Fixed newstyle negotiation': [
        'The client SHOULD reply with `NBD_FLAG_C_FIXED_NEWSTYLE` set in its flags field too',
      ],
      'Client flags': [
        'bit 0, `NBD_FLAG_C_FIXED_NEWSTYLE`; SHOULD be set by clients that support the fixed newstyle protocol',
        'MUST NOT be set if the server did not set `NBD_FLAG_NO_ZEROES`',
        'Clients MUST NOT set any other flags',
      ],
    },
    async ({ insideFake, fake }) => {
      for (const [handshakeFlags, wanted] of [
        [3, 3],
        [1, 1],
        [2, 2],
        [0, 0],
        [0xffff, 3],
        [0xfffd, 1],
      ] as const) {
        const peer = await insideFake({ handshakeFlags })
        expect(fake.last.clientFlags, `to 0x${handshakeFlags.toString(16)}`).toBe(wanted)
        expect(await errorOf(peer, { type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
      }
    },
  ),
  proven(
    'sends no option before the last reply to the one before',
    {
      'Fixed newstyle negotiation': [
        'The client MUST NOT send any option until it has received a final reply to any option it has sent',
      ],
    },
    async ({ fake, greeted }) => {
      fake.use({ option: type => (type === OPTION.GO ? NOTHING : undefined) })
      const [peer, other] = [await greeted(), await greeted()]
      await askAll(peer, OPTION.STRUCTURED_REPLY)
      const answer = askAll(peer, OPTION.GO, infoData('fake'))
      await waitFor('GO at the upstream', () => fake.visits[0]?.options.at(-1)?.type === OPTION.GO)
      const visit = fake.last
      visit.send(optionReply(OPTION.GO, REPLY.INFO, INFO_EXPORT))
      // Turns of the gateway in which it could have said more.
      for (let n = 0; n < 5; n++) expect(await other.ask(OPTION.LIST)).toBe(REPLY.ACK)
      expect(visit.unread()).toBe(0)
      visit.send(optionReply(OPTION.GO, REPLY.ACK))
      expect((await answer).at(-1)?.type).toBe(REPLY.ACK)
    },
  ),
  proven(
    'asks once for what changes the state of a server, in the order that the spec wants, without data where none belongs',
    {
      'Fixed newstyle negotiation': ['The client SHOULD NOT send such messages more than once'],
      'Option types': [
        'This option SHOULD NOT be requested unless structured replies have been negotiated first',
        'This option MUST NOT be requested unless structured replies have been negotiated first',
        'The client MUST NOT send any additional data with the option, and the server SHOULD reject',
        'a client MUST NOT make use of those extensions without first enabling the `NBD_OPT_STRUCTURED_REPLY` extension',
        'The syntax of this query is implementation-defined, except that it MUST start with a namespace and a colon',
      ],
      'Metadata querying': [
        'the client MUST select one or more metadata contexts with the `NBD_OPT_SET_META_CONTEXT` command',
      ],
      Baseline: ['Clients that wish to use more messages MUST negotiate them during the handshake phase, first'],
    },
    async ground => {
      const { peer } = await goes(ground, {})
      expect(await errorOf(peer, { type: COMMAND.BLOCK_STATUS, length: 512 })).toBe(ERROR.NONE)
      const { options } = ground.fake.last
      expect(options.map(({ type }) => type)).toEqual([OPTION.STRUCTURED_REPLY, OPTION.SET_META_CONTEXT, OPTION.GO])
      expect(options[0]?.data).toEqual(NOTHING)
      expect(options[1]?.data).toEqual(metaQuery('there', 'base:allocation'))
      for (const query of ['nonsense', ':leaf', '']) {
        const client = await ground.greeted()
        ground.fake.use({})
        await askAll(client, OPTION.STRUCTURED_REPLY)
        const refused = await askAll(client, OPTION.SET_META_CONTEXT, metaQuery('fake', query))
        expect(typesOf(refused)).toEqual([REPLY.INVALID])
        expect(ground.fake.visits).toEqual([])
      }
    },
  ),
  proven(
    'asks for no structured replies and no contexts where its client has not',
    {
      'Metadata querying': [
        'A client MUST NOT use `NBD_CMD_BLOCK_STATUS` unless it selected a nonzero number of metadata contexts',
      ],
    },
    async ({ insideFake, fake }) => {
      const peer = await insideFake({})
      expect(fake.last.options.map(({ type }) => type)).toEqual([OPTION.INFO, OPTION.GO])
      expect(await errorOf(peer, { type: COMMAND.BLOCK_STATUS, length: 512 })).toBe(ERROR.EINVAL)
      expect(fake.last.requests).toEqual([])
    },
  ),
  proven(
    'comes in by GO, with each information once, and by EXPORT_NAME where GO is not known',
    {
      'Option types': [
        'A client thus SHOULD use `NBD_OPT_GO` in preference to `NBD_OPT_EXPORT_NAME`',
        'SHOULD fall back to `NBD_OPT_EXPORT_NAME` if `NBD_OPT_GO` is not supported',
        'handle `NBD_REP_ERR_UNSUP` by falling back to using `NBD_OPT_EXPORT_NAME`',
        'The client MUST NOT include any information request in the list more than once',
      ],
      'Client-side requirements': [
        'it SHOULD use `NBD_OPT_GO` (if the server supports it) in place of `NBD_OPT_EXPORT_NAME`',
      ],
      'Maximum interoperability': [
        'SHOULD implement the `NBD_OPT_EXPORT_NAME` message in addition to `NBD_OPT_INFO` and `NBD_OPT_GO`',
      ],
    },
    async ground => {
      const { reply } = await goes(ground, {}, [3, 3, 0, 1, 2])
      expect(reply).toBe(REPLY.ACK)
      const last = ground.fake.last.options.at(-1)
      expect([last?.type, last?.data]).toEqual([OPTION.GO, infoData('there', [1, 2, 3])])
      for (const handshakeFlags of [1, 3]) {
        const unsup = (type: number) => (type === OPTION.GO ? optionReply(type, REPLY.UNSUP) : undefined)
        const { peer } = await goes(ground, { handshakeFlags, option: unsup })
        const options = ground.fake.last.options.slice(-2)
        expect(options.map(({ type }) => type)).toEqual([OPTION.GO, OPTION.EXPORT_NAME])
        expect(options[1]?.data.toString()).toBe('there')
        expect((await ask(peer, { type: COMMAND.READ, length: 512 })).at(-1)?.error).toBe(ERROR.NONE)
      }
    },
  ),
  proven(
    'passes over informations that it does not know, in any order, and sends no option after ACK',
    {
      'Option types': [
        'The client MUST ignore information replies it does not understand',
        'The client MUST NOT send further option requests unless the final reply from the server indicates an error',
      ],
      'Option reply types': [
        'A client MUST NOT rely on any particular ordering amongst the `NBD_OPT_INFO` replies',
        'and MUST ignore information types that it does not recognize',
      ],
    },
    async ground => {
      const info = (data: Buffer) => optionReply(OPTION.GO, REPLY.INFO, data)
      const sizes = info(Buffer.concat([u16(3), u32(512), u32(4096), u32(1 << 20)]))
      const others = [
        info(u16(77)),
        info(Buffer.concat([u16(0x8001), Buffer.alloc(300)])),
        info(Buffer.from('0001746865', 'hex')),
      ]
      for (const replies of [
        [...others, sizes, info(INFO_EXPORT)],
        [info(INFO_EXPORT), sizes, ...others],
        [sizes, info(INFO_EXPORT), ...others],
      ]) {
        const answer = Buffer.concat([...replies, optionReply(OPTION.GO, REPLY.ACK)])
        const { peer, replies: told } = await goes(ground, {
          option: type => (type === OPTION.GO ? answer : undefined),
        })
        expect(exportOf(told).size).toBe(1n << 20n)
        expect(await errorOf(peer, { type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
        expect(ground.fake.last.options.at(-1)?.type).toBe(OPTION.GO)
      }
    },
  ),
  proven(
    'does without structured replies where the server knows none',
    {
      'Option types': [
        'clients SHOULD be prepared to also handle `NBD_REP_ERR_UNSUP`; in this case, no structured replies will be sent',
      ],
      'Server-side requirements': ['A client MUST NOT assume indications from a prior TCP session'],
    },
    async ground => {
      for (const structured of [true, false, true]) {
        const { peer } = await goes(ground, { structured })
        const offered = ground.fake.last.options.map(({ type }) => type)
        expect(offered.includes(OPTION.SET_META_CONTEXT)).toBe(structured)
        expect(await errorOf(peer, { type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
      }
    },
  ),
  proven(
    'disregards contexts that are followed by an error, and ids of another connection',
    {
      'Option types': [
        'If an error is returned, the client MUST disregard any context replies that may have been sent',
        'clients MUST therefore treat the ID as an opaque value and not (for instance) cache it between connections',
        'set to zero; clients MUST disregard it',
      ],
    },
    async ground => {
      const context = optionReply(
        OPTION.SET_META_CONTEXT,
        REPLY.META_CONTEXT,
        Buffer.concat([u32(3), Buffer.from('base:allocation')]),
      )
      const failing = Buffer.concat([context, optionReply(OPTION.SET_META_CONTEXT, REPLY.TOO_BIG)])
      const failed = await goes(ground, { option: type => (type === OPTION.SET_META_CONTEXT ? failing : undefined) })
      expect(contextsOf(failed.set)).toEqual([])
      expect(await errorOf(failed.peer, { type: COMMAND.BLOCK_STATUS, length: 512 })).toBe(ERROR.EINVAL)
      for (const id of [0, 7, 0xffff_ffff]) {
        const { peer, set } = await goes(ground, {
          contexts: [[id, 'base:allocation']],
          answer: ({ type, cookie, length }) =>
            type === COMMAND.BLOCK_STATUS
              ? Buffer.concat([
                  Buffer.from('668e33ef00010005', 'hex'),
                  u64(cookie),
                  u32(12),
                  u32(id),
                  u32(length),
                  u32(0),
                ])
              : undefined,
        })
        const [told] = contextsOf(set)
        const [status] = await ask(peer, { type: COMMAND.BLOCK_STATUS, length: 512 })
        expect(status?.payload.readUInt32BE(0)).toBe(told?.id)
      }
    },
  ),
  proven(
    'asks for block sizes where its client does, and so says that they are kept to',
    {
      'Size constraints': [
        'If a client can honour server size constraints (as set out below and under `NBD_INFO_BLOCK_SIZE`), it SHOULD announce this',
        'and MUST use `NBD_OPT_GO` rather than `NBD_OPT_EXPORT_NAME`',
      ],
      'Maximum interoperability': [
        'clients that desire maximum interoperability SHOULD implement querying for size constraints',
      ],
    },
    async ground => {
      for (const infos of [[], [3]]) {
        await goes(ground, { sizes: [512, 4096, 1 << 20] }, infos)
        const go = ground.fake.last.options.at(-1)
        expect([go?.type, go?.data]).toEqual([OPTION.GO, infoData('there', infos.length === 0 ? [] : [1, 2, 3])])
      }
    },
  ),
  proven(
    'leaves with ABORT, and nothing after it, when its export is refused',
    {
      'Termination of the session during option haggling': [
        "In the client's case, if it wishes to do so it MUST use soft disconnect",
        'it MUST NOT use a hard disconnect, and hence its only option to terminate the session is via a soft disconnect',
        'This MUST be followed by the client shutting down TLS (if it is running), and the client dropping the connection',
      ],
    },
    async ground => {
      for (const type of [REPLY.UNKNOWN, REPLY.POLICY, REPLY.PLATFORM, REPLY.TLS_REQD]) {
        await leaves(ground, optionReply(OPTION.GO, type, Buffer.from('no')))
      }
    },
  ),
  proven(
    'leaves with ABORT when the server is shutting down',
    {
      'Termination of the session during option haggling': [
        'If the client receives `NBD_REP_ERR_SHUTDOWN` it MUST initiate a soft disconnect',
      ],
    },
    async ground => {
      await leaves(ground, optionReply(OPTION.GO, ERR_SHUTDOWN))
      const { reply } = await goes(ground, {
        option: type => (type === OPTION.STRUCTURED_REPLY ? optionReply(type, ERR_SHUTDOWN) : undefined),
      })
      expect(reply).toBe(REPLY.PLATFORM)
      expect((await ground.fake.ended()).end).toBe('ABORT')
    },
  ),
  proven(
    'takes it well when the server closes on ABORT without a reply',
    {
      'Option types': [
        'the client SHOULD gracefully handle the server closing the connection after receiving an `NBD_OPT_ABORT`',
      ],
    },
    async ground => {
      const { gateway, fake } = ground
      await leaves(ground, optionReply(OPTION.GO, REPLY.UNKNOWN))
      fake.use({})
      const peer = await ground.inside('fake')
      expect(await errorOf(peer, { type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
      expect(gateway.log().filter(({ msg }) => msg === 'bug')).toEqual([])
    },
  ),
  proven(
    'leaves with DISC after an INFO whose client goes elsewhere, or away',
    {
      'Terminating the transmission phase': [
        'initiate any form of disconnect other than in one of the above circumstances',
      ],
    },
    async ({ fake, greeted }) => {
      for (const then of ['another export', 'ABORT', 'gone']) {
        fake.use({})
        const peer = await greeted(DOOR.PLAIN)
        expect(await peer.ask(OPTION.INFO, infoData('fake'))).toBe(REPLY.ACK)
        if (then === 'another export') await peer.enter('disk')
        else if (then === 'ABORT') await peer.ask(OPTION.ABORT)
        else peer.destroy()
        expect((await fake.ended()).end, then).toBe('DISC')
      }
    },
  ),
  proven(
    'closes on a server that breaks the rules of the handshake',
    {
      Conventions: ['MUST be no longer than 4096 bytes'],
      'Option reply types': [
        '*length* MUST be 12, and the reply payload',
        'The *length* MUST be 14, and the reply payload',
      ],
      'Size constraints': ['this value MUST be a power of 2, MUST NOT be larger than 2^16'],
    },
    async ground => {
      const context = optionReply(
        OPTION.SET_META_CONTEXT,
        REPLY.META_CONTEXT,
        Buffer.concat([u32(3), Buffer.alloc(4097, 'x:')]),
      )
      const long = Buffer.concat([context, optionReply(OPTION.SET_META_CONTEXT, REPLY.ACK)])
      const info = (data: Buffer) =>
        Buffer.concat([optionReply(OPTION.GO, REPLY.INFO, data), optionReply(OPTION.GO, REPLY.ACK)])
      const sizes = (...all: readonly number[]) => info(Buffer.concat([u16(3), ...all.map(u32)]))
      for (const [option, answer] of [
        [OPTION.SET_META_CONTEXT, long],
        [OPTION.GO, info(INFO_EXPORT.subarray(0, 11))],
        [OPTION.GO, info(Buffer.concat([INFO_EXPORT, Buffer.alloc(1)]))],
        [OPTION.GO, sizes(512, 4096)],
        [OPTION.GO, sizes(3, 4096, 1 << 20)],
        [OPTION.GO, sizes(1 << 17, 1 << 17, 1 << 20)],
      ] as const) {
        const { set, reply } = await goes(ground, { option: type => (type === option ? answer : undefined) })
        expect(option === OPTION.GO ? reply : set.at(-1)?.type, answer.toString('hex').slice(0, 120)).toBe(
          REPLY.PLATFORM,
        )
      }
    },
  ),
  proven(
    'holds its client to the same rules: no option that is answered leaves the transmission phase',
    { 'Newstyle negotiation': ['If the server is unwilling to allow the export, it MUST terminate the session'] },
    async ground => {
      // Where only EXPORT_NAME is there, the end of the upstream is the refusal; the client gets a word for it.
      ground.fake.use({
        handshakeFlags: 0,
        option: () => {
          throw new Error('the upstream closes')
        },
      })
      const peer = await ground.greeted()
      expect(await peer.ask(OPTION.GO, infoData('fake'))).toBe(REPLY.PLATFORM)
      peer.send(Buffer.from('49484156454f50540000000200000000', 'hex'))
      await closed(peer)
    },
  ),
  cited('test/unit/config/upstream-uri.test.ts', 'parseUpstreamUri takes port 10809 where none is named', {
    'Newstyle negotiation': [
      'A client who wants to use the new style negotiation SHOULD connect on the IANA-reserved port for NBD, 10809',
    ],
  }),
  cited(
    'test/unit/stream/no-delay.test.ts',
    'TCP_NODELAY is set on what a door accepts and on what goes to an upstream',
    { 'Protocol phases': ["both the client and server SHOULD disable Nagle's algorithm"] },
  ),
  notApplicable('a multiplexing client does that; ours has one connection for each of its clients', {
    'Ordering of messages and writes': [
      'MUST NOT issue an `NBD_CMD_FLUSH` request until it has received the reply for all write commands',
    ],
  }),
]
