import { describe, expect, it } from 'vitest'
import { everySplit, hex } from '../../support/bytes.ts'
import {
  ABORT,
  ACK,
  asks,
  DISK,
  EXPORT_NAME,
  FakeHost,
  FIXED,
  FIXED_NO_ZEROES,
  GO,
  GREETING,
  haggle,
  INFO,
  INVALID,
  LIST,
  option,
  POLICY,
  REP_INFO,
  SERVER,
  STRUCTURED_REPLY,
  TOO_BIG,
  types,
  UNKNOWN,
  UNSUP,
} from './haggle.ts'

const LEFT = { kind: 'left' }

describe('the greeting', () => {
  it('is fixed newstyle without zeroes, and comes before the client says a word', async () => {
    const { output, end } = await haggle(new FakeHost())
    expect(output).toEqual(hex(GREETING))
    expect(end).toEqual(LEFT)
  })

  it('ends with client flags that nobody knows', async () => {
    for (const flags of ['00000004', '00000007', '80000000', 'ffffffff', '0000ff03']) {
      const { end, output } = await haggle(new FakeHost(), hex(flags), option(LIST))
      expect(end).toMatchObject({ name: 'ProtocolError', code: 'BAD_FLAGS' })
      expect(output).toHaveLength(18)
    }
  })

  it('leaves a client without fixed newstyle nothing but EXPORT_NAME', async () => {
    for (const wrong of [option(LIST), option(99, Buffer.alloc(65_537))]) {
      const { end, output } = await haggle(new FakeHost(), hex('00000000'), wrong)
      expect(end).toMatchObject({ code: 'BAD_FLAGS' })
      expect(output).toHaveLength(18)
    }
    const { end } = await haggle(new FakeHost(), hex('00000000'), option(EXPORT_NAME, '6469736b'))
    expect(end).toMatchObject({ kind: 'transmission' })
  })

  it('cut short is TRUNCATED, and a client that leaves between two options has left', async () => {
    for (const bytes of ['000000', '00000001 49484156', '00000001 49484156454f5054 00000007 00000001']) {
      expect((await haggle(new FakeHost(), hex(bytes))).end).toMatchObject({ code: 'TRUNCATED' })
    }
    expect((await haggle(new FakeHost(), FIXED, option(LIST))).end).toEqual(LEFT)
  })
})

describe('EXPORT_NAME', () => {
  it('is answered with size and flags, and 124 zeroes unless the client asked for none', async () => {
    const facts = '0000010000000000 0141'
    const long = await haggle(new FakeHost(), FIXED, option(EXPORT_NAME, '6469736b'))
    expect(long.output.subarray(18)).toEqual(hex(facts, '00'.repeat(124)))
    const short = await haggle(new FakeHost(), FIXED_NO_ZEROES, option(EXPORT_NAME, '6469736b'))
    expect(short.output.subarray(18)).toEqual(hex(facts))
    for (const { end, host } of [long, short]) {
      expect(end).toMatchObject({ kind: 'transmission', export: DISK, structuredReplies: false })
      expect(host.opened).toEqual([{ name: 'disk', structuredReplies: false, extendedHeaders: false, enter: true }])
    }
  })

  it('that can not be had ends the session without an answer', async () => {
    for (const name of ['6e6f', '', '62757379', '64690073', 'ff', '61'.repeat(4097)]) {
      const { end, output } = await haggle(new FakeHost(), FIXED, option(EXPORT_NAME, name), option(LIST))
      expect(end).toEqual({ kind: 'refused' })
      expect(output).toHaveLength(18)
    }
  })

  it('leaves what the client sent behind it for the transmission phase', async () => {
    const { end } = await haggle(new FakeHost(), Buffer.concat([FIXED, option(EXPORT_NAME, '6469736b'), hex('256095')]))
    expect(end).toMatchObject({ wire: { bufferedBytes: 3 } })
  })
})

describe('ABORT', () => {
  it('is acknowledged, and nothing is read after it', async () => {
    for (const data of ['', '00112233']) {
      const { end, replies } = await haggle(new FakeHost(), FIXED, option(ABORT, data), option(LIST))
      expect(end).toEqual(LEFT)
      expect(replies).toEqual([{ option: ABORT, type: ACK, data: hex('') }])
    }
  })
})

describe('LIST', () => {
  it('shows each export with its description, then ACK', async () => {
    const host = new FakeHost()
    host.entries = [{ name: 'disk', description: 'the lab' }, { name: 'ä' }]
    const { output } = await haggle(host, FIXED, option(LIST))
    expect(output.subarray(18)).toEqual(
      hex(
        '0003e889045565a9 00000003 00000002 0000000f 00000004 6469736b 746865206c6162',
        '0003e889045565a9 00000003 00000002 00000006 00000002 c3a4',
        '0003e889045565a9 00000003 00000001 00000000',
      ),
    )
  })

  it('with data is INVALID without the list, and in step afterwards', async () => {
    const { replies } = await haggle(new FakeHost(), FIXED, option(LIST, '49484156'), option(LIST))
    expect(types(replies)).toEqual([INVALID, SERVER, ACK])
  })
})

