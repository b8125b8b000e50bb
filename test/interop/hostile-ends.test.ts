/**
 * Clients that vanish, clients that take more than their share: resets at every stage, requests without an end, and
 * connections without a number. clientGround() checks after each test that everybody else is served as before.
 */
import { expect, it, vi } from 'vitest'
import { test } from '../support/fixtures.ts'
import { runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { WAIT_BOUND_MS } from '../support/wait.ts'
import { clientGround, credentials, DISK_BYTES, DOOR, SESSIONS } from './hostile-ground.ts'
import { COMMAND, ERROR, infoData, OPTION, option, Peer, REPLY, request } from './hostile-support.ts'

const KIB = 1024
const MIB = 1024 * KIB
const NOTHING = Buffer.alloc(0)
/** What the gateway may take for a client that does not read, in KiB. */
const FLAT_KIB = 64 * KIB
/** Another identity than the one that does not read: its own session would wait for what that has sent. */
const ELSEWHERE = '127.0.0.9'

requires('nbdkit', 'nbdinfo')('clients that vanish or want too much', () => {
  const ground = clientGround()
  const { port } = ground

  const inTls = async (): Promise<Peer> => {
    const peer = await Peer.greeted(port(DOOR.FORCED))
    await peer.startTls(credentials(ground.pki))
    return peer
  }
  const inTlsTransmission = async (): Promise<Peer> => {
    const peer = await inTls()
    await peer.enter('disk')
    return peer
  }
  const having = async (reached: Promise<Peer>, ...sent: readonly Uint8Array[]): Promise<Peer> => {
    const peer = await reached
    peer.send(...sent)
    return peer
  }
  const half = (length: number) => [request({ type: COMMAND.WRITE, length }), Buffer.alloc(length / 2)] as const
  const reads = Array.from({ length: 64 }, (_, n) => request({ type: COMMAND.READ, cookie: BigInt(n), length: MIB }))

  const stages: Readonly<Record<string, () => Promise<Peer>>> = {
    'before the greeting is read': () => Peer.connect(port(DOOR.FORCED)),
    'amid the client flags': () => having(Peer.connect(port(DOOR.FORCED)), Buffer.alloc(2)),
    'amid the head of an option': () => having(Peer.greeted(port(DOOR.TCP)), option(OPTION.GO).subarray(0, 9)),
    'amid the data of an option': () => having(Peer.greeted(port(DOOR.TCP)), option(OPTION.GO, Buffer.alloc(9), 99)),
    'while GO is answered': () => having(Peer.greeted(port(DOOR.TCP)), option(OPTION.GO, infoData('disk'))),
    'after STARTTLS': () => having(Peer.greeted(port(DOOR.FORCED)), option(OPTION.STARTTLS)),
    'amid the ClientHello': () => having(clientHelloDue(), Buffer.from('16030100c8010000c40303', 'hex')),
    'inside TLS': inTls,
    'inside TLS while GO is answered': () => having(inTls(), option(OPTION.GO, infoData('disk'))),
    'between two requests': () => Peer.inside(port(DOOR.TCP), 'disk'),
    'amid the head of a request': () => having(Peer.inside(port(DOOR.TCP), 'disk'), Buffer.from('25609513', 'hex')),
    'amid a WRITE': () => having(Peer.inside(port(DOOR.TCP), 'disk'), ...half(MIB)),
    'amid a WRITE over TLS': () => having(inTlsTransmission(), ...half(MIB)),
    'amid a WRITE that is being drained': () => having(Peer.inside(port(DOOR.TCP), 'read-only'), ...half(MIB)),
    'amid 64 READs': () => having(Peer.inside(port(DOOR.TCP), 'disk'), ...reads),
    'amid 64 READs over TLS': () => having(inTlsTransmission(), ...reads),
  }
  async function clientHelloDue(): Promise<Peer> {
    const peer = await Peer.greeted(port(DOOR.FORCED))
    expect(await peer.ask(OPTION.STARTTLS)).toBe(REPLY.ACK)
    return peer
  }

  for (const [stage, reach] of Object.entries(stages)) {
    it(`survives clients that reset ${stage}, and frees their places`, async () => {
      for (let round = 0; round <= SESSIONS.perAddress; round++) (await admitted(reach)).reset()
    })

    it(`survives clients that close ${stage}, and frees their places`, async () => {
      for (let round = 0; round <= SESSIONS.perAddress; round++) (await admitted(reach)).destroy()
    })
  }

  /** Their places are free some time after they have gone. */
  const admitted = (reach: () => Promise<Peer>) => vi.waitFor(reach, { timeout: WAIT_BOUND_MS, interval: 20 })

  it('frees the places of clients whose TLS handshake fails', async () => {
    for (let round = 0; round <= SESSIONS.perAddress; round++) {
      const peer = await clientHelloDue()
      peer.send(Buffer.alloc(64, 'no TLS'))
      await peer.closed()
    }
  })

  it('frees the places of clients without a certificate', async () => {
    const { ca, servername } = credentials(ground.pki)
    for (let round = 0; round <= SESSIONS.perAddress; round++) {
      const peer = await Peer.greeted(port(DOOR.FORCED))
      await peer.startTls({ ca, servername })
      await peer.closed()
    }
  })

  it('frees the places of clients whose TLS handshake never ends', async () => {
    for (let round = 0; round < 2; round++) {
      const peers = await Promise.all(Array.from({ length: SESSIONS.perAddress }, clientHelloDue))
      await Promise.all(peers.map(peer => peer.closed(WAIT_BOUND_MS)))
      // They are gone for themselves; a worker's word of it may still be on its way.
      await ground.settled()
    }
  })

  it('holds its memory while 5,000 READs of 32 KiB are asked for and none of the replies read', async () => {
    const before = ground.grownKiB()
    const peer = await Peer.inside(port(DOOR.TCP), 'disk')
    const length = 32 * KIB
    peer.pause()
    peer.send(...Array.from({ length: 5_000 }, (_, n) => request({ type: COMMAND.READ, cookie: BigInt(n), length })))
    const good = await Peer.inside(port(DOOR.TCP), 'disk', ELSEWHERE)
    for (let round = 0; round < 200; round++) {
      expect(await good.try({ type: COMMAND.READ, length: 64 * KIB })).toBe(ERROR.NONE)
      expect(ground.grownKiB() - before).toBeLessThanOrEqual(FLAT_KIB)
    }
    peer.resume()
    const cookies = new Set<bigint>()
    while (cookies.size < 5_000) cookies.add((await peer.simpleReply(length)).cookie)
    expect(ground.grownKiB() - before).toBeLessThanOrEqual(FLAT_KIB)
  })

  it('holds its memory while 5,000 READs are asked for over TLS and none of the replies read', async () => {
    const before = ground.grownKiB()
    const peer = await inTlsTransmission()
    peer.pause()
    peer.send(...Array.from({ length: 5_000 }, () => request({ type: COMMAND.READ, length: 32 * KIB })))
    const good = await Peer.inside(port(DOOR.TCP), 'disk', ELSEWHERE)
    for (let round = 0; round < 200; round++) {
      expect(await good.try({ type: COMMAND.READ, length: 64 * KIB })).toBe(ERROR.NONE)
      expect(ground.grownKiB() - before).toBeLessThanOrEqual(FLAT_KIB)
    }
    peer.resume()
    for (let n = 0; n < 5_000; n++) expect((await peer.simpleReply(32 * KIB)).error).toBe(ERROR.NONE)
  })

  it('holds its memory while refusals without number are not read', async () => {
    const before = ground.grownKiB()
    const peer = await Peer.inside(port(DOOR.TCP), 'disk')
    peer.pause()
    const refused = Buffer.concat(Array.from({ length: 50_000 }, () => request({ type: 99 })))
    for (let round = 0; round < 4; round++) peer.send(refused)
    const good = await Peer.inside(port(DOOR.TCP), 'disk', ELSEWHERE)
    for (let round = 0; round < 200; round++) {
      expect(await good.try({ type: COMMAND.READ, length: 64 * KIB })).toBe(ERROR.NONE)
      expect(ground.grownKiB() - before).toBeLessThanOrEqual(FLAT_KIB)
    }
  })

  it('turns away what is above limits.sessions-per-address and limits.sessions, until somebody leaves', async () => {
    const enter = (count: number, address: string) =>
      Promise.all(Array.from({ length: count }, () => admitted(() => Peer.inside(port(DOOR.TCP), 'disk', address))))
    const [first] = await enter(SESSIONS.perAddress, '127.0.0.2')
    const oneMore = await Peer.connect(port(DOOR.TCP), '127.0.0.2')
    expect(await oneMore.closed()).toEqual(NOTHING)
    await ground.tells({ msg: 'turned away', reason: 'sessions-per-address' })
    await enter(SESSIONS.all - SESSIONS.perAddress, '127.0.0.3')
    const other = await Peer.connect(port(DOOR.FORCED), '127.0.0.4')
    expect(await other.closed()).toEqual(NOTHING)
    await ground.tells({ msg: 'turned away', reason: 'sessions' })
    expect(await first?.try({ type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
    first?.reset()
    await admitted(() => Peer.inside(port(DOOR.TCP), 'disk', '127.0.0.2'))
  })

  it('serves nbdinfo after all that', async () => {
    const uri = `nbds://localhost:${port(DOOR.FORCED)}/disk?tls-certificates=${ground.pki.alice.dir}`
    expect(await runOk(['nbdinfo', '--size', uri])).toBe(`${DISK_BYTES}\n`)
  })
})

requires('nbdkit')('a back end behind clients that vanish', () => {
  // nbdkit 1.32 aborts with requests in work when its connection is reset ("raw_send_socket: Assertion `sock >= 0'
  // failed"): a client would take the back end away from all others.
  test('goes on when a client vanishes amid a request with thousands in flight', async ({ nbdkit, gateway }) => {
    const socket = await nbdkit('memory', '256M')
    const running = await gateway(
      JSON.stringify({
        version: 1,
        doors: [{ tcp: '127.0.0.1:0', from: ['127.0.0.0/8'] }],
        exports: [
          { name: 'disk', upstream: `nbd+unix:///?socket=${socket}`, allow: [{ who: 'anyone', rights: 'read' }] },
        ],
      }),
    )
    const peer = await Peer.inside(running.port('tcp'), 'disk')
    peer.pause()
    // Node reads 64 KiB at a time, which is no multiple of 28: the gateway stops reading amid a head.
    peer.send(...Array.from({ length: 3_000 }, () => request({ type: COMMAND.READ, length: 32 * KIB })))
    await Peer.inside(running.port('tcp'), 'disk')
    peer.reset()
    await running.waitForLog(line => line.msg === 'session ended' && line.peer === peer.name)
    await Peer.inside(running.port('tcp'), 'disk')
  })
})
