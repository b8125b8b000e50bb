/**
 * The ground that hostile peers are let loose on: one gateway for a whole test file, which after each test must still be
 * the same process, hold no more descriptors, timers, leases, children and memory than before, and serve others.
 */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { ConnectionOptions } from 'node:tls'
import { afterAll, afterEach, beforeAll, beforeEach, expect, onTestFailed, vi } from 'vitest'
import { type RunningGateway, startGateway } from '../support/gateway.ts'
import { makePki, type TestPki } from '../support/pki.ts'
import { isAlive, rssKiB } from '../support/procfs.ts'
import { startNbdkit } from '../support/servers.ts'
import { makeTempFolder, removeTempFolder } from '../support/temp.ts'
import { WAIT_BOUND_MS } from '../support/wait.ts'
import { COMMAND, destroyPeers, ERROR, Peer, REFUSAL_BOUND_MS, request } from './hostile-support.ts'
import { type Holdings, holdingsOf, nothingLeft, SCRAPED } from './scrape.ts'

/** How much the gateway's resident memory may grow in the course of a file. */
const MAX_GROWTH_KIB = 64 * 1024

/** What a test file of hostile peers stands on, from beforeAll on. */
export interface Ground {
  readonly dir: string
  readonly pki: TestPki
  readonly gateway: RunningGateway
  /** Port of the n-th door. */
  port(door: number): number
  /** Lines of the log that were written in the course of this test. */
  said(): readonly Readonly<Record<string, unknown>>[]
  /** Waits for a line of this test that has these facts. */
  tells(facts: Readonly<Record<string, unknown>>): Promise<void>
  /** Waits until the gateway holds no more than at the start: the last of the visitors has gone, wherever it was. */
  settled(): Promise<void>
  /** Resident memory beyond what it was at the start, in KiB. */
  grownKiB(): number
}

/** How the ground is laid: starts what is behind the gateway, gives its configuration, and says what a good client is. */
export interface Plan {
  configure(parts: { readonly dir: string; readonly pki: TestPki }): Promise<string>
  /** Rejects unless the gateway serves well-behaved clients. */
  goodClient(ground: Ground): Promise<void>
  /** As many good clients as there may be: the memory that they take is no hostile one's doing. */
  crowd?(ground: Ground): Promise<unknown>
  cleanup(): Promise<unknown>
}

/** Lays the ground for the tests of this file, and holds each of them to what is said at the top. */
export function layGround(plan: Plan): Ground {
  let [dir, rss, logged] = ['', 0, 0]
  let before: Holdings | undefined
  let pki: TestPki | undefined
  let gateway: RunningGateway | undefined
  const there = <T>(value: T | undefined): T => {
    if (value === undefined) throw new Error('not before beforeAll')
    return value
  }
  const ground: Ground = {
    get dir() {
      return dir
    },
    get pki() {
      return there(pki)
    },
    get gateway() {
      return there(gateway)
    },
    port: door => Number(/:(\d+)$/.exec(there(there(gateway).doors[door]).address)?.[1]),
    said: () => there(gateway).log().slice(logged),
    tells: async facts => {
      await vi.waitFor(() => expect(ground.said()).toContainEqual(expect.objectContaining(facts)), REFUSAL_BOUND_MS)
    },
    settled: () => nothingLeft(ground.gateway, there(before)),
    grownKiB: () => rssKiB(there(gateway).pid) - rss,
  }
  const { settled } = ground

  beforeAll(async () => {
    dir = await makeTempFolder()
    pki = await makePki()
    const config = { ...SCRAPED, ...JSON.parse(await plan.configure({ dir, pki })) }
    gateway = await startGateway(dir, 'nbdgate', JSON.stringify(config))
    // The first scrape begins to watch the event loop.
    await holdingsOf(gateway)
    before = await holdingsOf(gateway)
    for (let round = 0; round < 5; round++) await plan.goodClient(ground)
    await settled()
    await plan.crowd?.(ground)
    destroyPeers()
    await settled()
    rss = rssKiB(gateway.pid)
    logged = gateway.log().length
  })
  beforeEach(() => {
    const from = logged
    const lines = () => ground.gateway.log().slice(from)
    onTestFailed(() =>
      console.error(
        lines()
          .map(line => JSON.stringify(line))
          .join('\n'),
      ),
    )
  })
  afterEach(async () => {
    destroyPeers()
    expect(isAlive(ground.gateway.pid), 'the gateway is the same process').toBe(true)
    await settled()
    await plan.goodClient(ground)
    await settled()
    expect(ground.said().filter(line => line.msg === 'bug')).toEqual([])
    expect(ground.grownKiB(), 'growth of resident memory in KiB').toBeLessThanOrEqual(MAX_GROWTH_KIB)
    logged = ground.gateway.log().length
  })
  afterAll(async () => {
    expect(await gateway?.stop(), 'exit code of the gateway').toBe(0)
    await plan.cleanup()
    if (pki !== undefined) await removeTempFolder(pki.dir)
    await removeTempFolder(dir)
  })
  return ground
}

