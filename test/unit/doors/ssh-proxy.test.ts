// The SSH door behind a balancer, which is this host.
import { once } from 'node:events'
import { connect } from 'node:net'
import { describe, expect, it } from 'vitest'
import { parseCidr } from '../../../src/config/cidr.ts'
import { waitFor } from '../../support/wait.ts'
import { begin, openChannel, openDoor, type TestDoor } from './ssh-visit.ts'

const HEADER = 'PROXY TCP4 192.0.2.7 198.51.100.1 50312 10822\r\n'
const PEER = '192.0.2.7:50312'

async function behindBalancer(options: { readonly room?: number; readonly line?: string } = {}): Promise<TestDoor> {
  const here = parseCidr('127.0.0.1')
  if (!here.ok) throw new Error(here.problem)
  return await openDoor({ ...options, proxyProtocol: [here.value] })
}

describe('an SSH door behind a balancer', () => {
  it('loses no byte of SSH that comes in one piece with the header, and sees the client', async () => {
    const door = await behindBalancer({ line: 'from="192.0.2.0/24"' })
    const visit = begin(door, {}, HEADER)
    await once(visit.client, 'ready')
    await openChannel(visit)
    await waitFor('a visitor', () => door.visitors.length > 0)
    const via = expect.stringMatching(/^127\.0\.0\.1:\d+$/)
    expect(door.visitors[0]).toMatchObject({
      peer: PEER,
      via,
      identity: { address: '192.0.2.7', ssh: { user: 'bob' } },
      endpoints: { source: { address: '192.0.2.7', port: 50312 } },
    })
    expect(await door.logged('ssh login')).toMatchObject({ peer: PEER, via })
    // One for the connection, one for its channel, none for the balancer.
    expect(door.places()).toBe(2)
  })

  it('holds from= against the client', async () => {
    const door = await behindBalancer({ line: 'from="127.0.0.1"' })
    const visit = begin(door, {}, HEADER)
    await visit.closed
    expect(await door.logged('ssh login failed')).toMatchObject({ peer: PEER })
    expect(door.places()).toBe(0)
  })

  it('takes SSH without a header for what it is', async () => {
    const door = await behindBalancer()
    await begin(door).closed
    expect(await door.logged('turned away')).toMatchObject({ reason: 'proxy header', code: 'BAD_MAGIC' })
    expect(door.places()).toBe(0)
  })

  it('bounds who has not said yet whom it speaks for, and ends them when it closes', async () => {
    const door = await behindBalancer({ room: 1 })
    const unsaid = connect({ host: '127.0.0.1', port: door.port })
    unsaid.on('error', () => {}).resume()
    await waitFor('it is counted', () => door.places() === 1)
    await begin(door, {}, HEADER).closed
    expect(await door.logged('turned away')).toMatchObject({ reason: 'sessions' })
    await door.close()
    if (!unsaid.destroyed) await once(unsaid, 'close', { signal: AbortSignal.timeout(15_000) })
    await waitFor('its place is given back', () => door.places() === 0)
  })
})
