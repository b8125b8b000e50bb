import { describe, expect, it } from 'vitest'
import { enter, greet, listExports, OptionRefused, type UpstreamExport } from '../../../src/negotiation/client.ts'
import { StreamError } from '../../../src/stream/errors.ts'
import { Wire } from '../../../src/stream/wire.ts'
import { everySplit, FakeStream, hex } from '../../support/bytes.ts'

const GREETING = '4e42444d41474943 49484156454f5054'
const NEW = `${GREETING} 0003`
const u32 = (value: number): string => value.toString(16).padStart(8, '0')

const GO = 7
const STRUCTURED_REPLY = 8
const ACK = 1
const REP_INFO = 3
const UNSUP = 0x8000_0001

/** An option reply of a server; `claim` where its length is a lie. */
function reply(option: number, type: number, data = '', claim = hex(data).length): string {
  return `0003e889045565a9 ${u32(option)} ${u32(type)} ${u32(claim)} ${data}`
}

/** INFO_EXPORT of 1 TiB with the flags of nbd-server. */
const EXPORT = reply(GO, REP_INFO, '0000 0000010000000000 0141')
const WENT = reply(GO, ACK)

interface Spoken {
  readonly end: UpstreamExport | unknown
  /** What we wrote after the client flags. */
  readonly said: Buffer
  readonly flags: Buffer
  readonly wire: Wire
}

/** Enters `disk` at a server that says these bytes and then nothing. */
async function speak(chunks: readonly Buffer[], structuredReplies = false, blockSize = true): Promise<Spoken> {
  const stream = new FakeStream()
  const wire = new Wire(stream, 1000)
  stream.deliver(...chunks)
  stream.peerEnds()
  const end = await greet(wire)
    .then(connected => enter(connected, 'disk', { structuredReplies, blockSize }))
    .catch((error: unknown) => error)
  return { end, said: stream.output.subarray(4), flags: stream.output.subarray(0, 4), wire }
}

const says = (...parts: readonly string[]): Promise<Spoken> => speak([hex(...parts)])

const OPTION = '49484156454f5054'
const SAYS_GO = `${OPTION} 00000007 00000010 00000004 6469736b 0003 0001 0002 0003`
const SAYS_EXPORT_NAME = `${OPTION} 00000001 00000004 6469736b`

describe('greeting an upstream', () => {
  it('answers with the flags that both know', async () => {
    const flags = async (theirs: string): Promise<string> => (await says(GREETING, theirs)).flags.toString('hex')
    expect(await flags('0003')).toBe('00000003')
    expect(await flags('0001')).toBe('00000001')
    expect(await flags('0002')).toBe('00000002')
    expect(await flags('0000')).toBe('00000000')
    expect(await flags('fffd')).toBe('00000001')
  })

  it('is refused by what is no NBD server, by oldstyle with a name, and cut short', async () => {
    expect((await speak([Buffer.from('SSH-2.0-OpenSSH_9.2p1\r\n')])).end).toMatchObject({ code: 'BAD_MAGIC' })
    expect((await says('4e42444d41474943 0000420281861253', '00'.repeat(136))).end).toMatchObject({ code: 'BAD_REPLY' })
    expect((await says(GREETING, '00')).end).toMatchObject({ code: 'TRUNCATED' })
    expect((await says('')).end).toMatchObject({ code: 'TRUNCATED' })
  })
})