/** Doors of clientGround(), for Ground.port(). */
export const DOOR = { FORCED: 0, SELECTIVE: 1, TCP: 2, ONE_ADDRESS: 3 } as const

/** Where good clients come from: hostile ones may have used up the places of theirs. */
const GOOD_ADDRESS = '127.0.0.99'

/** Size of `disk` in bytes: larger than the largest payload, so that a length can be too long and yet inside. */
export const DISK_BYTES = 256 * 1024 * 1024

/** Sessions that clientGround() lets in, and from one address. */
export const SESSIONS = { all: 30, perAddress: 20 } as const

/**
 * The ground of hostile clients: `disk` is nbdkit's memory, `guarded` an upstream that counts who reaches it, `mine` is
 * for 127.0.0.1 alone, `closed` is denied to everybody.
 */
export function clientGround(): Ground & { readonly dialled: () => number } {
  let dialled = 0
  const backends: { stop(): Promise<unknown> }[] = []
  const counting = createServer(socket => {
    dialled++
    socket.destroy()
  })
  const ground = layGround({
    configure: async ({ dir, pki }) => {
      const { socket, process } = await startNbdkit(dir, 'nbdkit', ['memory', String(DISK_BYTES)])
      backends.push(process)
      await once(counting.listen(join(dir, 'counting.sock')), 'listening')
      const tls = { cert: pki.server.cert, key: pki.server.key, 'client-ca': pki.ca.cert }
      const upstream = `nbd+unix:///?socket=${socket}`
      const allow = [{ who: 'anyone', rights: 'write' }]
      return JSON.stringify({
        version: 1,
        doors: [
          { tls: '127.0.0.1:0', mode: 'forced', ...tls },
          { tls: '127.0.0.1:0', mode: 'selective', ...tls },
          { tcp: '127.0.0.1:0', from: ['127.0.0.0/8'] },
          { tcp: '127.0.0.1:0', from: ['127.0.0.1/32'] },
        ],
        exports: [
          // Visitors of several addresses at once: leases are tested elsewhere.
          { name: 'disk', upstream, allow, sharing: 'cluster' },
          { name: 'read-only', upstream, allow: [{ who: 'anyone', rights: 'read' }] },
          { name: 'guarded', upstream: `nbd+unix:///?socket=${dir}/counting.sock`, allow, sharing: 'cluster' },
          { name: 'mine', upstream, allow: [{ who: 'address:127.0.0.1/32', rights: 'read' }] },
          { name: 'closed', upstream, allow, deny: ['anyone'] },
        ],
        limits: { negotiation: '1s', sessions: SESSIONS.all, 'sessions-per-address': SESSIONS.perAddress },
      })
    },
    goodClient: async ({ port, pki }) => {
      for (const door of [DOOR.TCP, DOOR.FORCED]) {
        const peer = await Peer.greeted(port(door), GOOD_ADDRESS)
        if (door === DOOR.FORCED) await peer.startTls(credentials(pki))
        await peer.enter('disk')
        await writesAndReads(peer)
        peer.destroy()
      }
    },
    crowd: async ({ port, pki }) => {
      const come = async (address: string) => {
        const peer = await Peer.greeted(port(DOOR.FORCED), address)
        await peer.startTls(credentials(pki))
        await peer.enter('disk')
        const length = 1024 * 1024
        for (let n = 0; n < 32; n++) peer.send(request({ type: COMMAND.READ, length }))
        for (let n = 0; n < 32; n++) await peer.simpleReply(length)
      }
      // Not all the places: the last good client's may not be free yet.
      await Promise.all(Array.from({ length: SESSIONS.perAddress - 4 }, () => come(GOOD_ADDRESS)))
    },
    cleanup: async () => {
      counting.close()
      for (const backend of backends) await backend.stop()
    },
  })
  return Object.assign(ground, { dialled: () => dialled })
}

/** What node:tls needs to come in as alice. */
export function credentials(pki: TestPki): ConnectionOptions {
  const read = (file: string) => readFileSync(file, 'utf8')
  const { ca, cert, key } = pki.alice
  return { ca: read(ca), cert: read(cert), key: read(key), servername: 'localhost' }
}

/** A session that works: writes, reads the same back, and says goodbye. */
async function writesAndReads(peer: Peer): Promise<void> {
  const payload = Buffer.from('a good client'.padEnd(512, '.'))
  const at = { offset: BigInt(DISK_BYTES - 512), length: 512 }
  expect(await peer.try({ type: COMMAND.WRITE, cookie: 1n, ...at }, payload)).toBe(ERROR.NONE)
  peer.send(request({ type: COMMAND.READ, cookie: 2n, ...at }))
  expect(await peer.simpleReply(512)).toEqual({ error: ERROR.NONE, cookie: 2n, data: payload })
  peer.send(request({ type: COMMAND.DISC }))
  await peer.closed(WAIT_BOUND_MS)
}
