/** One run: three clients that write, one mishap, and what the record of the storage says of it. */
import { setTimeout as delay } from 'node:timers/promises'
import { isAlive } from '../support/procfs.ts'
import { waitFor } from '../support/wait.ts'
import { type ChaosClient, type Standing, startClient } from './client.ts'
import type { Recorded } from './recorder.ts'
import { type Place, REGION_BYTES, TTL_MS, type World } from './world.ts'

const MISHAPS = ['kill the leader', 'kill the gateway', 'stop the gateway', 'cut the link', 'kill both'] as const
export type Mishap = (typeof MISHAPS)[number]

const CLIENTS = 3
const BOUND_MS = 120_000
/** What has been stopped or cut goes on after so long. */
const MIN_PAUSE_MS = TTL_MS
const MORE_PAUSE_MS = 1500

/** One that is chosen; `pauseMs`: what has been stopped or cut goes on after so long. */
export interface OnlyMishap {
  readonly mishap: Mishap
  readonly pauseMs: number
}

/** What became of a run. */
export interface RunReport {
  readonly run: number
  readonly mishap: Mishap
  readonly writes: number
  readonly sessions: number
  readonly violations: readonly string[]
  /** From the mishap to the next write of another session, where the holder was hit. */
  readonly takeoverMs: number | undefined
}

/** Random numbers of a seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b_79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Run number `run` of a world, by a seed, which also says what happens unless `only` does. Rejects if nobody writes any more. */
export async function chaosRun(world: World, run: number, seed: number, only?: OnlyMishap): Promise<RunReport> {
  const random = seeded(seed)
  const drawn = MISHAPS[Math.floor(random() * MISHAPS.length)] ?? 'kill the gateway'
  const { mishap, pauseMs } = only ?? { mishap: drawn, pauseMs: MIN_PAUSE_MS + random() * MORE_PAUSE_MS }
  const clients = Array.from({ length: CLIENTS }, (_, client) =>
    startClient({ world, run, client, random: seeded(seed * 31 + client), generous: client > 0 }),
  )
  const own = (): readonly Recorded[] => world.recorder.writes.filter(each => each.run === run)
  const holder = (): Standing | undefined => clients.map(client => client.standing()).find(each => each !== undefined)
  try {
    await waitFor('a holder', () => own().length > 20 && holder() !== undefined, { boundMs: BOUND_MS })
    await delay(random() * 400)
    await waitFor('a holder', () => holder() !== undefined, { boundMs: BOUND_MS })
    const hit = holder()
    const place = world.places[hit?.place ?? 0]
    if (hit === undefined || place === undefined) throw new Error('no holder')
    const atMs = performance.now()
    const mended = strike(world, place, mishap, pauseMs)
    // Without its leader etcd elects another, and the holder need not notice.
    const isHit = mishap !== 'kill the leader'
    const isNext = ({ atMs: its, client, session }: Recorded): boolean =>
      isHit ? its > atMs && (client !== hit.client || session > hit.session) : its > atMs + TTL_MS
    await waitFor('a write after it', () => own().some(isNext), { boundMs: BOUND_MS })
    await mended
    const before = own().length
    await waitFor('life after it', () => own().length > before + 20, { boundMs: BOUND_MS })
    const next = own().find(isNext)
    const writes = own()
    const sessions = new Set(writes.map(({ client, session }) => `${client}/${session}`)).size
    const takeoverMs = isHit && next !== undefined ? next.atMs - atMs : undefined
    await Promise.all(clients.map(client => client.stop()))
    const violations = [...interleaved(own()), ...broken(own(), clients)]
    return { run, mishap, writes: writes.length, sessions, violations, takeoverMs }
  } finally {
    await Promise.all(clients.map(client => client.stop()))
  }
}

/** Does it, and resolves when it is mended. */
async function strike(world: World, place: Place, mishap: Mishap, pauseMs: number): Promise<void> {
  const leader = mishap === 'kill the leader' || mishap === 'kill both' ? await world.etcd.leader() : undefined
  leader?.kill('SIGKILL')
  if (mishap === 'stop the gateway') {
    place.running.kill('SIGSTOP')
    await delay(pauseMs)
    place.running.kill('SIGCONT')
    // The kernel has ended it if it could have written.
    if (!isAlive(place.running.pid)) await revive(place)
  } else if (mishap === 'cut the link') {
    for (const link of place.links) link.cut()
    await delay(pauseMs)
    for (const link of place.links) link.heal()
  } else if (mishap !== 'kill the leader') {
    place.running.kill('SIGKILL')
    await revive(place)
  }
  if (leader !== undefined) {
    await leader.waitForExit()
    await leader.restart()
  }
}

async function revive(place: Place): Promise<void> {
  await place.running.waitForExit()
  await place.restart()
}

/** Between the first and the last write of a session nobody else may have written, nor a later session of its own client. */
function interleaved(writes: readonly Recorded[]): readonly string[] {
  const violations: string[] = []
  const closed = new Set<string>()
  let current = ''
  for (const { client, session, sequence, atMs } of writes) {
    const name = `${client}/${session}`
    if (name !== current) {
      if (closed.has(name)) violations.push(`${name} wrote its ${sequence} at ${Math.round(atMs)} after ${current}`)
      closed.add(current)
      current = name
    }
  }
  return violations
}

/** What was acknowledged has reached the storage, and what was flushed is there or written over by a later one. */
function broken(writes: readonly Recorded[], clients: readonly ChaosClient[]): readonly string[] {
  const known = new Set(
    writes
      .filter(({ isWhole }) => isWhole)
      .map(({ client, session, sequence, offset }) => `${client}/${session}/${sequence}@${offset}`),
  )
  const [{ run } = { run: 0 }] = writes
  return clients.flatMap((each, client) =>
    each.promised
      .map(({ session, sequence, block }) => `${client}/${session}/${sequence}@${run * REGION_BYTES + block * 4096}`)
      .filter(name => !known.has(name))
      .map(name => `${name} was acknowledged and is not there`),
  )
}
