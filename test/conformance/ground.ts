/** What the rules are held against: the built gateway with a door of each mode, real servers and a false one behind it. */
import { readFileSync } from 'node:fs'
import type { ConnectionOptions } from 'node:tls'
import { afterAll, afterEach, beforeAll, onTestFailed } from 'vitest'
import { credentials } from '../interop/hostile-ground.ts'
import { destroyPeers, OPTION, Peer } from '../interop/hostile-support.ts'
import { type RunningGateway, startGateway } from '../support/gateway.ts'
import { makePki, type TestPki } from '../support/pki.ts'
import { startNbdkit } from '../support/servers.ts'
import { makeTempFolder, removeTempFolder } from '../support/temp.ts'
import { Fake, type Plan } from './fake.ts'
import { askAll } from './wire.ts'

export const DISK_BYTES = 64 * 1024 * 1024

/** Doors of the gateway, in the order of its configuration. */
export const DOOR = { FORCED: 0, SELECTIVE: 1, PLAIN: 2 } as const
type Door = (typeof DOOR)[keyof typeof DOOR]

export interface Ground {
  readonly gateway: RunningGateway
  readonly fake: Fake
  /** What node:tls needs to come in as alice. */
  readonly alice: ConnectionOptions
  readonly mallory: ConnectionOptions
  port(door: Door): number
  /** A client before option haggling; without TLS. */
  greeted(door?: Door): Promise<Peer>
  /** A client that has TLS. */
  secured(door?: Door): Promise<Peer>
  /** A client in the transmission phase of an export, with structured replies if it wants them. */
  inside(name: string, structured?: boolean): Promise<Peer>
  /** The same with the false server behind it, which follows the plan. */
  insideFake(plan: Plan, structured?: boolean): Promise<Peer>
}

/** Lays the ground for the tests of this file. */
export function layGround(): Ground {
  const stops: (() => unknown)[] = []
  let parts: { gateway: RunningGateway; fake: Fake; pki: TestPki } | undefined
  const there = () => {
    if (parts === undefined) throw new Error('not before beforeAll')
    return parts
  }
  beforeAll(async () => {
    const dir = await makeTempFolder()
    stops.push(() => removeTempFolder(dir))
    const pki = await makePki()
    stops.push(() => removeTempFolder(pki.dir))
    const kit = async (name: string, ...args: readonly string[]) => {
      const { socket, process } = await startNbdkit(dir, name, args)
      stops.push(process.stop)
      return `nbd+unix:///?socket=${socket}`
    }
    const fake = new Fake(pki)
    stops.push(() => fake.close())
    const port = await fake.listen()
    const gateway = await startGateway(dir, 'nbdgate', await configuration(kit, pki, port))
    stops.push(() => gateway.stop())
    parts = { gateway, fake, pki }
  })
  afterEach(() => {
    onTestFailed(() => console.error(there().gateway.stderr().split('\n').slice(-20).join('\n')))
    destroyPeers()
  })
  afterAll(async () => {
    for (const stop of stops.reverse()) await stop()
  })
  const port = (door: Door): number => Number(/:(\d+)$/.exec(there().gateway.doors[door]?.address ?? '')?.[1])
  const greeted = (door: Door = DOOR.PLAIN) => Peer.greeted(port(door))
  const inside = async (name: string, structured = false): Promise<Peer> => {
    const peer = await greeted()
    if (structured) await askAll(peer, OPTION.STRUCTURED_REPLY)
    await peer.enter(name)
    return peer
  }
  const mallory = () => {
    const { pki } = there()
    const { cert, key } = pki.mallory
    return { ...credentials(pki), cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') }
  }
  return {
    get gateway() {
      return there().gateway
    },
    get fake() {
      return there().fake
    },
    get alice() {
      return credentials(there().pki)
    },
    get mallory() {
      return mallory()
    },
    port,
    greeted,
    secured: async (door = DOOR.FORCED) => {
      const peer = await greeted(door)
      await peer.startTls(credentials(there().pki))
      return peer
    },
    inside,
    insideFake: async (plan, structured) => {
      there().fake.use(plan)
      return await inside('fake', structured)
    },
  }
}

async function configuration(
  kit: (name: string, ...args: readonly string[]) => Promise<string>,
  pki: TestPki,
  fakePort: number,
): Promise<string> {
  const memory = await kit('memory', 'memory', String(DISK_BYTES))
  const sizes = ['blocksize-minimum=4096', 'blocksize-preferred=65536', 'blocksize-maximum=1M']
  const sized = ['--filter=blocksize-policy', 'memory', '16M', ...sizes, 'blocksize-error-policy=error']
  const tls = { cert: pki.server.cert, key: pki.server.key, 'client-ca': pki.ca.cert }
  const allow = [{ who: 'anyone', rights: 'write' }]
  const shared = { allow, sharing: 'cluster' }
  return JSON.stringify({
    version: 1,
    doors: [
      { tls: '127.0.0.1:0', mode: 'forced', ...tls },
      { tls: '127.0.0.1:0', mode: 'selective', ...tls },
      { tcp: '127.0.0.1:0', from: ['127.0.0.0/8'] },
    ],
    exports: [
      { name: '', upstream: memory, ...shared },
      { name: 'disk', description: 'a disk of memory', upstream: memory, ...shared },
      { name: 'read-only', upstream: memory, allow: [{ who: 'anyone', rights: 'read' }] },
      { name: 'lifted', upstream: await kit('lifted', '--no-sr', 'pattern', '1M'), ...shared },
      { name: 'sized', upstream: await kit('sized', ...sized), ...shared },
      { name: 'tls-only', upstream: memory, allow: [{ who: 'cert:cn=alice', rights: 'write' }], sharing: 'cluster' },
      // Rules of what is said when an upstream fails: it is not dialled again.
      { name: 'fake', upstream: `nbd://127.0.0.1:${fakePort}/there`, reconnect: '0s', ...shared },
      { name: 'fake-tls', upstream: { uri: `nbds://localhost:${fakePort}/there`, ca: pki.ca.cert }, ...shared },
    ],
  })
}
