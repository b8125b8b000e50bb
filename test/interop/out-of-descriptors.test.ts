// More visitors than a process may have descriptors: whoever is in stays, and the door takes others again when there is room.

import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Cmd, Opt, Rep } from '../../src/protocol/constants.ts'
import { seededBytes, seededFile } from '../support/disk.ts'
import { test } from '../support/fixtures.ts'
import { WORKERS } from '../support/gateway.ts'
import { childrenOf, isAlive, openFds } from '../support/procfs.ts'
import { waitFor } from '../support/wait.ts'
import { config, tcpDoor } from './configs.ts'
import { greeted, infoData, type RawClient } from './raw-client.ts'

/** Node and a gateway with one door have some thirty. */
const DESCRIPTORS = 90
const CROWD = 200
const SEED = 3
const BLOCK = 4096

interface Knock {
  readonly socket: Socket
  /** It was greeted: it has a descriptor. */
  isIn: boolean
}

function knock(port: number): Knock {
  const made: Knock = { socket: connect({ host: '127.0.0.1', port, localAddress: '127.0.0.66' }), isIn: false }
  made.socket.on('error', () => {})
  made.socket.on('data', () => (made.isIn = true))
  return made
}

async function enter(port: number): Promise<RawClient> {
  const client = await greeted({ host: '127.0.0.1', port })
  expect((await client.option(Opt.GO, infoData('disk'))).at(-1)?.type).toBe(Rep.ACK)
  return client
}

async function readBlock(client: RawClient): Promise<void> {
  client.request(Cmd.READ, 1n, 0n, BLOCK)
  expect((await client.simpleReply(BLOCK)).data).toEqual(seededBytes(SEED, BLOCK))
}

/** Processor time so far, in ticks. */
function ticks(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? []
  return Number(fields[11]) + Number(fields[12])
}

/** A process that can not accept must not ask for ever whether it can by now. */
async function isAtRest(pid: number): Promise<void> {
  let [before, quiet] = [-1, 0]
  const rested = (): boolean => {
    const now = ticks(pid)
    quiet = now === before ? quiet + 1 : 0
    before = now
    return quiet >= 10
  }
  await waitFor(`process ${pid} at rest`, rested)
}

test('a gateway out of descriptors keeps those who are in, rests, and takes others again', async ({ dir, gateway }) => {
  const upstream = { file: await seededFile(join(dir, 'disk.img'), 1, SEED) }
  const exports = [{ name: 'disk', upstream, allow: [{ who: 'anyone', rights: 'read' }] }]
  const limits = { sessions: 1000, 'sessions-per-address': 1000, 'max-startups': '900:1:1000', negotiation: '60s' }
  const running = await gateway(config([tcpDoor()], exports, { limits }), {
    wrap: ['prlimit', `--nofile=${DESCRIPTORS}:${DESCRIPTORS}`],
  })
  const port = running.port('tcp')
  const family = [running.pid, ...childrenOf(running.pid)]
  const client = await enter(port)
  await readBlock(client)
  const before = family.map(openFds)
  const crowd = Array.from({ length: CROWD }, () => knock(port))
  await waitFor('a greeting or the end for each', () => crowd.every(({ socket, isIn }) => isIn || socket.closed))
  expect(crowd.filter(({ isIn }) => !isIn).length).toBeGreaterThan(0)
  await readBlock(client)
  for (const pid of family) await isAtRest(pid)
  for (const { socket } of crowd) socket.destroy()
  await waitFor('their descriptors back', () => family.every((pid, at) => openFds(pid) <= (before[at] ?? 0)))
  const other = await enter(port)
  await Promise.all([readBlock(client), readBlock(other)])
  await other.disconnect()
  await client.disconnect()
  expect(family.every(isAlive)).toBe(true)
  expect(running.log().filter(({ msg }) => msg === 'bug' || msg === 'worker died')).toEqual([])
  expect(family).toHaveLength(WORKERS > 1 ? WORKERS + 1 : 1)
})