describe('INFO and GO', () => {
  it('answer with size and flags, and what was asked for once each; unknown information types are passed over', async () => {
    const { output, host } = await haggle(
      new FakeHost(),
      FIXED,
      option(INFO, asks('disk', '0006 0003 0001 0002 0003 ffff 0000')),
    )
    expect(output.subarray(18)).toEqual(
      hex(
        '0003e889045565a9 00000006 00000003 0000000c 0000 0000010000000000 0141',
        '0003e889045565a9 00000006 00000003 00000006 0001 6469736b',
        '0003e889045565a9 00000006 00000003 00000009 0002 746865206c6162',
        '0003e889045565a9 00000006 00000003 0000000e 0003 00000200 00001000 02000000',
        '0003e889045565a9 00000006 00000001 00000000',
      ),
    )
    expect(host.opened).toEqual([{ name: 'disk', structuredReplies: false, extendedHeaders: false, enter: false }])
  })

  it('are followed by the transmission phase after GO, and by more options after INFO', async () => {
    const { end, replies, host } = await haggle(
      new FakeHost(),
      FIXED,
      option(INFO, asks('disk')),
      option(STRUCTURED_REPLY),
      Buffer.concat([option(GO, asks('disk')), hex('25609513')]),
    )
    expect(types(replies)).toEqual([REP_INFO, ACK, ACK, REP_INFO, ACK])
    expect(end).toMatchObject({
      kind: 'transmission',
      export: DISK,
      structuredReplies: true,
      wire: { bufferedBytes: 4 },
    })
    expect(host.opened.at(-1)).toEqual({ name: 'disk', structuredReplies: true, extendedHeaders: false, enter: true })
  })

  it('are refused with what the host says, and in step afterwards', async () => {
    for (const kind of [INFO, GO]) {
      const { replies, end } = await haggle(
        new FakeHost(),
        FIXED,
        option(kind, asks('no')),
        option(kind, asks('busy')),
        option(kind, asks('', '0001 0003')),
        option(ABORT),
      )
      expect(types(replies)).toEqual([UNKNOWN, POLICY, UNKNOWN, ACK])
      expect(replies.map(reply => reply.option)).toEqual([kind, kind, kind, ABORT])
      expect(replies[1]?.data.toString()).toBe('somebody else writes')
      expect(end).toEqual(LEFT)
    }
  })

  it('that are malformed are INVALID, reach no host, and leave the session in step', async () => {
    const malformed = [
      '',
      '00000000',
      '00000000 00',
      'ffffffff 6469736b 0000',
      '00000007 6469736b 0000',
      '00000004 6469736b 0001',
      '00000004 6469736b 0000 0003',
      '00000004 64690073 0000',
      '00000002 c328 0000',
    ]
    for (const kind of [INFO, GO]) {
      const { replies, host } = await haggle(
        new FakeHost(),
        FIXED,
        ...malformed.map(data => option(kind, data)),
        option(LIST),
      )
      expect(types(replies)).toEqual([...malformed.map(() => INVALID), SERVER, ACK])
      expect(host.opened).toEqual([])
    }
  })

  it('may name an export with 4096 bytes; one more is TOO_BIG', async () => {
    const name = 'a'.repeat(4096)
    const { replies, host } = await haggle(
      new FakeHost(),
      FIXED,
      option(INFO, asks(name)),
      option(GO, asks(`${name}a`)),
      option(LIST),
    )
    expect(types(replies)).toEqual([UNKNOWN, TOO_BIG, SERVER, ACK])
    expect(host.opened.map(asked => asked.name)).toEqual([name])
  })
})

describe('STRUCTURED_REPLY', () => {
  it('with data is INVALID and agrees on nothing', async () => {
    const { replies, end } = await haggle(
      new FakeHost(),
      FIXED,
      option(STRUCTURED_REPLY, '00'),
      option(GO, asks('disk')),
    )
    expect(types(replies)).toEqual([INVALID, REP_INFO, ACK])
    expect(end).toMatchObject({ structuredReplies: false })
  })
})

describe('EXTENDED_HEADERS', () => {
  const EXTENDED_HEADERS = 11

  it('stands for structured replies too, before or after them, and with data is INVALID', async () => {
    for (const before of [[], [option(STRUCTURED_REPLY)]]) {
      const { end, host, replies } = await haggle(
        new FakeHost(),
        FIXED,
        ...before,
        option(EXTENDED_HEADERS),
        option(GO, asks('disk')),
      )
      expect(types(replies).at(0)).toBe(ACK)
      expect(end).toMatchObject({ kind: 'transmission', structuredReplies: true, extendedHeaders: true })
      expect(host.opened).toEqual([{ name: 'disk', structuredReplies: true, extendedHeaders: true, enter: true }])
    }
    const { end, replies } = await haggle(
      new FakeHost(),
      FIXED,
      option(EXTENDED_HEADERS, '00'),
      option(GO, asks('disk')),
    )
    expect(types(replies)).toEqual([INVALID, REP_INFO, ACK])
    expect(end).toMatchObject({ structuredReplies: false, extendedHeaders: false })
  })

  it('leaves no way in by EXPORT_NAME', async () => {
    const { end, host } = await haggle(new FakeHost(), FIXED, option(EXTENDED_HEADERS), option(EXPORT_NAME, '6469736b'))
    expect(end).toEqual({ kind: 'refused' })
    expect(host.opened).toEqual([])
  })
})

