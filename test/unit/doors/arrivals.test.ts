// TCP doors behind a balancer: the loopback's addresses play the balancer (127.0.0.2) and everybody else.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type Cidr, parseCidr } from '../../../src/config/cidr.ts'
import type { TurnedAway, Visitor } from '../../../src/doors/door.ts'
import { openTcpDoor, type TcpDoorOptions } from '../../../src/doors/tcp.ts'
import { Limits } from '../../../src/gateway/limits.ts'
import { Wire } from '../../../src/stream/wire.ts'
import { waitFor } from '../../support/wait.ts'

const BALANCER = '127.0.0.2'
const HEADER = 'PROXY TCP4 192.0.2.7 198.51.100.1 50312 10809\r\n'
const V6_HEADER = 'PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 50312 10809\r\n'

interface Turned {
  readonly peer: string
  readonly reason: TurnedAway
  readonly via?: unknown
  readonly code?: unknown
}

function networks(...texts: readonly string[]): readonly Cidr[] {
  return texts.map(text => {
    const cidr = parseCidr(text)
    if (!cidr.ok) throw new Error(cidr.problem)
    return cidr.value
  })
}

/** A door that believes 127.0.0.2, and what has come of it. */
async function openDoor(options: Partial<TcpDoorOptions> = {}, max = { sessions: 100, sessionsPerAddress: 100 }) {
  const limits = new Limits(max)
  const visitors: Visitor[] = []
  const turned: Turned[] = []
  const failures: Error[] = []
  const believing = { host: '127.0.0.1', port: 0, proxyProtocol: networks(BALANCER), headerMs: 10_000, ...options }
  const door = await openTcpDoor(believing, {
    vanishedMs: 30_000,
    admit: address => limits.admit(address),
    known: () => limits.entered(),
    left: (address, wasKnown) => limits.leave(address, wasKnown),
    charge: (address, offence) => limits.charge(address, offence),
    turnedAway: (peer, reason, facts) => void turned.push({ peer, reason, ...facts }),
    enter: visitor => void visitors.push(visitor),
    failed: error => void failures.push(error),
  })
  const sockets: Socket[] = []
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy()
    for (const { stream } of visitors) stream.destroy()
    await door.close()
    expect(failures).toEqual([])
  })
  const port = Number(door.address.split(':')[1])
  const dial = async (localAddress: string, ...says: readonly string[]): Promise<Socket> => {
    const socket = connect({ host: '127.0.0.1', port, localAddress })
    socket.on('error', () => {})
    sockets.push(socket)
    await once(socket, 'connect')
    for (const text of says) socket.write(text)
    return socket
  }
  const came = async (count = 1): Promise<Visitor | undefined> => {
    await waitFor('a visitor', () => visitors.length >= count, { describe: () => JSON.stringify(turned) })
    return visitors.at(-1)
  }
  const wentAway = async (count = 1): Promise<Turned | undefined> => {
    await waitFor('somebody turned away', () => turned.length >= count)
    return turned.at(-1)
  }
  return { door, limits, visitors, turned, dial, came, wentAway, options: believing }
}

async function isClosed(socket: Socket): Promise<boolean> {
  socket.resume()
  if (!socket.destroyed) await once(socket, 'close', { signal: AbortSignal.timeout(15_000) })
  return true
}

