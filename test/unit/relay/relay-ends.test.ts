import { afterEach, describe, expect, it, vi } from 'vitest'
import { hex, settled } from '../../support/bytes.ts'
import { chunk, DISC, FLUSH, READ, request, simpleReply, WRITE } from './messages.ts'
import { clientSends, cookieAt, relaying, upstreamSends } from './session.ts'

/** What the upstream is told at the end. */
const GOODBYE = hex('25609513 0000 0002 0000000000000000 0000000000000000 00000000')

const READ_4 = (): Buffer => request({ type: READ, cookie: 7n, length: 4 })

afterEach(() => {
  vi.useRealTimers()
})

describe('DISC', () => {
  it('waits for the replies that are out, then ends the upstream, then the client', async () => {
    const session = relaying()
    await clientSends(session, Buffer.concat([READ_4(), request({ type: FLUSH, cookie: 8n }), request({ type: DISC })]))
    expect(session.upstream.output).toHaveLength(56)
    await upstreamSends(session, simpleReply(cookieAt(session, 28)))
    expect([session.upstream.ended, session.client.ended]).toEqual([false, false])
    const order: string[] = []
    session.upstream.end = (
      (end): (() => void) =>
      () =>
        order.push('upstream') && end()
    )(session.upstream.end.bind(session.upstream))
    session.client.end = (
      (end): (() => void) =>
      () =>
        order.push('client') && end()
    )(session.client.end.bind(session.client))
    await upstreamSends(session, simpleReply(cookieAt(session, 0), 0, '61626364'))
    expect(order).toEqual(['upstream', 'client'])
    expect(session.upstream.output.subarray(56)).toEqual(GOODBYE)
    expect(session.client.output).toEqual(
      hex('67446698 00000000 0000000000000008', '67446698 00000000 0000000000000007 61626364'),
    )
    session.client.peerEnds()
    session.upstream.peerEnds()
    expect(await session.end).toEqual({ kind: 'disconnected' })
  })

  it('waits for a payload that is still under way', async () => {
    const session = relaying()
    await clientSends(session, Buffer.concat([READ_4(), request({ type: DISC })]))
    const reply = simpleReply(cookieAt(session, 0), 0, '61626364')
    await upstreamSends(session, reply.subarray(0, 18))
    expect(session.client.ended).toBe(false)
    await upstreamSends(session, reply.subarray(18))
    expect(session.client.ended).toBe(true)
    expect(session.client.output).toEqual(hex('67446698 00000000 0000000000000007 61626364'))
  })

  it('ends the session when nothing is out, and what comes after it goes nowhere', async () => {
    const session = relaying()
    await clientSends(session, Buffer.concat([request({ type: DISC }), READ_4()]), READ_4())
    expect(session.upstream.output).toEqual(GOODBYE)
    session.client.close()
    session.upstream.close()
    expect(await session.end).toEqual({ kind: 'disconnected' })
  })

  it('refuses what was refused before it, first', async () => {
    const session = relaying()
    await clientSends(session, Buffer.concat([request({ type: 99, cookie: 3n }), request({ type: DISC })]))
    expect(session.client.output).toEqual(hex('67446698 00000016 0000000000000003'))
    expect(session.client.ended).toBe(true)
  })
})

describe('a client that goes', () => {
  it('half-closes between two requests: it still gets its replies', async () => {
    const session = relaying()
    await clientSends(session, READ_4())
    session.client.peerEnds()
    await upstreamSends(session, simpleReply(cookieAt(session, 0), 0, '61626364'))
    expect(session.client.output).toEqual(hex('67446698 00000000 0000000000000007 61626364'))
    expect(session.upstream.output.subarray(28)).toEqual(GOODBYE)
    session.upstream.peerEnds()
    expect(await session.end).toEqual({ kind: 'disconnected' })
  })

  it('ends in the middle of a head or a payload: the upstream is ended, no half WRITE is made whole', async () => {
    const write = request({ type: WRITE, length: 4, payload: '61626364' })
    for (const size of [1, 27, 28, 31]) {
      const session = relaying()
      await clientSends(session, write.subarray(0, size))
      session.client.peerEnds()
      await settled()
      expect([session.upstream.ended, session.upstream.destroyed]).toEqual([true, false])
      session.upstream.close()
      expect(session.upstream.output.includes(GOODBYE)).toBe(false)
      expect(await session.end).toMatchObject({ kind: 'client gone', error: { code: 'TRUNCATED' } })
    }
  })

  it('is cut off in the middle of a WRITE: the upstream is ended, and read to its own end', async () => {
    const session = relaying()
    await clientSends(session, request({ type: WRITE, length: 4, payload: '61' }))
    const reset = new Error('ECONNRESET')
    session.client.close(reset)
    expect(session.upstream.calls.at(-1)).toBe('end')
    session.upstream.close()
    expect(await session.end).toEqual({ kind: 'client gone', error: reset })
  })

  it('is cut off between two requests: the upstream gets DISC', async () => {
    const session = relaying()
    await clientSends(session, READ_4())
    session.client.close()
    expect(session.upstream.output.subarray(28)).toEqual(GOODBYE)
    expect(session.upstream.ended).toBe(true)
    session.upstream.close()
    expect(await session.end).toEqual({ kind: 'client gone', error: undefined })
  })

  it('is cut off after DISC with replies out: that is the client gone', async () => {
    const session = relaying()
    await clientSends(session, Buffer.concat([READ_4(), request({ type: DISC })]))
    session.client.close()
    session.upstream.close()
    expect((await session.end).kind).toBe('client gone')
  })
})