describe('options that we do not have', () => {
  it('are UNSUP under the number they came with, their data drained', async () => {
    for (const number of [0, 4, 12, 99, 0x0765_4321, 0xffff_ffff]) {
      const { replies } = await haggle(new FakeHost(), FIXED, option(number, Buffer.alloc(5000, 0x49)), option(LIST))
      expect(replies[0]).toMatchObject({ option: number, type: UNSUP })
      expect(types(replies)).toEqual([UNSUP, SERVER, ACK])
    }
  })

  it('without their magic end the session', async () => {
    const { end } = await haggle(new FakeHost(), FIXED, hex('25609513 00000000 00000000 00000000'))
    expect(end).toMatchObject({ code: 'BAD_MAGIC' })
  })
})

describe('limits', () => {
  it('are 64 KiB for an option that is looked at, 1 MiB for one that is drained', async () => {
    const { replies } = await haggle(
      new FakeHost(),
      FIXED,
      option(99, Buffer.alloc(64 * 1024)),
      option(99, Buffer.alloc(64 * 1024 + 1)),
      option(GO, Buffer.alloc(1 << 20)),
      option(LIST),
    )
    expect(types(replies)).toEqual([UNSUP, TOO_BIG, TOO_BIG, SERVER, ACK])
  })

  it('end the session with an option above 1 MiB, at its head', async () => {
    for (const claim of [(1 << 20) + 1, 0x8000_0000, 0xffff_ffff]) {
      for (const number of [99, INFO, GO, LIST, EXPORT_NAME]) {
        const { end, replies } = await haggle(new FakeHost(), FIXED, option(number, '', claim))
        expect(end).toMatchObject({ name: 'ProtocolError', code: 'TOO_LONG' })
        expect(replies).toEqual([])
      }
    }
  })

  it('end the session with an EXPORT_NAME that is too long to be looked at, since it knows no refusal', async () => {
    const { end } = await haggle(new FakeHost(), FIXED, option(EXPORT_NAME, Buffer.alloc(64 * 1024 + 1, 'a')))
    expect(end).toMatchObject({ code: 'TOO_LONG' })
  })

  it('are 32 options', async () => {
    const many = (count: number): Buffer[] => Array.from({ length: count }, () => option(99))
    const enough = await haggle(new FakeHost(), FIXED, ...many(32))
    expect([enough.end, enough.replies.length]).toEqual([LEFT, 32])
    const { end, replies } = await haggle(new FakeHost(), FIXED, ...many(33))
    expect(end).toMatchObject({ name: 'ProtocolError', code: 'TOO_MANY_OPTIONS' })
    expect(replies).toHaveLength(32)
  })

  it('allow four options for each export that LIST showed, an INFO for 10,000 of them', async () => {
    const host = new FakeHost()
    host.entries = Array.from({ length: 10_000 }, (_, at) => ({ name: `disk${at}` }))
    const infos = host.entries.map(({ name }) => option(INFO, asks(name)))
    const { end, replies } = await haggle(host, FIXED, option(LIST), Buffer.concat(infos))
    expect(end).toEqual(LEFT)
    expect(replies).toHaveLength(20_001)
  })

  it('are raised once by LIST, not again by each one that shows the same', async () => {
    const { end, replies } = await haggle(new FakeHost(), FIXED, ...Array.from({ length: 100 }, () => option(LIST)))
    expect(end).toMatchObject({ code: 'TOO_MANY_OPTIONS' })
    expect(replies).toHaveLength(2 * 36)
  })
})

describe('a whole handshake', () => {
  it('is the same for every cut of what the client sends', async () => {
    const bytes = Buffer.concat([
      FIXED_NO_ZEROES,
      option(99, '49484156'),
      option(LIST, '00'),
      option(STRUCTURED_REPLY),
      option(INFO, 'ffffffff 0000'),
      option(GO, asks('disk', '0001 0003')),
      hex('25609513'),
    ])
    const whole = await haggle(new FakeHost(), bytes)
    expect(types(whole.replies)).toEqual([UNSUP, INVALID, ACK, INVALID, REP_INFO, REP_INFO, ACK])
    await everySplit(bytes, async (chunks, how) => {
      const { output, end } = await haggle(new FakeHost(), ...chunks)
      expect(output, how).toEqual(whole.output)
      expect(end, how).toMatchObject({ kind: 'transmission', structuredReplies: true })
    })
  })
})
