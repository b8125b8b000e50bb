/** Metadata contexts while the handshake haggles, on both sides. */
import { describe, expect, it } from 'vitest'
import { enter, greet } from '../../../src/negotiation/client.ts'
import type { ContextWants } from '../../../src/negotiation/host.ts'
import { Wire } from '../../../src/stream/wire.ts'
import { FakeStream, hex } from '../../support/bytes.ts'
import {
  ACK,
  asks,
  FakeHost,
  FIXED,
  GO,
  GREETING,
  haggle,
  INFO,
  INVALID,
  LIST_META_CONTEXT,
  META_CONTEXT,
  option,
  REP_INFO,
  SET_META_CONTEXT,
  STARTTLS,
  STRUCTURED_REPLY,
  TOO_BIG,
  types,
  UNKNOWN,
} from './haggle.ts'

const u32 = (value: number): string => value.toString(16).padStart(8, '0')
const text = (value: string): string => u32(Buffer.byteLength(value)) + Buffer.from(value).toString('hex')
const query = (name: string, ...queries: readonly string[]): string =>
  text(name) + u32(queries.length) + queries.map(text).join('')
const ALLOCATION = Buffer.from('base:allocation').toString('hex')
const BITMAP = Buffer.from('qemu:dirty-bitmap:b').toString('hex')

describe('metadata contexts', () => {
  it('are listed with ids of 0 and selected with ids of their own', async () => {
    const { replies } = await haggle(
      new FakeHost(),
      FIXED,
      option(STRUCTURED_REPLY),
      option(LIST_META_CONTEXT, query('disk')),
      option(SET_META_CONTEXT, query('disk', 'base:allocation', 'x-none:', 'qemu:dirty-bitmap:b')),
    )
    expect(types(replies)).toEqual([ACK, META_CONTEXT, META_CONTEXT, ACK, META_CONTEXT, META_CONTEXT, ACK])
    const contexts = replies.filter(({ type }) => type === META_CONTEXT).map(({ data }) => data.toString('hex'))
    expect(contexts[0]).toBe(`00000000${ALLOCATION}`)
    expect(contexts[1]?.slice(0, 8)).toBe('00000000')
    expect(contexts.slice(2)).toEqual([`00000000${ALLOCATION}`, `00000001${BITMAP}`])
  })

  it('need structured replies first', async () => {
    const { replies, host } = await haggle(
      new FakeHost(),
      FIXED,
      option(LIST_META_CONTEXT, query('disk')),
      option(SET_META_CONTEXT, query('disk', 'base:allocation')),
    )
    expect(types(replies)).toEqual([INVALID, INVALID])
    expect(host.opened).toEqual([])
  })

  it('of an export that is not there are refused as the export is', async () => {
    const { replies } = await haggle(
      new FakeHost(),
      FIXED,
      option(STRUCTURED_REPLY),
      option(LIST_META_CONTEXT, query('other')),
      option(SET_META_CONTEXT, query('other', 'base:allocation')),
    )
    expect(types(replies)).toEqual([ACK, UNKNOWN, UNKNOWN])
  })

  it('are refused when the option is malformed or a string too long, and the haggling goes on', async () => {
    const { replies, host } = await haggle(
      new FakeHost(),
      FIXED,
      option(STRUCTURED_REPLY),
      option(SET_META_CONTEXT, '0000'),
      option(SET_META_CONTEXT, query('disk', 'nocolon')),
      option(LIST_META_CONTEXT, query('disk', `x:${'a'.repeat(4095)}`)),
      option(LIST_META_CONTEXT, query('disk')),
    )
    expect(types(replies)).toEqual([ACK, INVALID, INVALID, TOO_BIG, META_CONTEXT, META_CONTEXT, ACK])
    expect(host.opened).toHaveLength(1)
  })

  /** What GO wanted at last. */
  async function wantedByGo(...options: readonly Buffer[]): Promise<ContextWants | undefined> {
    const { host } = await haggle(new FakeHost(), FIXED, option(STRUCTURED_REPLY), ...options)
    return host.contextWants.at(-1)
  }
  const SET = option(SET_META_CONTEXT, query('disk', 'base:allocation'))
  const NONE = { how: 'keep', queries: [] }

  it('hold for GO and INFO of the export that they were selected for', async () => {
    expect(await wantedByGo(SET, option(INFO, asks('disk')), option(GO, asks('disk')))).toEqual({
      how: 'keep',
      queries: ['base:allocation'],
    })
  })

  it('do not hold for another export, nor after a SET that selects nothing or fails', async () => {
    expect(await wantedByGo(SET, option(GO, asks('other')))).toEqual(NONE)
    expect(await wantedByGo(SET, option(SET_META_CONTEXT, query('disk')), option(GO, asks('disk')))).toEqual(NONE)
    expect(await wantedByGo(SET, option(SET_META_CONTEXT, '00'), option(GO, asks('disk')))).toEqual(NONE)
    const unknown = option(SET_META_CONTEXT, query('other', 'base:allocation'))
    expect(await wantedByGo(SET, unknown, option(GO, asks('disk')))).toEqual(NONE)
  })

  it('are forgotten at STARTTLS', async () => {
    const host = new FakeHost()
    host.tls = 'selective'
    host.tlsInput = [option(STRUCTURED_REPLY), option(GO, asks('disk'))]
    const { secured } = await haggle(host, FIXED, option(STRUCTURED_REPLY), SET, option(STARTTLS))
    expect(types(secured)).toEqual([ACK, REP_INFO, ACK])
    expect(host.contextWants.at(-1)).toEqual(NONE)
  })
})