describe('GO', () => {
  it('asks for block sizes and takes size and flags from INFO_EXPORT', async () => {
    const { end, said } = await says(NEW, EXPORT, WENT)
    expect(said).toEqual(hex(SAYS_GO))
    expect(end).toEqual({
      kind: 'facts',
      sizeBytes: 1n << 40n,
      flags: 0x0141,
      blockSize: { minimum: 1, preferred: 4096, maximumPayload: 1 << 25 },
      keepsSizes: true,
      structuredReplies: false,
      extendedHeaders: false,
      contexts: [],
    })
  })

  it('takes block sizes, passes over what nobody asked for, and is the same for every cut', async () => {
    const bytes = hex(
      NEW,
      reply(GO, REP_INFO, '0001 6469736b'),
      EXPORT,
      reply(GO, REP_INFO, '0003 00000200 00010000 00100000'),
      reply(GO, REP_INFO, '8888 00112233'),
      WENT,
      '67446698',
    )
    await everySplit(bytes, async (chunks, how) => {
      const { end, wire } = await speak(chunks)
      expect(end, how).toMatchObject({
        sizeBytes: 1n << 40n,
        blockSize: { minimum: 512, preferred: 65_536, maximumPayload: 1 << 20 },
      })
      expect(wire.rest().length, how).toBeLessThanOrEqual(4)
    })
  })

  it('means nothing by flags without HAS_FLAGS', async () => {
    const { end } = await says(NEW, reply(GO, REP_INFO, '0000 0000000000001000 fffe'), WENT)
    expect(end).toMatchObject({ sizeBytes: 4096n, flags: 0 })
  })

  it('refused is an OptionRefused with the server’s text made printable', async () => {
    for (const [type, name] of [
      [0x8000_0002, 'ERR_POLICY'],
      [0x8000_0006, 'ERR_UNKNOWN'],
      [0x8000_0005, 'ERR_TLS_REQD'],
      [0x8000_0007, 'ERR_SHUTDOWN'],
      [0x8000_0008, 'ERR_BLOCK_SIZE_REQD'],
      [0xffff_ffff, 'unknown(4294967295)'],
    ] as const) {
      const { end } = await says(NEW, reply(GO, type, '6e6f1b5b'))
      expect(end).toBeInstanceOf(OptionRefused)
      expect(end).toMatchObject({ option: GO, reply: type, message: `GO refused with ${name}: no\\u{1b}[` })
    }
    expect((await says(NEW, reply(GO, 0x8000_0002))).end).toMatchObject({ message: 'GO refused with ERR_POLICY' })
  })

  it('takes the last word when a server refuses after INFO_EXPORT', async () => {
    expect((await says(NEW, EXPORT, reply(GO, 0x8000_0007))).end).toBeInstanceOf(OptionRefused)
  })
})

describe('block sizes of an upstream, for a client that knows none', () => {
  const INFO = 6
  const SIZES = '0003 00001000 00010000 00100000'
  const LOOKED = [
    reply(INFO, REP_INFO, '0000 0000000000000000 0141'),
    reply(INFO, REP_INFO, SIZES),
    reply(INFO, ACK),
  ].join('')
  const SAYS_INFO = `${OPTION} 00000006 00000010 00000004 6469736b 0003 0001 0002 0003`
  const SAYS_PLAIN_GO = `${OPTION} 00000007 0000000a 00000004 6469736b 0000`
  const told = { minimum: 4096, preferred: 65_536, maximumPayload: 1 << 20 }
  const asks = (...parts: readonly string[]): Promise<Spoken> => speak([hex(NEW, ...parts)], false, false)

  it('are looked up by INFO, which promises nothing; GO does not ask for them, and the size is that of GO', async () => {
    const { end, said } = await asks(LOOKED, EXPORT, WENT)
    expect(said).toEqual(hex(SAYS_INFO, SAYS_PLAIN_GO))
    expect(end).toMatchObject({ sizeBytes: 1n << 40n, blockSize: told, keepsSizes: false })
  })

  it('are promised to an upstream that lets nobody in without', async () => {
    const sized = reply(GO, REP_INFO, SIZES)
    const { end, said } = await asks(LOOKED, reply(GO, 0x8000_0008), EXPORT, sized, WENT)
    expect(said).toEqual(hex(SAYS_INFO, SAYS_PLAIN_GO, SAYS_GO))
    expect(end).toMatchObject({ sizeBytes: 1n << 40n, blockSize: told, keepsSizes: true })
    expect((await asks(LOOKED, reply(GO, 0x8000_0008), reply(GO, 0x8000_0008))).end).toMatchObject({
      message: 'GO refused with ERR_BLOCK_SIZE_REQD',
    })
  })

  it('are the usual ones where there is no INFO, or no GO either', async () => {
    const usual = { minimum: 1, preferred: 4096, maximumPayload: 1 << 25 }
    expect((await asks(reply(INFO, UNSUP), EXPORT, WENT)).end).toMatchObject({ blockSize: usual, keepsSizes: false })
    const { end, said } = await asks(reply(INFO, UNSUP), reply(GO, UNSUP), '0000010000000000 0141')
    expect(said).toEqual(hex(SAYS_INFO, SAYS_PLAIN_GO, SAYS_EXPORT_NAME))
    expect(end).toMatchObject({ blockSize: usual, keepsSizes: false })
  })

  it('are no reason to go on when INFO is refused: older nbd-servers have lost step then', async () => {
    expect((await asks(reply(INFO, 0x8000_0006))).end).toMatchObject({ message: 'INFO refused with ERR_UNKNOWN' })
  })
})