describe('a door behind a balancer', () => {
  it.each([HEADER, V6_HEADER])('sees the client of %s, and every byte behind it', async header => {
    const { dial, came, limits } = await openDoor()
    await dial(BALANCER, `${header}hello`)
    const visitor = await came()
    expect(visitor).toMatchObject({
      peer: '192.0.2.7:50312',
      via: expect.stringMatching(/^127\.0\.0\.2:\d+$/),
      identity: { address: '192.0.2.7' },
      endpoints: {
        source: { address: '192.0.2.7', port: 50312 },
        destination: { address: '198.51.100.1', port: 10809 },
      },
    })
    if (visitor === undefined) return
    expect((await new Wire(visitor.stream, 10_000).read(5)).toString()).toBe('hello')
    expect(limits.count).toBe(1)
  })

  it.each(['PROXY UNKNOWN\r\n', '\r\n\r\n\0\r\nQUIT\n\x20\0\0\0'])('takes %j for the balancer itself', async header => {
    const { dial, came } = await openDoor()
    const socket = await dial(BALANCER, header)
    const visitor = await came()
    expect(visitor).toMatchObject({ peer: `${BALANCER}:${socket.localPort}`, identity: { address: BALANCER } })
    expect(visitor?.via).toBeUndefined()
  })

  it('takes a header from nobody else: it is what the visitor says', async () => {
    const { dial, came } = await openDoor()
    const socket = await dial('127.0.0.3', HEADER)
    const visitor = await came()
    expect(visitor).toMatchObject({ peer: `127.0.0.3:${socket.localPort}`, identity: { address: '127.0.0.3' } })
    if (visitor === undefined) return
    expect((await new Wire(visitor.stream, 10_000).read(HEADER.length)).toString()).toBe(HEADER)
  })

  it.each([
    ['no header', 'SSH-2.0-OpenSSH\r\n', 'BAD_MAGIC'],
    ['a wrong one', 'PROXY TCP4 192.0.2.7 x 1 2\r\n', 'BAD_ADDRESS'],
    ['an endless one', 'PROXY UNKNOWN'.padEnd(200), 'TOO_LONG'],
  ])('ends the connection of the balancer with %s', async (_, says, code) => {
    const { dial, wentAway, limits, visitors } = await openDoor()
    const socket = await dial(BALANCER, says)
    expect(await wentAway()).toMatchObject({
      peer: expect.stringMatching(/^127\.0\.0\.2:\d+$/),
      reason: 'proxy header',
      code,
    })
    expect(await isClosed(socket)).toBe(true)
    expect(limits.count).toBe(0)
    expect(visitors).toEqual([])
  })

  it('ends it when the header is late or cut off, and says nothing of one that never began', async () => {
    const { dial, wentAway, limits, turned } = await openDoor({ headerMs: 100 })
    const cut = await dial(BALANCER, HEADER.slice(0, 20))
    cut.end()
    expect(await wentAway(1)).toMatchObject({ reason: 'proxy header', code: 'TRUNCATED' })
    const late = await dial(BALANCER, HEADER.slice(0, 20))
    expect(await wentAway(2)).toMatchObject({ reason: 'proxy header', code: 'TIMEOUT' })
    expect(await isClosed(late)).toBe(true)
    const mute = await dial(BALANCER)
    mute.end()
    expect(await isClosed(mute)).toBe(true)
    expect(turned).toHaveLength(2)
    expect(limits.count).toBe(0)
  })

  it('holds `from` against the client, not against the balancer', async () => {
    const { dial, came, wentAway } = await openDoor({ from: networks('192.0.2.0/24') })
    await dial(BALANCER, HEADER)
    expect(await came()).toMatchObject({ identity: { address: '192.0.2.7' } })
    await dial(BALANCER, HEADER.replace('192.0.2.7', '203.0.113.9'))
    expect(await wentAway(1)).toMatchObject({
      peer: '203.0.113.9:50312',
      reason: 'from',
      via: expect.stringMatching(/^127\.0\.0\.2:/),
    })
    await dial(BALANCER, 'PROXY UNKNOWN\r\n')
    expect(await wentAway(2)).toMatchObject({ peer: expect.stringContaining(BALANCER), reason: 'from' })
    await dial('127.0.0.3', HEADER)
    expect(await wentAway(3)).toMatchObject({ peer: expect.stringContaining('127.0.0.3'), reason: 'from' })
  })

  it('counts the client, each on its own, and a crowd of clients not as the balancer', async () => {
    const { dial, came, wentAway, limits } = await openDoor({}, { sessions: 100, sessionsPerAddress: 2 })
    for (let client = 1; client <= 10; client++) await dial(BALANCER, HEADER.replace('192.0.2.7', `192.0.2.${client}`))
    await came(10)
    await dial(BALANCER, HEADER)
    await came(11)
    await dial(BALANCER, HEADER)
    expect(await wentAway()).toMatchObject({ peer: '192.0.2.7:50312', reason: 'sessions-per-address' })
    expect(limits.count).toBe(11)
    expect(limits.admit('192.0.2.7')).toBe('sessions-per-address')
    expect(limits.admit(BALANCER)).toBeUndefined()
  })

  it('bounds a flood of connections that say nothing, and has its places back when their time is over', async () => {
    const { dial, came, wentAway, limits, turned, door, options } = await openDoor(
      { headerMs: 60_000 },
      { sessions: 5, sessionsPerAddress: 100 },
    )
    const flood = []
    for (let nth = 0; nth < 12; nth++) flood.push(await dial(BALANCER))
    await wentAway(7)
    expect(limits.count).toBe(5)
    expect(new Set(turned.map(({ reason }) => reason))).toEqual(new Set(['sessions']))
    for (const socket of flood) socket.destroy()
    await waitFor('places given back', () => limits.count === 0)
    door.reload({ ...options, headerMs: 100 })
    for (let nth = 0; nth < 5; nth++) await dial(BALANCER)
    await wentAway(12)
    await waitFor('places given back', () => limits.count === 0)
    await dial(BALANCER, HEADER)
    expect(await came()).toMatchObject({ identity: { address: '192.0.2.7' } })
  })

  it('believes whom the options of a reload name', async () => {
    const { dial, came, wentAway, door, options } = await openDoor()
    door.reload({ ...options, proxyProtocol: networks('127.0.0.3') })
    await dial('127.0.0.3', HEADER)
    expect(await came(1)).toMatchObject({ identity: { address: '192.0.2.7' } })
    await dial(BALANCER, HEADER)
    expect(await came(2)).toMatchObject({ identity: { address: BALANCER } })
    const open = await dial('127.0.0.3', HEADER.slice(0, 9))
    door.reload({ ...options, from: networks('203.0.113.0/24') })
    open.write(HEADER.slice(9))
    expect(await wentAway()).toMatchObject({ reason: 'from' })
  })

  it('ends, when it closes, who has not said whom it speaks for', async () => {
    const { dial, came, door, limits } = await openDoor({}, { sessions: 2, sessionsPerAddress: 2 })
    await dial(BALANCER, HEADER)
    await came()
    const unsaid = await dial(BALANCER)
    await waitFor('it is counted', () => limits.count === 2)
    await door.close()
    expect(await isClosed(unsaid)).toBe(true)
    await waitFor('its place is given back', () => limits.count === 1)
  })
})
