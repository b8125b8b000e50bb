import { describe, expect, it } from 'vitest'
import { nextTurn } from '../../support/bytes.ts'
import { READ, request, simpleReply, WRITE } from './messages.ts'
import { clientSends, cookieAt, relaying } from './session.ts'

const KiB = 1024

describe('chunks of the client', () => {
  it('are given back when their last byte has left for the upstream, in order', async () => {
    const session = relaying()
    session.upstream.held = true
    const read = request({ type: READ, length: 1 })
    await clientSends(session, read, request({ type: READ, length: 1 }))
    const { released, taken } = session.client
    expect(released).toEqual([])
    session.upstream.flush(1)
    expect(released).toEqual(taken.slice(0, 1))
    session.upstream.flush()
    expect(released).toEqual(taken)
    expect(released[0]).toBe(read)
  })

  it('of which a part is refused are given back after the last part that passes', async () => {
    const session = relaying()
    session.upstream.held = true
    const beyond = request({ type: READ, offset: 1n << 30n, length: 1 })
    const chunk = Buffer.concat([request({ type: READ, length: 1 }), beyond, request({ type: READ, length: 1 })])
    await clientSends(session, chunk)
    expect(session.upstream.unsent).toHaveLength(2)
    session.upstream.flush(1)
    expect(session.client.released).toEqual([])
    session.upstream.flush(1)
    expect(session.client.released).toEqual([chunk])
  })

  it('of which nothing passes are given back at once', async () => {
    const session = relaying()
    const beyond = request({ type: READ, offset: 1n << 30n, length: 1 })
    await clientSends(session, beyond)
    expect(session.client.released).toEqual([beyond])
    expect(session.upstream.calls).toEqual([])
  })
})

describe('requests of one tick', () => {
  it('leave early when 256 KiB of them are gathered', async () => {
    const session = relaying()
    const size = 100 * KiB
    const head = request({ type: WRITE, length: 5 * size })
    const chunks = Array.from({ length: 5 }, () => Buffer.alloc(size))
    session.client.deliver(head, ...chunks)
    await nextTurn()
    const [first, ...rest] = session.upstream.calls
    expect(first).toBe('write 28')
    const write = `write ${size}`
    expect(rest).toEqual(['cork', write, write, write, 'uncork', 'cork', write, write, 'uncork'])
  })
})

describe('requests behind a megabyte of replies', () => {
  const read = (): Buffer => request({ type: READ, length: 512 * KiB })

  it('wait for others, a few turns at most', async () => {
    const session = relaying()
    const { calls } = session.upstream
    session.client.deliver(read(), read(), read(), read())
    await nextTurn()
    // Of these nothing was under way.
    expect(calls.splice(0)).toEqual(['write 28', 'cork', 'write 28', 'write 28', 'write 28', 'uncork'])
    session.client.deliver(read())
    await nextTurn()
    session.client.deliver(read())
    await nextTurn()
    expect(calls).toEqual(['cork', 'write 28', 'write 28'])
    for (let turn = 0; turn < 8; turn++) await nextTurn()
    expect(calls).toEqual(['cork', 'write 28', 'write 28', 'uncork'])
  })

  it('leave when there are many of them, or what was under way has come', async () => {
    const session = relaying()
    const { calls } = session.upstream
    const many = Array.from({ length: 16 }, read)
    session.client.deliver(...many)
    await nextTurn()
    calls.length = 0
    session.client.deliver(...many)
    await nextTurn()
    expect(calls.at(-1)).toBe('uncork')
    calls.length = 0
    session.client.deliver(read())
    await nextTurn()
    expect(calls).toEqual(['cork', 'write 28'])
    for (let at = 0; at < 31; at++) {
      session.upstream.deliver(Buffer.concat([simpleReply(cookieAt(session, 28 * at)), Buffer.alloc(512 * KiB)]))
    }
    expect(calls).not.toContain('uncork')
    await nextTurn()
    expect(calls).toContain('uncork')
  })
})