describe('an upstream that goes', () => {
  it('ends the client after what has come', async () => {
    const session = relaying()
    await clientSends(session, Buffer.concat([READ_4(), request({ type: FLUSH, cookie: 8n })]))
    await upstreamSends(session, simpleReply(cookieAt(session, 28)))
    session.upstream.peerEnds()
    expect(session.client.output).toEqual(hex('67446698 00000000 0000000000000008'))
    expect([session.client.ended, session.upstream.destroyed]).toEqual([true, true])
    session.client.peerEnds()
    expect(await session.end).toEqual({ kind: 'upstream gone', error: undefined })
  })

  it('says why when it was cut off', async () => {
    const session = relaying()
    const reset = new Error('ECONNRESET')
    await settled()
    session.upstream.close(reset)
    session.client.peerEnds()
    expect(await session.end).toEqual({ kind: 'upstream gone', error: reset })
  })

  it('takes no more requests', async () => {
    const session = relaying()
    await settled()
    session.upstream.peerEnds()
    await clientSends(session, READ_4())
    expect(session.upstream.output).toHaveLength(0)
    expect(session.relay.counters.reads).toBe(0)
  })
})

describe('a side that breaks the protocol', () => {
  it('as the client ends the session and never reaches the upstream', async () => {
    const session = relaying()
    await clientSends(session, hex('00'.repeat(28)))
    expect([session.upstream.destroyed, session.client.ended]).toEqual([true, true])
    expect(session.upstream.output).toHaveLength(0)
    session.client.peerEnds()
    expect(await session.end).toMatchObject({ kind: 'violation', side: 'client', error: { code: 'BAD_MAGIC' } })
  })

  it('as the client with a WRITE above 128 MiB ends the session', async () => {
    const session = relaying()
    await clientSends(session, request({ type: WRITE, length: 0xffff_ffff }))
    session.client.close()
    expect(await session.end).toMatchObject({ kind: 'violation', side: 'client', error: { code: 'TOO_LONG' } })
  })

  it('as the upstream ends the session and never reaches the client', async () => {
    const replies = [simpleReply(99n), hex('ff'.repeat(16)), chunk({ type: 0, flags: 1 })]
    for (const bytes of replies) {
      const session = relaying()
      await clientSends(session, READ_4())
      await upstreamSends(session, bytes)
      expect([session.upstream.destroyed, session.client.ended]).toEqual([true, true])
      expect(session.client.output).toHaveLength(0)
      session.client.peerEnds()
      expect(await session.end).toMatchObject({ kind: 'violation', side: 'upstream' })
    }
  })

  it('is left alone: what it sends afterwards goes nowhere, and is given back', async () => {
    const session = relaying()
    await clientSends(session, READ_4())
    const good = simpleReply(cookieAt(session, 0), 0, '61626364')
    session.upstream.deliver(simpleReply(99n), good)
    await settled()
    expect(session.client.output).toHaveLength(0)
    expect(session.upstream.released).toHaveLength(2)
  })
})

describe('the end', () => {
  it('comes at once when somebody asks for it', async () => {
    const session = relaying()
    session.relay.stop('kicked')
    expect(await session.end).toEqual({ kind: 'stopped', reason: 'kicked' })
    expect([session.client.destroyed, session.upstream.destroyed]).toEqual([true, true])
  })

  it('is the first one, whatever happens afterwards', async () => {
    const session = relaying()
    await clientSends(session, request({ type: DISC }))
    session.relay.stop('kicked')
    expect(await session.end).toEqual({ kind: 'disconnected' })
  })

  it('waits five seconds for sides that do not close, and no longer', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const session = relaying()
    await clientSends(session, request({ type: DISC }))
    vi.advanceTimersByTime(4999)
    expect([session.client.destroyed, session.upstream.destroyed]).toEqual([false, false])
    vi.advanceTimersByTime(1)
    expect([session.client.destroyed, session.upstream.destroyed]).toEqual([true, true])
    expect(await session.end).toEqual({ kind: 'disconnected' })
  })

  it('waits longer for a client that is still taking its replies, and no longer for one that takes none', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const session = relaying()
    session.client.held = true
    await clientSends(session, READ_4(), READ_4())
    for (const at of [0, 28]) await upstreamSends(session, simpleReply(cookieAt(session, at), 0, '61626364'))
    await clientSends(session, request({ type: DISC }))
    await vi.advanceTimersByTimeAsync(4000)
    session.client.flush(1)
    await vi.advanceTimersByTimeAsync(5999)
    expect(session.client.destroyed).toBe(false)
    await vi.advanceTimersByTimeAsync(1)
    expect(session.client.destroyed).toBe(true)
    expect(await session.end).toEqual({ kind: 'disconnected' })
  })

  it('leaves no timer behind', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const session = relaying()
    await clientSends(session, request({ type: DISC }))
    session.client.close()
    session.upstream.close()
    await session.end
    expect(vi.getTimerCount()).toBe(0)
  })
})
