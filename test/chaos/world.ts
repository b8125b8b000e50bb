/** Three members of etcd, three gateways that reach them over links that can be cut, one storage that keeps a record. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { tcpDoor } from '../interop/configs.ts'
import { type EtcdCluster, startEtcd } from '../support/etcd.ts'
import { type RunningGateway, startGateway } from '../support/gateway.ts'
import { runOk } from '../support/process.ts'
import { startNbdkit } from '../support/servers.ts'
import { type Link, startLink } from './link.ts'
import { type Recorder, startRecorder } from './recorder.ts'

export const TTL_MS = 2000
/** Machines that test are busy. */
const START_BOUND_MS = 60_000
export const REGION_BYTES = 64 * 1024

/** One gateway of the world. */
export interface Place {
  running: RunningGateway
  readonly links: readonly Link[]
  restart(): Promise<void>
}

export interface World {
  readonly etcd: EtcdCluster
  readonly places: readonly Place[]
  readonly recorder: Recorder
  /** Socket of the storage itself. */
  readonly storage: string
  stop(): Promise<void>
}

/**
 * Starts all of it in `dir`; run number n has the export `disk-n` and the n-th region of the storage. `main`: another build
 * of the gateway.
 */
export async function startWorld(dir: string, runs: number, main?: string): Promise<World> {
  const etcd = await startEtcd(dir, 'etcd', { members: 3 })
  const nbdkit = await startNbdkit(dir, 'storage', ['memory', String(runs * REGION_BYTES)])
  const socket = join(dir, 'recorder.sock')
  const recorder = await startRecorder(socket, nbdkit.socket)
  const exports = Array.from({ length: runs }, (_, run) => ({
    name: `disk-${run}`,
    upstream: `nbd+unix:///?socket=${socket}`,
    allow: [{ who: 'address:127.0.0.0/8', rights: 'write' }],
    'when-busy': 'wait=20s',
  }))
  const places = await Promise.all(['one', 'two', 'three'].map(name => startPlace(dir, name, etcd, exports, main)))
  return {
    etcd,
    places,
    recorder,
    storage: nbdkit.socket,
    stop: async () => {
      for (const { running } of places) running.kill('SIGKILL')
      await Promise.all(places.map(({ running }) => running.waitForExit()))
      await Promise.all(places.flatMap(({ links }) => links).map(link => link.stop()))
      await recorder.stop()
      await nbdkit.process.stop()
      await etcd.stop()
    },
  }
}

async function startPlace(
  dir: string,
  name: string,
  etcd: EtcdCluster,
  exports: readonly object[],
  main: string | undefined,
): Promise<Place> {
  const links = await Promise.all(etcd.urls.map(url => startLink(Number(new URL(url).port))))
  const leases = { etcd: links.map(({ port }) => `http://127.0.0.1:${port}`), ttl: `${TTL_MS}ms`, name }
  const limits = { 'sessions-per-address': 1000 }
  const text = JSON.stringify({ version: 1, doors: [tcpDoor()], exports, leases, limits })
  const start = async (): Promise<RunningGateway> => {
    const running = await startGateway(dir, name, text, main === undefined ? {} : { main })
    await running.waitForLog(({ msg }) => msg === 'leases are kept in etcd', START_BOUND_MS)
    return running
  }
  const place: Place = {
    running: await start(),
    links,
    restart: async () => {
      place.running = await start()
    },
  }
  return place
}

/** Holds the storage against the record: each block is as the last WRITE that reached it whole left it. */
export async function contentProblems({ storage, recorder }: World, dir: string): Promise<readonly string[]> {
  const copy = join(dir, 'content')
  await runOk(['nbdcopy', `nbd+unix:///?socket=${storage}`, copy])
  const content = await readFile(copy)
  const last = new Map(recorder.writes.filter(({ isWhole }) => isWhole).map(write => [write.offset, write]))
  return [...last.values()].flatMap(({ run, client, session, sequence, offset }) => {
    const found = [0, 4, 8, 12].map(at => content.readUInt32BE(offset + at)).join('/')
    const expected = [run, client, session, sequence].join('/')
    return found === expected ? [] : [`at ${offset} stands ${found} instead of ${expected}`]
  })
}
