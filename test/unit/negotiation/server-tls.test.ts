import { describe, expect, it } from 'vitest'
import {
  ABORT,
  ACK,
  asks,
  EXPORT_NAME,
  FakeHost,
  FIXED,
  GO,
  haggle,
  INFO,
  INVALID,
  LIST,
  option,
  POLICY,
  REP_INFO,
  SERVER,
  STARTTLS,
  STRUCTURED_REPLY,
  TLS_REQD,
  TOO_BIG,
  types,
  UNKNOWN,
} from './haggle.ts'

function host(tls: FakeHost['tls'], ...tlsInput: readonly Buffer[]): FakeHost {
  return Object.assign(new FakeHost(), { tls, tlsInput })
}

describe('FORCEDTLS', () => {
  it('answers every option but STARTTLS and ABORT with TLS_REQD before TLS, unknown ones too, and reads them whole', async () => {
    const before = [
      option(LIST),
      option(LIST, '00'),
      option(INFO, asks('disk')),
      option(GO, asks('disk')),
      option(GO, asks('no')),
      option(GO, 'ffffffff'),
      option(STRUCTURED_REPLY),
      option(4),
      option(9, '0011'),
      option(99, Buffer.alloc(70_000)),
      option(0xffff_ffff),
    ]
    const { replies, host: asked } = await haggle(host('forced'), FIXED, ...before, option(ABORT))
    expect(types(replies)).toEqual([...before.map(() => TLS_REQD), ACK])
    expect(asked.opened).toEqual([])
  })

  it('says nothing before TLS by which one export could be told from another', async () => {
    const answer = async (name: string): Promise<Buffer> =>
      (await haggle(host('forced'), FIXED, option(GO, asks(name)))).output
    expect(await answer('disk')).toEqual(await answer('nope'))
    expect(await answer('disk')).toEqual(await answer('busy'))
  })

  it('ends with EXPORT_NAME before TLS', async () => {
    const { end, output, host: asked } = await haggle(host('forced'), FIXED, option(EXPORT_NAME, '6469736b'))
    expect(end).toEqual({ kind: 'refused' })
    expect(output).toHaveLength(18)
    expect(asked.opened).toEqual([])
  })

  it('does everything inside TLS, on the stream of TLS', async () => {
    const forced = host('forced', option(LIST), option(STRUCTURED_REPLY), option(GO, asks('disk')))
    const { replies, secured, end } = await haggle(forced, FIXED, option(STARTTLS))
    expect(types(replies)).toEqual([ACK])
    expect(types(secured)).toEqual([SERVER, ACK, ACK, REP_INFO, ACK])
    expect(end).toMatchObject({ kind: 'transmission', structuredReplies: true })
  })

  it('answers EXPORT_NAME inside TLS', async () => {
    const { end } = await haggle(host('forced', option(EXPORT_NAME, '6469736b')), FIXED, option(STARTTLS))
    expect(end).toMatchObject({ kind: 'transmission' })
  })
})

describe('SELECTIVETLS', () => {
  it('answers unknown and hidden exports alike: TLS_REQD before TLS, UNKNOWN inside', async () => {
    const both = [option(INFO, asks('no')), option(GO, asks('hidden'))]
    const { replies, secured } = await haggle(host('selective', ...both), FIXED, ...both, option(STARTTLS))
    expect(types(replies)).toEqual([TLS_REQD, TLS_REQD, ACK])
    expect(replies[0]?.data).toEqual(replies[1]?.data)
    expect(types(secured)).toEqual([UNKNOWN, UNKNOWN])
  })

  it('serves in the clear what may be had in the clear', async () => {
    const { replies, end } = await haggle(host('selective'), FIXED, option(LIST), option(GO, asks('disk')))
    expect(types(replies)).toEqual([SERVER, ACK, REP_INFO, ACK])
    expect(end).toMatchObject({ kind: 'transmission' })
  })

  it('keeps other refusals as they are', async () => {
    const { replies } = await haggle(host('selective'), FIXED, option(GO, asks('busy')))
    expect(types(replies)).toEqual([POLICY])
  })

  it('forgets at STARTTLS that structured replies were agreed (CVE-2021-3716)', async () => {
    const selective = host('selective', option(GO, asks('disk')))
    const { end, host: asked } = await haggle(selective, FIXED, option(STRUCTURED_REPLY), option(STARTTLS))
    expect(end).toMatchObject({ kind: 'transmission', structuredReplies: false })
    expect(asked.opened).toEqual([{ name: 'disk', structuredReplies: false, extendedHeaders: false, enter: true }])
  })

  it('forgets extended headers too', async () => {
    const { end } = await haggle(host('selective', option(GO, asks('disk'))), FIXED, option(11), option(STARTTLS))
    expect(end).toMatchObject({ kind: 'transmission', structuredReplies: false, extendedHeaders: false })
  })
})

describe('NOTLS', () => {
  it('answers STARTTLS with POLICY and goes on', async () => {
    const { replies } = await haggle(host('none'), FIXED, option(STARTTLS), option(LIST))
    expect(types(replies)).toEqual([POLICY, SERVER, ACK])
  })

  it('has no TLS for a client that is told so either: unknown exports are UNKNOWN', async () => {
    const { replies } = await haggle(host('none'), FIXED, option(GO, asks('no')))
    expect(types(replies)).toEqual([UNKNOWN])
  })
})

describe('STARTTLS', () => {
  it('with data is INVALID and upgrades nothing', async () => {
    for (const tls of ['forced', 'selective', 'none'] as const) {
      const { replies, secured } = await haggle(host(tls), FIXED, option(STARTTLS, '00'), option(ABORT))
      expect(types(replies)).toEqual([INVALID, ACK])
      expect(secured).toEqual([])
    }
  })

  it('with very much data is TOO_BIG and upgrades nothing', async () => {
    const { replies } = await haggle(host('forced'), FIXED, option(STARTTLS, Buffer.alloc(65_537)), option(ABORT))
    expect(types(replies)).toEqual([TOO_BIG, ACK])
  })

  it('inside TLS is INVALID', async () => {
    for (const tls of ['forced', 'selective'] as const) {
      const { secured } = await haggle(host(tls, option(STARTTLS), option(LIST)), FIXED, option(STARTTLS))
      expect(types(secured)).toEqual([INVALID, SERVER, ACK])
    }
  })

  it('ends the session when a single byte came ahead of the handshake, without an ACK', async () => {
    for (const ahead of [Buffer.from([0x16]), option(LIST), option(STRUCTURED_REPLY)]) {
      const { end, replies, secured } = await haggle(
        host('selective', option(LIST)),
        FIXED,
        Buffer.concat([option(STARTTLS), ahead]),
      )
      expect(end).toMatchObject({ name: 'ProtocolError', code: 'UNEXPECTED_DATA' })
      expect([replies, secured]).toEqual([[], []])
    }
  })

  it('does not give another 32 options', async () => {
    const many = Array.from({ length: 20 }, () => option(99))
    const { end } = await haggle(host('selective', ...many), FIXED, ...many, option(STARTTLS))
    expect(end).toMatchObject({ code: 'TOO_MANY_OPTIONS' })
  })

  it('passes on why TLS could not be made', async () => {
    const broken = host('forced')
    const failure = new Error('no certificate')
    broken.secure = () => Promise.reject(failure)
    expect((await haggle(broken, FIXED, option(STARTTLS))).end).toBe(failure)
  })
})