const OPTION = '49484156454f5054'
const REPLY = '0003e889045565a9'
const EXPORT = `${REPLY} 00000007 00000003 0000000c 0000 0000010000000000 0141`
const WENT = `${REPLY} 00000007 00000001 00000000`
const STRUCTURED = `${REPLY} 00000008 00000001 00000000`
const SELECTED = `${REPLY} 0000000a 00000001 00000000`
const context = (id: string, name: string): string =>
  `${REPLY} 0000000a 00000004 ${u32(4 + name.length / 2)} ${id} ${name}`

/** Enters `disk` at a server that says these bytes. */
async function entering(contexts: ContextWants, ...says: readonly string[]): Promise<{ end: unknown; said: Buffer }> {
  const stream = new FakeStream()
  stream.deliver(hex(GREETING, ...says))
  stream.peerEnds()
  const end = await greet(new Wire(stream, 1000))
    .then(connected => enter(connected, 'disk', { structuredReplies: true, contexts }))
    .catch((error: unknown) => error)
  return { end, said: stream.output }
}
const WANTS: ContextWants = { how: 'select', queries: ['base:allocation'] }

describe('metadata contexts of an upstream', () => {
  it('are selected after structured replies and before GO', async () => {
    const { end, said } = await entering(WANTS, STRUCTURED, context('00000007', ALLOCATION), SELECTED, EXPORT, WENT)
    expect(end).toMatchObject({ contexts: [{ id: 7, name: 'base:allocation' }], structuredReplies: true })
    expect(said).toEqual(
      hex(
        '00000003',
        `${OPTION} 00000008 00000000`,
        `${OPTION} 0000000a 0000001f 00000004 6469736b 00000001 0000000f ${ALLOCATION}`,
        `${OPTION} 00000007 00000010 00000004 6469736b 0003 0001 0002 0003`,
      ),
    )
  })

  it('are none where it has no structured replies, or says no', async () => {
    const unsupported = `${REPLY} 00000008 80000001 00000000`
    expect((await entering(WANTS, unsupported, EXPORT, WENT)).end).toMatchObject({ contexts: [] })
    for (const error of ['80000001', '80000003', '80000009']) {
      const no = `${REPLY} 0000000a ${error} 00000000`
      expect((await entering(WANTS, STRUCTURED, no, EXPORT, WENT)).end).toMatchObject({ contexts: [] })
    }
  })

  it('end the handshake when two are one, when they have no name, and when they never end', async () => {
    const broken = expect.objectContaining({ code: 'BAD_REPLY' })
    const sameId = [context('00000007', ALLOCATION), context('00000007', BITMAP)]
    expect((await entering(WANTS, STRUCTURED, ...sameId, SELECTED, EXPORT, WENT)).end).toEqual(broken)
    const sameName = [context('00000007', ALLOCATION), context('00000008', ALLOCATION)]
    expect((await entering(WANTS, STRUCTURED, ...sameName, SELECTED, EXPORT, WENT)).end).toEqual(broken)
    expect((await entering(WANTS, STRUCTURED, context('00000007', '61'), SELECTED)).end).toEqual(broken)
    const endless = Array.from({ length: 1100 }, () => context('00000007', ALLOCATION))
    expect((await entering(WANTS, STRUCTURED, ...endless)).end).toEqual(broken)
  })
})

describe('block sizes', () => {
  it('are wanted by who asks for them, by INFO as by GO', async () => {
    const wanted = async (...options: readonly Buffer[]) =>
      (await haggle(new FakeHost(), FIXED, ...options)).host.blockSizeWants
    expect(await wanted(option(GO, asks('disk')))).toEqual([false])
    expect(await wanted(option(GO, asks('disk', '0001 0003')))).toEqual([true])
    expect(await wanted(option(INFO, asks('disk')), option(GO, asks('disk')))).toEqual([false, false])
    expect(await wanted(option(INFO, asks('disk', '0001 0003')), option(GO, asks('disk')))).toEqual([true, false])
  })
})
