/**
 * Upstreams that do not keep to the protocol: a server in the hands of the test stands behind an export. Each time that
 * session alone ends, the log says why, the client gets no byte outside its request, and a session of another export,
 * open all the while, is served as before.
 */
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { seededBytes } from '../support/disk.ts'
import { requires } from '../support/requires.ts'
import { startNbdkit } from '../support/servers.ts'
import { freePort, WAIT_BOUND_MS } from '../support/wait.ts'
import { layGround } from './hostile-ground.ts'
import {
  COMMAND,
  ERROR,
  infoData,
  OPTION,
  Peer,
  REPLY,
  type RequestParts,
  request,
  simpleReply,
  u16,
  u32,
  u64,
} from './hostile-support.ts'

const MIB = 1024 * 1024
const NOTHING = Buffer.alloc(0)
const GREETING = Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), u16(3)])
/** HAS_FLAGS, SEND_FLUSH, SEND_TRIM. */
const FLAGS = 0x25
/** How long the gateway waits for an upstream that says nothing, in ms. */
const UPSTREAM_MS = 5_000

/** An option reply as a server sends it. */
function reply(option: number, type: number, data: Uint8Array = NOTHING, claims = data.length): Buffer {
  return Buffer.concat([u64(0x0003_e889_0455_65a9n), u32(option), u32(type), u32(claims), data])
}
const exportInfo = (size: bigint) => reply(OPTION.GO, REPLY.INFO, Buffer.concat([u16(0), u64(size), u16(FLAGS)]))
const blockSizes = (...sizes: readonly number[]) =>
  reply(OPTION.GO, REPLY.INFO, Buffer.concat([u16(3), ...sizes.map(u32)]))
const ACK = reply(OPTION.GO, REPLY.ACK)

const context = (id: number, name: string) =>
  reply(OPTION.SET_META_CONTEXT, REPLY.META_CONTEXT, Buffer.concat([u32(id), Buffer.from(name)]))

/** A chunk of a structured reply. `claims` is the length that it says it has. */
function chunk(type: number, cookie: bigint, payload: Uint8Array, flags = 1, claims = payload.length): Buffer {
  return Buffer.concat([u32(0x668e_33ef), u16(flags), u16(type), u64(cookie), u32(claims), payload])
}

/** Asks the export `bad` for base:allocation. */
const ALLOCATION = Buffer.concat([u32(3), Buffer.from('bad'), u32(1), u32(15), Buffer.from('base:allocation')])

/** What the upstream does on a connection. */
type Script = (upstream: Peer) => Promise<void>

/** Reads an option of the gateway: its type. This server does not know INFO. */
async function nextOption(upstream: Peer): Promise<number> {
  const head = await upstream.read(16)
  await upstream.read(head.readUInt32BE(12))
  const option = head.readUInt32BE(8)
  if (option !== OPTION.INFO) return option
  upstream.send(reply(OPTION.INFO, REPLY.UNSUP))
  return await nextOption(upstream)
}

/** Haggles as it should, up to what answers GO; agrees to structured replies if asked. */
async function haggle(upstream: Peer, ...answer: readonly Uint8Array[]): Promise<void> {
  upstream.send(GREETING)
  await upstream.read(4)
  if ((await nextOption(upstream)) === OPTION.STRUCTURED_REPLY) {
    upstream.send(reply(OPTION.STRUCTURED_REPLY, REPLY.ACK))
    if ((await nextOption(upstream)) === OPTION.SET_META_CONTEXT) {
      upstream.send(context(7, 'base:allocation'), reply(OPTION.SET_META_CONTEXT, REPLY.ACK))
      await nextOption(upstream)
    }
  }
  upstream.send(...answer)
}

/** In the transmission phase: reads one request, and answers with what `answer` makes of its cookie. */
function answering(answer: (cookie: bigint) => Buffer, then: (upstream: Peer) => void = () => {}): Script {
  return async upstream => {
    await haggle(upstream, exportInfo(BigInt(MIB)), ACK)
    const head = await upstream.read(28)
    upstream.send(answer(head.readBigUInt64BE(8)))
    then(upstream)
  }
}