describe('what a server calls its export', () => {
  it('is told where it is: name and description, in any order', async () => {
    const [name, text] = [reply(GO, REP_INFO, '0001 766d31'), reply(GO, REP_INFO, '0002 6f6e65')]
    const told = async (...infos: readonly string[]): Promise<unknown> => {
      const { end } = await says(NEW, EXPORT, ...infos, WENT)
      return (end as UpstreamExport).told
    }
    expect(await told(name, text)).toBe(await told(text, name))
    expect(await told(name)).not.toBe(await told(text, name))
    expect(await told(name)).toContain('vm1')
    expect(await told()).toBeUndefined()
  })
})

describe('EXPORT_NAME', () => {
  const FACTS = '0000010000000000 0141'
  const UNSUPPORTED = reply(GO, UNSUP)

  it('comes after GO is UNSUP, without zeroes', async () => {
    const { end, said, wire } = await says(NEW, UNSUPPORTED, FACTS, '67446698')
    expect(said).toEqual(hex(SAYS_GO, SAYS_EXPORT_NAME))
    expect(end).toMatchObject({ sizeBytes: 1n << 40n, flags: 0x0141, structuredReplies: false })
    expect(wire.bufferedBytes).toBe(4)
  })

  it('skips 124 zeroes when the server has not offered to leave them out', async () => {
    const { end, wire } = await says(GREETING, '0001', UNSUPPORTED, FACTS, '00'.repeat(124), '67446698')
    expect(end).toMatchObject({ sizeBytes: 1n << 40n })
    expect(wire.rest()).toEqual(hex('67446698'))
    expect((await says(GREETING, '0001', UNSUPPORTED, FACTS, '00'.repeat(123))).end).toMatchObject({
      code: 'TRUNCATED',
    })
  })

  it('is all that is said to a server without fixed newstyle', async () => {
    const { end, said } = await speak([hex(GREETING, '0002', FACTS)], true)
    expect(said).toEqual(hex(SAYS_EXPORT_NAME))
    expect(end).toMatchObject({ structuredReplies: false })
  })

  it('refused is the end of the connection', async () => {
    expect((await says(NEW, UNSUPPORTED)).end).toMatchObject({ code: 'TRUNCATED' })
  })
})

describe('EXTENDED_HEADERS', () => {
  const EXTENDED_HEADERS = 11
  const ASKS = `${OPTION} 0000000b 00000000`
  const wants = async (...parts: readonly string[]): Promise<Spoken> => {
    const stream = new FakeStream()
    const wire = new Wire(stream, 1000)
    stream.deliver(hex(...parts))
    stream.peerEnds()
    const end = await greet(wire)
      .then(connected => enter(connected, 'disk', { structuredReplies: true, extendedHeaders: true }))
      .catch((error: unknown) => error)
    return { end, said: stream.output.subarray(4), flags: stream.output.subarray(0, 4), wire }
  }

  it('are asked for when the visitor has them, and stand for structured replies', async () => {
    const { end, said } = await wants(NEW, reply(EXTENDED_HEADERS, ACK), EXPORT, WENT)
    expect(said).toEqual(hex(ASKS, SAYS_GO))
    expect(end).toMatchObject({ structuredReplies: true, extendedHeaders: true })
  })

  it('refused are no reason not to go on with structured replies, or without', async () => {
    for (const [type, structuredReplies] of [
      [ACK, true],
      [UNSUP, false],
    ] as const) {
      const refused = reply(EXTENDED_HEADERS, UNSUP)
      const { end, said } = await wants(NEW, refused, reply(STRUCTURED_REPLY, type), EXPORT, WENT)
      expect(said).toEqual(hex(ASKS, `${OPTION} 00000008 00000000`, SAYS_GO))
      expect(end).toMatchObject({ structuredReplies, extendedHeaders: false })
    }
  })

  it('agreed, and GO not known: EXPORT_NAME is not used', async () => {
    const { end, said } = await wants(NEW, reply(EXTENDED_HEADERS, ACK), reply(GO, UNSUP), '0000010000000000 0141')
    expect(end).toMatchObject({ code: 'BAD_REPLY' })
    expect(said).toEqual(hex(ASKS, SAYS_GO))
  })
})

