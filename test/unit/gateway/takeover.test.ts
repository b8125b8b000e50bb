import { describe, expect, it } from 'vitest'
import type { Session } from '../../../src/gateway/session.ts'
import { settleAll } from '../../../src/gateway/takeover.ts'
import { request, simpleReply, WRITE } from '../relay/messages.ts'
import { clientSends, cookieAt, relaying, upstreamSends } from '../relay/session.ts'

function session(settled: () => Promise<void>, retire: (why: string) => void = () => {}): Session {
  const done = Promise.resolve()
  const explain = async (): Promise<undefined> => undefined
  const [recheck, shutDown] = [async () => false, async () => {}]
  const nothing = (): undefined => undefined
  return { done, explain, recheck, facts: nothing, flushes: nothing, settled, retire, shutDown, stop: () => {} }
}

describe('the sessions of a holder who comes back', () => {
  it('are waited for, and those that take too long are ended', async () => {
    const told: string[] = []
    let end = (): void => {}
    const hangs = new Promise<void>(resolve => {
      end = resolve
    })
    const late = session(
      () => hangs,
      why => {
        told.push(why)
        end()
      },
    )
    await settleAll([session(async () => {}), late], 1)
    expect(told).toEqual(['its writes were in the way of another session'])
  })
})

describe('a relay', () => {
  const write = (cookie: bigint) => request({ type: WRITE, cookie, length: 4, payload: '61626364' })

  it('is settled when the writes are done that were there, and no request is half there', async () => {
    const relay = relaying()
    await clientSends(relay, write(1n), write(2n).subarray(0, 30))
    let isSettled = false
    const settled = relay.relay.settled().then(() => {
      isSettled = true
    })
    await clientSends(relay)
    await upstreamSends(relay, simpleReply(cookieAt(relay, 0)))
    expect(isSettled).toBe(false)
    await clientSends(relay, write(2n).subarray(30))
    expect(isSettled).toBe(false)
    await upstreamSends(relay, simpleReply(cookieAt(relay, 32)))
    await settled
  })

  it('is settled when its upstream has closed', async () => {
    const relay = relaying()
    await clientSends(relay, write(1n))
    const settled = relay.relay.settled()
    await clientSends(relay)
    relay.relay.retire('kicked')
    expect(relay.client.destroyed).toBe(true)
    relay.upstream.close()
    await settled
    relay.client.close()
    expect(await relay.end).toEqual({ kind: 'stopped', reason: 'kicked' })
  })
})