requires('nbdkit')('a hostile upstream', () => {
  let script: Script = async () => {}
  let stop: () => Promise<unknown> = async () => {}
  const fake = createServer((socket: Socket) => {
    const upstream = new Peer(socket)
    // The gateway leaves in the middle of a script: that is what most of them are for.
    script(upstream).catch(() => {})
  })
  const ground = layGround({
    configure: async ({ dir }) => {
      const { socket, process } = await startNbdkit(dir, 'nbdkit', ['memory', '1M'])
      stop = process.stop
      const port = await freePort()
      await once(fake.listen(port, '127.0.0.1'), 'listening')
      const allow = [{ who: 'anyone', rights: 'write' }]
      return JSON.stringify({
        version: 1,
        doors: [{ tcp: '127.0.0.1:0', from: ['127.0.0.0/8'] }],
        exports: [
          { name: 'good', upstream: `nbd+unix:///?socket=${socket}`, allow },
          { name: 'bad', upstream: `nbd://127.0.0.1:${port}/`, allow, reconnect: '0s' },
        ],
      })
    },
    goodClient: async ({ port }) => {
      const peer = await Peer.inside(port(0), 'good')
      expect(await peer.try({ type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
      peer.send(request({ type: COMMAND.DISC }))
      await peer.closed(WAIT_BOUND_MS)
      peer.destroy()
    },
    cleanup: async () => {
      fake.close()
      await stop()
    },
  })

  // Whoever looks at the gateway has it ask its upstreams.
  afterEach(() => {
    script = async upstream => upstream.send(GREETING)
  })

  /** Runs `act` while a session of the good export is open, which must not notice. */
  async function besideOthers(act: () => Promise<void>): Promise<void> {
    const other = await Peer.inside(ground.port(0), 'good')
    expect(await other.try({ type: COMMAND.READ, length: 4096 })).toBe(ERROR.NONE)
    await act()
    expect(await other.try({ type: COMMAND.READ, length: 4096 })).toBe(ERROR.NONE)
  }

  /** GO for the bad export is refused, the log says why, and the client may go on. */
  async function refuses(behaviour: Script, facts: Record<string, unknown>, boundMs?: number): Promise<void> {
    script = behaviour
    await besideOthers(async () => {
      const peer = await Peer.greeted(ground.port(0))
      expect(await peer.ask(OPTION.GO, infoData('bad'), boundMs)).toBe(REPLY.PLATFORM)
      await ground.tells({ msg: 'upstream failed', export: 'bad', ...facts })
      await peer.enter('good')
    })
  }
  const because = (code: string) => ({
    code: 'HANDSHAKE',
    err: expect.objectContaining({ cause: expect.objectContaining({ code }) }),
  })

  describe('refuses GO to the client when the upstream', () => {
    const garbage = seededBytes(3, 64 * 1024)
    const oldstyle = Buffer.concat([Buffer.from('NBDMAGIC'), u64(0x0000_4202_8186_1253n), Buffer.alloc(136, 0xff)])
    const cases: readonly (readonly [string, Script, string])[] = [
      ['greets with garbage', async up => up.send(garbage), 'BAD_MAGIC'],
      ['speaks oldstyle negotiation of 2^64 - 1 bytes', async up => up.send(oldstyle), 'BAD_REPLY'],
      ['speaks HTTP', async up => up.send(Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')), 'BAD_MAGIC'],
      ['closes at once', async up => up.destroy(), 'TRUNCATED'],
      ['closes amid its greeting', async up => leave(up, GREETING.subarray(0, 9)), 'TRUNCATED'],
      ['closes after its greeting', async up => leave(up, GREETING), 'TRUNCATED'],
      ['closes instead of an answer to GO', up => haggle(up).then(() => up.finish()), 'TRUNCATED'],
      ['closes amid an option reply', up => haggle(up, ACK.subarray(0, 11)).then(() => up.finish()), 'TRUNCATED'],
      ['closes between INFO and ACK', up => haggle(up, exportInfo(1n)).then(() => up.finish()), 'TRUNCATED'],
      ['replies with a wrong magic', up => haggle(up, Buffer.alloc(20)), 'BAD_MAGIC'],
      ['replies with 4 GiB', up => haggle(up, reply(OPTION.GO, REPLY.INFO, garbage, 0xffff_ffff)), 'TOO_LONG'],
      ['replies to another option', up => haggle(up, reply(OPTION.LIST, REPLY.ACK)), 'BAD_REPLY'],
      ['replies with a type of another option', up => haggle(up, reply(OPTION.GO, 2, infoData('x'))), 'BAD_REPLY'],
      ['acknowledges without a size', up => haggle(up, ACK), 'BAD_REPLY'],
      [
        'sends an INFO without a type',
        up => haggle(up, reply(OPTION.GO, REPLY.INFO, u16(0).subarray(1))),
        'BAD_LENGTH',
      ],
      ['sends a short INFO_EXPORT', up => haggle(up, reply(OPTION.GO, REPLY.INFO, u16(0))), 'BAD_LENGTH'],
      ['sends INFO without an end', endless, 'BAD_REPLY'],
      ['has 2^63 bytes (CVE-2023-5215)', up => haggle(up, exportInfo(1n << 63n), ACK), 'BAD_REPLY'],
      ['has 2^64 - 1 bytes (CVE-2023-5215)', up => haggle(up, exportInfo((1n << 64n) - 1n), ACK), 'BAD_REPLY'],
      ['has a minimum block of 0', up => haggle(up, blockSizes(0, 4096, MIB), exportInfo(1n), ACK), 'BAD_REPLY'],
      ['has a minimum block of 3', up => haggle(up, blockSizes(3, 4096, MIB), exportInfo(1n), ACK), 'BAD_REPLY'],
      ['prefers less than its minimum', up => haggle(up, blockSizes(4096, 512, MIB), exportInfo(1n), ACK), 'BAD_REPLY'],
      ['takes less than it prefers', up => haggle(up, blockSizes(512, 4096, 1024), exportInfo(1n), ACK), 'BAD_REPLY'],
      ['speaks before the first request', up => haggle(up, exportInfo(1n), ACK, simpleReply(0, 0n)), 'UNEXPECTED_DATA'],
    ]
    for (const [what, behaviour, code] of cases) it(what, () => refuses(behaviour, because(code)))

    it('refuses (CVE-2021-20286: an error in reply to GO)', () =>
      refuses(up => haggle(up, reply(OPTION.GO, REPLY.POLICY, Buffer.from('go\u001b[2J away'))), { code: 'REFUSED' }))

    it('says nothing, once its five seconds are over', () =>
      refuses(async () => {}, because('TIMEOUT'), UPSTREAM_MS + WAIT_BOUND_MS))

    it('says nothing to GO, once its five seconds are over', () =>
      refuses(up => haggle(up), because('TIMEOUT'), UPSTREAM_MS + WAIT_BOUND_MS))

    async function leave(up: Peer, bytes: Uint8Array): Promise<void> {
      up.send(bytes)
      up.finish()
    }
    async function endless(up: Peer): Promise<void> {
      await haggle(up)
      for (let n = 0; n < 1000; n++) up.send(exportInfo(1n))
    }
  })
  const READ: RequestParts = { type: COMMAND.READ, cookie: 0x1122_3344_5566_7788n, offset: 4096n, length: 512 }
  const SIMPLE_OK = simpleReply(ERROR.NONE, READ.cookie ?? 0n)

  interface Violation {
    readonly behaviour: Script
    readonly sends?: RequestParts
    readonly structured?: boolean
    readonly contexts?: boolean
    /** What the client may get before the end. */
    readonly gets?: Buffer
    readonly facts: Record<string, unknown>
  }

  /** The session of the bad export ends, with a line that says why, and its client has got what it may and no more. */
  async function ends(violation: Violation): Promise<void> {
    script = violation.behaviour
    await besideOthers(async () => {
      const peer = await Peer.greeted(ground.port(0))
      if (violation.structured === true) expect(await peer.ask(OPTION.STRUCTURED_REPLY)).toBe(REPLY.ACK)
      if (violation.contexts === true) expect(await peer.ask(OPTION.SET_META_CONTEXT, ALLOCATION)).toBe(REPLY.ACK)
      await peer.enter('bad')
      const { sends = READ } = violation
      peer.send(request(sends), Buffer.alloc(sends.type === COMMAND.WRITE ? (sends.length ?? 0) : 0))
      const got = await peer.closed()
      // What came in one piece with the violation may be withheld.
      expect((violation.gets ?? NOTHING).subarray(0, got.length)).toEqual(got)
      await ground.tells({ msg: 'session ended', export: 'bad', ...violation.facts })
    })
  }
  const broken = (code: string) => ({
    why: 'upstream broke the protocol',
    err: expect.objectContaining({ code }),
  })
  const GONE = { why: 'upstream gone' }
  describe('ends the session when the upstream answers with', () => {
    const payload = seededBytes(5, 512)
    const violations: Readonly<Record<string, Violation>> = {
      'an unknown cookie': {
        behaviour: answering(cookie => simpleReply(0, cookie ^ 1n)),
        facts: broken('UNKNOWN_COOKIE'),
      },
      "the client's own cookie": {
        behaviour: answering(() => Buffer.concat([SIMPLE_OK, payload])),
        facts: broken('UNKNOWN_COOKIE'),
      },
      'a second reply to a request': {
        behaviour: answering(cookie => {
          const once = Buffer.concat([simpleReply(0, cookie), payload])
          return Buffer.concat([once, once])
        }),
        gets: Buffer.concat([SIMPLE_OK, payload]),
        facts: broken('UNKNOWN_COOKIE'),
      },
      'a wrong magic': { behaviour: answering(() => Buffer.alloc(16)), facts: broken('BAD_MAGIC') },
      'a structured reply that nobody agreed on': {
        behaviour: answering(cookie => chunk(1, cookie, Buffer.concat([u64(4096n), payload]))),
        facts: broken('BAD_MAGIC'),
      },
      'an error and then a payload': {
        behaviour: answering(cookie => Buffer.concat([simpleReply(ERROR.EIO, cookie), payload])),
        gets: simpleReply(ERROR.EIO, READ.cookie ?? 0n),
        facts: broken('BAD_MAGIC'),
      },
      'more payload than was asked for': {
        behaviour: answering(cookie => Buffer.concat([simpleReply(0, cookie), payload, payload])),
        gets: Buffer.concat([SIMPLE_OK, payload]),
        facts: broken('BAD_MAGIC'),
      },
      'half a head and the end': {
        behaviour: answering(
          cookie => simpleReply(0, cookie).subarray(0, 9),
          up => up.finish(),
        ),
        facts: GONE,
      },
      'half a payload and the end': {
        behaviour: answering(
          cookie => Buffer.concat([simpleReply(0, cookie), payload.subarray(0, 256)]),
          up => up.finish(),
        ),
        gets: Buffer.concat([SIMPLE_OK, payload.subarray(0, 256)]),
        facts: GONE,
      },
      'nothing but the end': {
        behaviour: answering(
          () => NOTHING,
          up => up.finish(),
        ),
        facts: GONE,
      },
      'nothing but a reset': {
        behaviour: answering(
          () => NOTHING,
          up => up.reset(),
        ),
        facts: GONE,
      },
    }
    for (const [what, violation] of Object.entries(violations)) it(what, () => ends(violation))

    it('a reply before the first request', () =>
      ends({
        behaviour: async up => {
          await haggle(up, exportInfo(BigInt(MIB)), ACK)
          await up.read(28)
          up.send(simpleReply(0, 0n))
        },
        facts: broken('UNKNOWN_COOKIE'),
      }))
  })

  describe('ends the session when the upstream, having agreed to structured replies, answers with', () => {
    const data = seededBytes(6, 512)
    const at = (offset: bigint, bytes: Uint8Array = data) => Buffer.concat([u64(offset), bytes])
    const hole = (offset: bigint, length: number) => Buffer.concat([u64(offset), u32(length)])
    const whole = (cookie: bigint, flags: number) => chunk(1, cookie, at(4096n), flags)
    const cases: readonly (readonly [string, (cookie: bigint) => Buffer, string, RequestParts?])[] = [
      ['data below its request (CVE-2019-14842)', cookie => chunk(1, cookie, at(4095n)), 'BAD_REPLY'],
      ['data at offset 0 (CVE-2019-14842)', cookie => chunk(1, cookie, at(0n)), 'BAD_REPLY'],
      ['data beyond its request', cookie => chunk(1, cookie, at(4097n)), 'BAD_REPLY'],
      ['data at an offset that wraps', cookie => chunk(1, cookie, at((1n << 64n) - 256n)), 'BAD_REPLY'],
      ['more data than was asked for', cookie => chunk(1, cookie, at(4096n, Buffer.alloc(513))), 'BAD_REPLY'],
      ['a chunk of 4 GiB', cookie => chunk(1, cookie, at(4096n), 1, 0xffff_ffff), 'BAD_REPLY'],
      ['a data chunk without data', cookie => chunk(1, cookie, u64(4096n)), 'BAD_LENGTH'],
      ['a hole larger than its request', cookie => chunk(2, cookie, hole(4096n, 513)), 'BAD_REPLY'],
      ['a hole of 4 GiB', cookie => chunk(2, cookie, hole(4096n, 0xffff_ffff)), 'BAD_REPLY'],
      ['a hole of nothing', cookie => chunk(2, cookie, hole(4096n, 0)), 'BAD_REPLY'],
      ['a hole chunk of the wrong length', cookie => chunk(2, cookie, hole(4096n, 512).subarray(1)), 'BAD_LENGTH'],
      ['a simple reply to READ', cookie => Buffer.concat([simpleReply(0, cookie), data]), 'BAD_REPLY'],
      ['too little data before the last chunk', cookie => chunk(2, cookie, hole(4096n, 256)), 'BAD_REPLY'],
      ['NONE that is not the last chunk', cookie => chunk(0, cookie, NOTHING, 0), 'BAD_REPLY'],
      ['NONE before any data', cookie => chunk(0, cookie, NOTHING), 'BAD_REPLY'],
      ['block status that nobody asked for', cookie => chunk(5, cookie, Buffer.alloc(12)), 'BAD_REPLY'],
      ['64-bit block status (CVE-2023-5871)', cookie => chunk(6, cookie, Buffer.alloc(24)), 'BAD_REPLY'],
      ['an error chunk too short to be one', cookie => chunk(0x8001, cookie, Buffer.alloc(5)), 'BAD_LENGTH'],
      ['an error chunk with a message of 64 KiB', cookie => chunk(0x8001, cookie, Buffer.alloc(65_536)), 'BAD_LENGTH'],
      [
        'an error that does not add up',
        cookie => chunk(0x8001, cookie, Buffer.from('00000005000900', 'hex')),
        'BAD_REPLY',
      ],
      ['an error of value 0', cookie => chunk(0x8001, cookie, Buffer.alloc(6)), 'BAD_REPLY'],
      [
        'an error outside its request',
        cookie => chunk(0x8002, cookie, Buffer.concat([u32(5), u16(0), u64(0n)])),
        'BAD_REPLY',
      ],
      [
        'data for a WRITE',
        cookie => chunk(1, cookie, at(4096n)),
        'BAD_REPLY',
        { type: COMMAND.WRITE, offset: 4096n, length: 512 },
      ],
    ]
    for (const [what, answer, code, sends] of cases) {
      it(what, () =>
        ends({
          behaviour: answering(answer),
          structured: true,
          facts: broken(code),
          ...(sends === undefined ? {} : { sends }),
        }),
      )
    }

    it('the same data twice', () =>
      ends({
        behaviour: answering(cookie => Buffer.concat([whole(cookie, 0), whole(cookie, 1)])),
        structured: true,
        gets: whole(READ.cookie ?? 0n, 0),
        facts: broken('BAD_REPLY'),
      }))

    it('a further chunk after the last', () =>
      ends({
        behaviour: answering(cookie => Buffer.concat([whole(cookie, 1), chunk(0, cookie, NOTHING)])),
        structured: true,
        gets: whole(READ.cookie ?? 0n, 1),
        facts: broken('UNKNOWN_COOKIE'),
      }))

    it('all the data, no last chunk, and the end', () =>
      ends({
        behaviour: answering(
          cookie => whole(cookie, 0),
          up => up.finish(),
        ),
        structured: true,
        gets: whole(READ.cookie ?? 0n, 0),
        facts: GONE,
      }))
  })

  describe('ends the session when the upstream answers BLOCK_STATUS with', () => {
    const ask: RequestParts = { type: COMMAND.BLOCK_STATUS, cookie: 0x55n, offset: 4096n, length: 0x3000 }
    const words = (...values: readonly number[]) => Buffer.concat(values.map(u32))
    const overlap = (cookie: bigint) => chunk(5, cookie, words(7, 0x1000, 0), 0)
    const cases: readonly (readonly [string, (cookie: bigint) => Buffer, string, RequestParts?])[] = [
      ['a context never negotiated', cookie => chunk(5, cookie, words(8, 0x1000, 0)), 'BAD_REPLY'],
      ['a context twice', cookie => Buffer.concat([overlap(cookie), overlap(cookie)]), 'BAD_REPLY'],
      ['no context at all', cookie => chunk(0, cookie, NOTHING), 'BAD_REPLY'],
      ['an extent of nothing', cookie => chunk(5, cookie, words(7, 0, 0)), 'BAD_REPLY'],
      ['extents behind its request', cookie => chunk(5, cookie, words(7, 0x3000, 0, 0x1000, 0)), 'BAD_REPLY'],
      ['no extent', cookie => chunk(5, cookie, words(7)), 'BAD_LENGTH'],
      ['half an extent', cookie => chunk(5, cookie, words(7, 0x1000)), 'BAD_LENGTH'],
      ['2^20 extents and one', cookie => chunk(5, cookie, words(7), 1, 4 + 8 * (2 ** 20 + 1)), 'BAD_LENGTH'],
      ['64-bit extents', cookie => chunk(6, cookie, Buffer.alloc(24)), 'BAD_REPLY'],
      ['data', cookie => chunk(1, cookie, Buffer.concat([u64(4096n), data()])), 'BAD_REPLY'],
      ['a hole', cookie => chunk(2, cookie, Buffer.concat([u64(4096n), u32(512)])), 'BAD_REPLY'],
      ['a simple reply', cookie => simpleReply(0, cookie), 'BAD_REPLY'],
      [
        'two extents to REQ_ONE',
        cookie => chunk(5, cookie, words(7, 512, 0, 512, 0)),
        'BAD_REPLY',
        { ...ask, flags: 8 },
      ],
      ['too long a one to REQ_ONE', cookie => chunk(5, cookie, words(7, 0x3001, 0)), 'BAD_REPLY', { ...ask, flags: 8 }],
    ]
    const data = () => Buffer.alloc(512)
    for (const [what, answer, code, sends = ask] of cases) {
      it(what, () =>
        ends({
          behaviour: answering(answer),
          structured: true,
          contexts: true,
          sends,
          gets: chunk(5, 0x55n, words(0, 0x1000, 0), 0),
          facts: broken(code),
        }),
      )
    }
  })

  it('CVE-2022-0485: an error of the upstream reaches the client as that error', async () => {
    script = answering(cookie => simpleReply(ERROR.EIO, cookie))
    const peer = await Peer.inside(ground.port(0), 'bad')
    expect(await peer.try(READ)).toBe(ERROR.EIO)
  })

  // Without it "the client got nothing" would prove nothing.
  it('would have served the client, had it been honest', async () => {
    script = answering(cookie => Buffer.concat([simpleReply(0, cookie), Buffer.alloc(512, 'x')]))
    const peer = await Peer.inside(ground.port(0), 'bad')
    peer.send(request(READ))
    expect(await peer.simpleReply(512)).toEqual({ error: 0, cookie: READ.cookie, data: Buffer.alloc(512, 'x') })
  })
})