describe('STRUCTURED_REPLY', () => {
  const ASKS = `${OPTION} 00000008 00000000`

  it('is asked for when the visitor wants it, and kept to', async () => {
    const { end, said } = await speak([hex(NEW, reply(STRUCTURED_REPLY, ACK), EXPORT, WENT)], true)
    expect(said).toEqual(hex(ASKS, SAYS_GO))
    expect(end).toMatchObject({ structuredReplies: true })
  })

  it('refused is no reason not to go on', async () => {
    for (const type of [UNSUP, 0x8000_0002, 0x8000_0003]) {
      const { end } = await speak([hex(NEW, reply(STRUCTURED_REPLY, type, '6e6f'), EXPORT, WENT)], true)
      expect(end).toMatchObject({ sizeBytes: 1n << 40n, structuredReplies: false })
    }
  })

  it('stays agreed when GO is UNSUP', async () => {
    const bytes = hex(NEW, reply(STRUCTURED_REPLY, ACK), reply(GO, UNSUP), '0000010000000000 0141')
    expect((await speak([bytes], true)).end).toMatchObject({ structuredReplies: true })
  })

  it('refused because the server wants TLS or goes down ends it', async () => {
    for (const type of [0x8000_0005, 0x8000_0007]) {
      const { end } = await speak([hex(NEW, reply(STRUCTURED_REPLY, type))], true)
      expect(end).toMatchObject({ name: 'OptionRefused', option: STRUCTURED_REPLY, reply: type })
    }
  })
})

describe('a hostile upstream', () => {
  const endOf = async (...parts: readonly string[]): Promise<unknown> => (await says(NEW, ...parts)).end

  it('is found out by a wrong magic and by the wrong option echoed', async () => {
    expect(await endOf(WENT.replace('0003e889045565a9', '0003e889045565aa'))).toMatchObject({ code: 'BAD_MAGIC' })
    expect(await endOf(reply(6, REP_INFO, '0000 0000010000000000 0141'))).toMatchObject({ code: 'BAD_REPLY' })
    expect(await endOf(EXPORT, reply(STRUCTURED_REPLY, ACK))).toMatchObject({ code: 'BAD_REPLY' })
  })

  it('is not waited for with a reply above 64 KiB', async () => {
    for (const claim of [65_537, 0x8000_0000, 0xffff_ffff]) {
      expect(await endOf(reply(GO, REP_INFO, '', claim))).toMatchObject({ code: 'TOO_LONG' })
      expect(await endOf(reply(GO, 0x8000_0002, '', claim))).toMatchObject({ code: 'TOO_LONG' })
    }
  })

  it('may not acknowledge without INFO_EXPORT, nor reply with what is no answer to GO', async () => {
    expect(await endOf(WENT)).toMatchObject({ code: 'BAD_REPLY' })
    expect(await endOf(reply(GO, REP_INFO, '0003 00000001 00001000 02000000'), WENT)).toMatchObject({
      code: 'BAD_REPLY',
    })
    for (const type of [0, 2, 4, 99]) expect(await endOf(EXPORT, reply(GO, type))).toMatchObject({ code: 'BAD_REPLY' })
  })

  it('may not reply without end', async () => {
    expect(await endOf(EXPORT.repeat(31), WENT)).toMatchObject({ sizeBytes: 1n << 40n })
    expect(await endOf(EXPORT.repeat(1000), WENT)).toMatchObject({
      code: 'BAD_REPLY',
      message: 'endless replies to GO',
    })
  })

  it('may not have an export of 2^63 bytes or more, by GO or by EXPORT_NAME (CVE-2023-5215)', async () => {
    const go = (size: string): Promise<unknown> => endOf(reply(GO, REP_INFO, `0000 ${size} 0141`), WENT)
    expect(await go('7fffffffffffffff')).toMatchObject({ sizeBytes: (1n << 63n) - 1n })
    for (const size of ['8000000000000000', 'ffffffffffffffff']) {
      expect(await go(size)).toMatchObject({ code: 'BAD_REPLY' })
      expect(await endOf(reply(GO, UNSUP), size, '0141')).toMatchObject({ code: 'BAD_REPLY' })
    }
  })

  it('may not send information of a wrong length, or block sizes that can not be', async () => {
    for (const data of ['', '00', '0000 0000010000000000', '0000 0000010000000000 0141 00', '0003 00000001']) {
      expect(await endOf(reply(GO, REP_INFO, data))).toMatchObject({ code: 'BAD_LENGTH' })
    }
    for (const sizes of ['00000000 00001000 02000000', '00000003 00001000 02000000', '00000001 00001000 00000200']) {
      expect(await endOf(reply(GO, REP_INFO, `0003 ${sizes}`))).toMatchObject({ code: 'BAD_REPLY' })
    }
  })

  it('that ends in the middle is TRUNCATED, wherever', async () => {
    const whole = hex(NEW, EXPORT, WENT)
    for (let size = 0; size < whole.length; size++) {
      expect((await speak([whole.subarray(0, size)])).end).toMatchObject({ code: 'TRUNCATED' })
    }
  })
})

