/** The server's rules of greeting, client flags and options. */
import { expect } from 'vitest'
import { COMMAND, ERROR, infoData, OPTION, option, Peer, REPLY, request, u16, u32 } from '../interop/hostile-support.ts'
import { DISK_BYTES, DOOR } from './ground.ts'
import { type Entry, notApplicable, notKept, proven } from './rows.ts'
import { askAll, CAN, closed, errorOf, exportOf, infosOf, NOTHING, optionReply, typesOf } from './wire.ts'

const LONG = Buffer.alloc(4096, 'x').toString()

export const serverHaggling: readonly Entry[] = [
  proven(
    'greets with newstyle, FIXED_NEWSTYLE and NO_ZEROES, and nothing else',
    {
      'Newstyle negotiation': ['The server SHOULD refuse to allow oldstyle negotiations on the newstyle port'],
      'Handshake flags': [
        'MUST be set by servers that support the fixed newstyle protocol',
        'The server MUST NOT set any other flags, and',
        'The server MUST NOT set any of these flags during oldstyle negotiation',
      ],
      'Option types': ['A server which wishes to use any other option MUST support fixed newstyle'],
    },
    async ({ port }) => {
      for (const door of Object.values(DOOR)) {
        const peer = await Peer.connect(port(door))
        expect((await peer.read(18)).toString('hex')).toBe('4e42444d414749434948415645 4f50540003'.replace(' ', ''))
        peer.destroy()
      }
    },
  ),
  proven(
    'closes the connection for each client flag that it does not know',
    {
      'Newstyle negotiation': ["the server MUST close the TCP connection if it does not recognize the client's flags"],
      'Client flags': ['the server MUST drop the TCP connection if the client sets an unknown flag'],
    },
    async ({ port }) => {
      for (const flags of [4, 7, 0x1_0003, 0x8000_0003]) {
        const peer = await Peer.connect(port(DOOR.PLAIN))
        await peer.read(18)
        peer.send(u32(flags), option(OPTION.LIST))
        expect(await closed(peer)).toEqual(NOTHING)
      }
    },
  ),
  proven(
    'sends the 124 zeroes after EXPORT_NAME to a client that did not say NO_ZEROES, and to no other',
    {
      'Handshake flags': [
        'the server MUST NOT send the 124 bytes of zero when the client ends negotiation',
        'SHOULD NOT change behaviour unless the client responds with a corresponding flag',
      ],
      'Client flags': ['If set, the server MUST NOT send the 124 bytes of zeroes'],
      'Maximum interoperability': ['SHOULD implement the `NBD_OPT_EXPORT_NAME` message in addition to'],
    },
    async ({ port }) => {
      for (const flags of [0, 1, 2, 3]) {
        const peer = await Peer.connect(port(DOOR.PLAIN))
        await peer.read(18)
        peer.send(u32(flags), option(OPTION.EXPORT_NAME, Buffer.from('disk')))
        const head = await peer.read(10)
        expect(head.readBigUInt64BE(0)).toBe(BigInt(DISK_BYTES))
        if ((flags & 2) === 0) expect(await peer.read(124)).toEqual(Buffer.alloc(124))
        expect(await peer.try({ type: COMMAND.READ, length: 512 }), `flags ${flags}`).toBe(ERROR.NONE)
      }
    },
  ),
  proven(
    'ends the session for EXPORT_NAME of an export that is not there, or not for this client',
    {
      'Newstyle negotiation': ['If the server is unwilling to allow the export, it MUST terminate the session'],
      'Option types': [
        'are not met (e.g., the client did not initiate TLS for an export where the server requires it)',
      ],
      'Termination of the session during option haggling': [
        'A party that is mandated by this document to terminate the session MUST initiate a hard disconnect if it is not possible',
      ],
    },
    async ({ greeted }) => {
      for (const [door, name] of [
        [DOOR.PLAIN, 'nowhere'],
        [DOOR.PLAIN, 'tls-only'],
        [DOOR.SELECTIVE, 'tls-only'],
        [DOOR.SELECTIVE, 'nowhere'],
      ] as const) {
        const peer = await greeted(door)
        peer.send(option(OPTION.EXPORT_NAME, Buffer.from(name)))
        expect(await closed(peer), name).toEqual(NOTHING)
      }
    },
  ),
  proven(
    'acknowledges ABORT, also with data, and closes',
    {
      'Option types': [
        'The client desires to abort the negotiation and terminate the session. The server MUST reply with `NBD_REP_ACK`',
        'a server SHOULD ignore any data sent by the client rather than rejecting the request as invalid',
      ],
      Baseline: ['the `NBD_OPT_ABORT` message, and its response'],
    },
    async ({ greeted }) => {
      for (const data of [NOTHING, Buffer.from('why not'), Buffer.alloc(4096)]) {
        const peer = await greeted()
        expect(await askAll(peer, OPTION.ABORT, data)).toEqual([{ type: REPLY.ACK, data: NOTHING }])
        expect(await closed(peer)).toEqual(NOTHING)
      }
    },
  ),
  proven(
    'takes it well when a client sends ABORT and is gone before the answer',
    {
      'Option types': [
        'Similarly the server SHOULD gracefully handle the client sending an `NBD_OPT_ABORT` and closing',
      ],
    },
    async ({ greeted, gateway }) => {
      const before = gateway.log().length
      const peer = await greeted()
      peer.send(option(OPTION.ABORT))
      peer.destroy()
      // The next one comes after it, and what it left behind would be in the log by then.
      expect(await (await greeted()).ask(OPTION.ABORT)).toBe(REPLY.ACK)
      const said = gateway.log().slice(before)
      expect(said.filter(({ level }) => level === 'error' || level === 'warn')).toEqual([])
    },
  ),
  proven(
    'refuses LIST and STRUCTURED_REPLY with data, and goes on in step',
    {
      'Option types': [
        'the server SHOULD reject a request that includes data with `NBD_REP_ERR_INVALID`',
        'The client MUST NOT send any additional data with the option, and the server SHOULD reject a request that includes data',
      ],
    },
    async ({ greeted }) => {
      const peer = await greeted()
      for (const type of [OPTION.LIST, OPTION.STRUCTURED_REPLY]) {
        expect(typesOf(await askAll(peer, type, Buffer.from([0])))).toEqual([REPLY.INVALID])
        expect(typesOf(await askAll(peer, type)).at(-1)).toBe(REPLY.ACK)
      }
    },
  ),
  proven(
    'lists each export that the client may use, with a name that fits into its reply, and ACK',
    {
      Baseline: ['the `NBD_OPT_LIST` message and its response'],
      'Option reply types': [
        '32 bits, length of name (unsigned); MUST be no larger than the reply packet header length - 4',
      ],
      Conventions: ['MUST NOT contain `NUL` characters'],
    },
    async ({ greeted }) => {
      const replies = await askAll(await greeted(), OPTION.LIST)
      const named = replies.slice(0, -1).map(({ type, data }) => {
        const length = data.readUInt32BE(0)
        expect(type).toBe(2)
        expect(length).toBeLessThanOrEqual(data.length - 4)
        expect(data.subarray(4).includes(0)).toBe(false)
        return data.toString('utf8', 4, 4 + length)
      })
      expect(named).toEqual(['', 'disk', 'read-only', 'lifted', 'sized', 'fake', 'fake-tls'])
      expect(replies.at(-1)).toEqual({ type: REPLY.ACK, data: NOTHING })
    },
  ),
  proven(
    'refuses options that it does not know with ERR_UNSUP, its data passed over, and reads the next one',
    {
      Baseline: [
        'Servers that receive messages which they do not implement MUST reply to them with `NBD_REP_ERR_UNSUP`',
        'and MUST NOT fail to parse the next message received',
      ],
      'Termination of the session during option haggling': [
        "In the server's case it MUST (save where set out above) simply error inbound options",
        'A party MUST NOT initiate a hard disconnect save where set out in this section',
      ],
    },
    async ({ greeted }) => {
      const peer = await greeted()
      for (const type of [0, 4, 12, 99, 0xffff_ffff]) {
        expect(typesOf(await askAll(peer, type, Buffer.alloc(700, 'IHAVEOPT')))).toEqual([REPLY.UNSUP])
      }
      for (const name of ['nowhere', 'tls-only']) expect(await peer.ask(OPTION.GO, infoData(name))).toBe(REPLY.UNKNOWN)
      await peer.enter('disk')
      expect(await errorOf(peer, { type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
    },
  ),
  proven(
    'answers INFO and GO with INFO_EXPORT of 12 bytes before ACK',
    {
      'Option types': ['In this case, the server MUST send at least one `NBD_REP_INFO`, with an `NBD_INFO_EXPORT`'],
      'Option reply types': [
        'The server MUST send an `NBD_INFO_EXPORT` information type at some point before sending an `NBD_REP_ACK`',
        '*length* MUST be 12, and the reply payload is interpreted as follows',
      ],
      Baseline: ['the `NBD_OPT_INFO` and `NBD_OPT_GO` messages, with the `NBD_INFO_EXPORT` response'],
      'Transmission flags': ['bit 0, `NBD_FLAG_HAS_FLAGS`: MUST always be 1'],
    },
    async ({ greeted }) => {
      for (const type of [OPTION.INFO, OPTION.GO]) {
        for (const name of ['', 'disk', 'read-only', 'lifted', 'sized']) {
          const replies = await askAll(await greeted(), type, infoData(name))
          expect(replies.at(-1)).toEqual({ type: REPLY.ACK, data: NOTHING })
          const infos = infosOf(replies, 0)
          expect(infos.map(({ length }) => length)).toEqual([12])
          expect(exportOf(replies).flags & CAN.HAS_FLAGS).toBe(CAN.HAS_FLAGS)
        }
      }
    },
  ),
  proven(
    'sends each information that was asked for once, of the length that it must have, and none that nobody knows',
    {
      'Option types': [
        'The server MUST ignore any information requests it does not understand',
        'the server MUST NOT assume that such information requests are understood and respected by the client',
      ],
      'Option reply types': [
        'A particular information type SHOULD only appear once for a given export unless documented otherwise',
        '`NBD_OPT_LIST`. The *length* MUST be at least 2, and the reply payload is interpreted as: - 16 bits, `NBD_INFO_NAME`',
        'The *length* MUST be at least 2, and the reply payload is interpreted as: - 16 bits, `NBD_INFO_DESCRIPTION`',
        'The *length* MUST be 14, and the reply payload is interpreted as',
      ],
    },
    async ({ greeted }) => {
      const wanted = infoData('disk', [99, 1, 3, 2, 1, 0, 0x7fff])
      const replies = await askAll(await greeted(), OPTION.INFO, wanted)
      const types = replies.slice(0, -1).map(({ data }) => data.readUInt16BE(0))
      expect(types.toSorted()).toEqual([0, 1, 2, 3])
      expect(infosOf(replies, 1)[0]?.toString('utf8', 2)).toBe('disk')
      expect(infosOf(replies, 2)[0]?.toString('utf8', 2)).toBe('a disk of memory')
      expect(infosOf(replies, 3)[0]).toHaveLength(14)
      expect(typesOf(await askAll(await greeted(), OPTION.INFO, infoData('disk')))).toEqual([REPLY.INFO, REPLY.ACK])
    },
  ),
  proven(
    'answers INFO and GO for what is not there with ERR_UNKNOWN and no information',
    {
      'Option types': [
        'The chosen export does not exist on this server. In this case, the server SHOULD NOT send `NBD_REP_INFO` replies',
      ],
    },
    async ({ greeted }) => {
      for (const type of [OPTION.INFO, OPTION.GO]) {
        expect(typesOf(await askAll(await greeted(), type, infoData('nowhere', [1, 2, 3])))).toEqual([REPLY.UNKNOWN])
      }
    },
  ),
  proven(
    'refuses INFO and GO whose name is longer than the option, and names that are no strings of the protocol',
    {
      'Option types': ['32 bits, length of name (unsigned); MUST be no larger than the option data length - 6'],
      Conventions: ['MUST be no longer than 4096 bytes'],
    },
    async ({ greeted }) => {
      const peer = await greeted()
      for (const type of [OPTION.INFO, OPTION.GO]) {
        for (const data of [infoData('disk', [], 5), infoData('disk', [], 0xffff_ffff), infoData('di\0k')]) {
          expect(await peer.ask(type, data)).toBe(REPLY.INVALID)
        }
        expect(await peer.ask(type, infoData(LONG))).toBe(REPLY.UNKNOWN)
        expect(await peer.ask(type, infoData(`${LONG}x`))).toBe(REPLY.TOO_BIG)
      }
    },
  ),
  proven(
    'tells GO the same as INFO before it, also when the upstream has changed in between',
    { 'Option types': ['the server MUST reply with the same set of information, such as transmission flags'] },
    async ({ greeted, fake }) => {
      for (const infos of [[], [3], [0, 1, 2, 3]]) {
        let size = 1n << 20n
        fake.use({
          get size() {
            size += 512n
            return size
          },
          sizes: [512, 4096, 1 << 20],
        })
        const peer = await greeted()
        const told = await askAll(peer, OPTION.INFO, infoData('fake', infos))
        expect(await askAll(peer, OPTION.GO, infoData('fake', infos)), `with ${infos}`).toEqual(told)
      }
    },
  ),
  proven(
    'goes from the ACK of GO into the transmission phase without a byte between, whatever the client said of zeroes',
    { 'Option types': ['The server MUST NOT send any zero padding bytes after the `NBD_REP_ACK` data'] },
    async ({ port }) => {
      for (const flags of [1, 3]) {
        const peer = await Peer.connect(port(DOOR.PLAIN))
        await peer.read(18)
        peer.send(u32(flags))
        await peer.enter('disk')
        peer.send(request({ type: COMMAND.READ, cookie: 9n, length: 512 }))
        expect(await peer.simpleReply(512)).toMatchObject({ error: ERROR.NONE, cookie: 9n })
      }
    },
  ),
  proven(
    'takes a client that knows no block sizes in, by GO and by EXPORT_NAME, and serves bytes at any offset',
    {
      'Size constraints': [
        'then a server SHOULD support a default minimum block size of 1',
        'servers SHOULD NOT refuse clients that do not request sizing information when the server supports default sizing',
      ],
      'Option types': [
        'The server SHOULD NOT send this error if it is using default size constraints or size constraints negotiated out of band',
      ],
      'Maximum interoperability': [
        'Servers that implement size constraints through `NBD_INFO_BLOCK_SIZE` and desire maximum interoperability SHOULD NOT require them',
      ],
    },
    async ({ inside }) => {
      const peer = await inside('disk')
      const at = { offset: 4097n, length: 3 }
      expect(await errorOf(peer, { type: COMMAND.WRITE, ...at }, Buffer.from('abc'))).toBe(ERROR.NONE)
      peer.send(request({ type: COMMAND.READ, ...at }))
      expect((await peer.simpleReply(3)).data.toString()).toBe('abc')
      expect(await errorOf(peer, { type: COMMAND.READ, length: 1 << 25 })).toBe(ERROR.NONE)
    },
  ),
  proven(
    'passes on the block sizes of the upstream: to INFO, to GO, whoever asks',
    {
      'Size constraints': [
        'A server with size constraints other than the default SHOULD advertise the size constraints during handshake phase',
        'and MUST do so unless it has agreed on size constraints via out of band means',
        'this value MUST be a power of 2, MUST NOT be larger than 2^16 (65,536)',
        'the advertised export size SHOULD be an integer multiple of that block size',
        'SHOULD be at least 2^20 (1,048,576) if the export is that large',
      ],
      'Option reply types': [
        'The server MUST send this info if it is requested and it intends to enforce size constraints',
      ],
    },
    async ({ greeted }) => {
      for (const type of [OPTION.INFO, OPTION.GO]) {
        const replies = await askAll(await greeted(), type, infoData('sized', [3]))
        expect(infosOf(replies, 3)).toEqual([Buffer.concat([u16(3), u32(4096), u32(65536), u32(1 << 20)])])
        expect(exportOf(replies).size % 4096n).toBe(0n)
      }
    },
  ),
  proven(
    'tells block sizes that the spec allows, also where the upstream prefers too little or too much',
    {
      'Size constraints': [
        'If advertised, this MUST be a power of 2 at least as large as the maximum of the minimum block size and 2^9 (512)',
        'but MUST be at least as large as the preferred block size',
      ],
    },
    async ({ greeted, fake }) => {
      for (const [sizes, told] of [
        [
          [1, 1, 0xffff_ffff],
          [1, 512, 1 << 25],
        ],
        [
          [64, 256, 1 << 20],
          [64, 512, 1 << 20],
        ],
        [
          [512, 1 << 30, 0xffff_ffff],
          [512, 1 << 25, 1 << 25],
        ],
      ] as const) {
        fake.use({ sizes })
        const replies = await askAll(await greeted(), OPTION.INFO, infoData('fake', [3]))
        expect(infosOf(replies, 3), String(sizes)).toEqual([Buffer.concat([u16(3), ...told.map(u32)])])
      }
    },
  ),
  proven(
    'answers BLOCK_SIZE_REQD to a client that did not ask where the upstream insists, and never to one that did',
    {
      'Option types': [
        'The server MUST NOT send this error if size constraints were requested with `NBD_INFO_BLOCK_SIZE`',
      ],
    },
    async ({ greeted, fake }) => {
      const required = 0x8000_0008
      const refusing = (type: number) =>
        type === OPTION.GO ? Buffer.from(`0003e889045565a900000007${required.toString(16)}00000000`, 'hex') : undefined
      fake.use({ option: refusing })
      for (const type of [OPTION.INFO, OPTION.GO]) {
        expect(typesOf(await askAll(await greeted(), type, infoData('fake')))).toEqual([required])
        expect(typesOf(await askAll(await greeted(), type, infoData('fake', [3])))).toEqual([REPLY.PLATFORM])
      }
    },
  ),
  proven(
    'tells the sizes that the upstream insists on ahead of BLOCK_SIZE_REQD',
    { 'Option types': ['SHOULD ensure it first sends an `NBD_INFO_BLOCK_SIZE` information reply'] },
    async ({ greeted, fake }) => {
      const sizes = Buffer.concat([u16(3), u32(4096), u32(65536), u32(1 << 20)])
      const answer = Buffer.concat([optionReply(OPTION.GO, REPLY.INFO, sizes), optionReply(OPTION.GO, 0x8000_0008)])
      fake.use({ option: type => (type === OPTION.GO ? answer : undefined) })
      for (const type of [OPTION.INFO, OPTION.GO]) {
        const replies = await askAll(await greeted(), type, infoData('fake'))
        expect(typesOf(replies)).toEqual([REPLY.INFO, 0x8000_0008])
        expect(replies[0]?.data).toEqual(sizes)
      }
    },
  ),
  notKept(
    'speaks newstyle on whatever port its configuration names',
    'oldstyle is not spoken at all: it has no names, no TLS and no refusals',
    {
      'Newstyle negotiation': [
        'The server MAY listen on other ports as well, but it SHOULD use the old style handshake on those',
      ],
    },
  ),
  notKept(
    'ends sessions whose right is gone, and idle ones where limits.idle says so, at once',
    'a revoked right that waits for the client to leave is none; the README says so under "Changing the rules while sessions run"',
    {
      'Terminating the transmission phase': [
        'The client and the server MUST NOT initiate any form of disconnect other than in one of the above circumstances',
      ],
    },
  ),
  notApplicable('the port is the operator’s to choose', {
    'Newstyle negotiation': ['this SHOULD NOT happen for production purposes'],
  }),
]