describe('STARTTLS towards an upstream', () => {
  const STARTTLS = 5
  const secured = async (chunks: readonly Buffer[]): Promise<{ end: unknown; said: Buffer; upgraded: boolean }> => {
    const stream = new FakeStream()
    const wire = new Wire(stream, 1000)
    stream.deliver(...chunks)
    stream.peerEnds()
    let upgraded = false
    const tls = new FakeStream()
    const upgrade = async (): Promise<Wire> => {
      upgraded = true
      return new Wire(tls, 1000)
    }
    const end = await greet(wire, upgrade).catch((error: unknown) => error)
    return { end, said: stream.output, upgraded }
  }

  it('goes on inside TLS once it is acknowledged', async () => {
    const { end, said, upgraded } = await secured([hex(NEW, reply(STARTTLS, ACK))])
    expect(said).toEqual(hex('00000003', `${OPTION} 00000005 00000000`))
    expect(upgraded).toBe(true)
    expect(end).toMatchObject({ fixed: true, noZeroes: true })
    const connected = end as { wire: Wire }
    expect(connected.wire).toBeInstanceOf(Wire)
  })

  it('refused is an error, never plaintext', async () => {
    for (const type of [UNSUP, 0x8000_0002, 0x8000_0003, 99]) {
      const { end, upgraded } = await secured([hex(NEW, reply(STARTTLS, type, '6e6f'))])
      expect(end).toMatchObject({ name: 'OptionRefused', option: STARTTLS, reply: type })
      expect(upgraded).toBe(false)
    }
  })

  it('ends the connection when bytes came ahead of the handshake', async () => {
    const { end, upgraded } = await secured([hex(NEW, reply(STARTTLS, ACK), '16')])
    expect(end).toMatchObject({ name: 'ProtocolError', code: 'UNEXPECTED_DATA' })
    expect(upgraded).toBe(false)
  })

  it('can not be had without fixed newstyle', async () => {
    const { end, upgraded } = await secured([hex(GREETING, '0002')])
    expect(end).toMatchObject({ code: 'BAD_FLAGS' })
    expect(upgraded).toBe(false)
  })
})

describe('LIST of an upstream', () => {
  const LIST = 3
  const listed = async (...parts: readonly string[]): Promise<unknown> => {
    const stream = new FakeStream()
    const wire = new Wire(stream, 1000)
    stream.deliver(hex(...parts))
    stream.peerEnds()
    return listExports(wire).catch((error: unknown) => error)
  }

  it('gives names and descriptions', async () => {
    const entries = [reply(LIST, 2, '00000004 6469736b'), reply(LIST, 2, '00000001 61 6c6162')]
    expect(await listed(...entries, reply(LIST, ACK))).toEqual([
      { name: 'disk', description: '' },
      { name: 'a', description: 'lab' },
    ])
    expect(await listed(reply(LIST, ACK))).toEqual([])
  })

  it('is refused, malformed and cut short in order', async () => {
    expect(await listed(reply(LIST, 0x8000_0002))).toBeInstanceOf(OptionRefused)
    expect(await listed(reply(LIST, 2, 'ffffffff 61'))).toMatchObject({ code: 'BAD_LENGTH' })
    expect(await listed(reply(LIST, 2, '00000000'))).toMatchObject({ code: 'TRUNCATED' })
    expect(await listed(reply(GO, ACK))).toMatchObject({ code: 'BAD_REPLY' })
  })
})

describe('an upstream that goes away', () => {
  it('is a StreamError', async () => {
    const stream = new FakeStream()
    const wire = new Wire(stream, 1000)
    const end = greet(wire).catch((error: unknown) => error)
    stream.close(new Error('ECONNRESET'))
    expect(await end).toBeInstanceOf(StreamError)
  })
})

describe('oldstyle negotiation', () => {
  const OLDSTYLE = `4e42444d41474943 00420281861253 0000010000000000 0000 0005`.replace(
    '00420281861253',
    '0000420281861253',
  )

  it('gives size and flags of the default export, and the client says nothing', async () => {
    const stream = new FakeStream()
    stream.deliver(hex(OLDSTYLE, '00'.repeat(124)))
    const wire = new Wire(stream, 1000)
    const connected = await greet(wire)
    expect(await enter(connected, '', { structuredReplies: true })).toMatchObject({
      sizeBytes: 1n << 40n,
      flags: 5,
      structuredReplies: false,
    })
    expect(stream.output).toHaveLength(0)
    expect(wire.bufferedBytes).toBe(0)
  })

  it('is no way around TLS', async () => {
    const stream = new FakeStream()
    stream.deliver(hex(OLDSTYLE, '00'.repeat(124)))
    const secure = (): Promise<Wire> => Promise.reject(new Error('never'))
    await expect(greet(new Wire(stream, 1000), secure)).rejects.toMatchObject({ code: 'BAD_MAGIC' })
  })
})
