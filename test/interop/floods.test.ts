// Visitors who never say who they are, and those who keep failing, as others see it: they get in all the same.

import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Opt, Rep } from '../../src/protocol/constants.ts'
import { seededFile } from '../support/disk.ts'
import { test as base } from '../support/fixtures.ts'
import { type RunningGateway, withWorkers } from '../support/gateway.ts'
import { openFds } from '../support/procfs.ts'
import { type SocketAddress, waitFor } from '../support/wait.ts'
import { allow, config, type Entry, tcpDoor, tlsDoor, tlsOptions } from './configs.ts'
import { dial, greeted, infoData, type RawClient } from './raw-client.ts'
import { holdingsOf, nothingLeft, SCRAPED } from './scrape.ts'

/** Other addresses than that of good visitors: all of 127.0.0.0/8 is here. */
const STRANGER = '127.0.0.66'

const test = base.extend('start', async ({ dir, pki, gateway }) => {
  const exports = [
    {
      name: 'disk',
      upstream: { file: await seededFile(join(dir, 'disk.img'), 1, 3) },
      allow: [allow('alice', 'read')],
    },
  ]
  return async (limits: Entry): Promise<RunningGateway> =>
    await gateway(config([tlsDoor(pki)], exports, { ...SCRAPED, limits }))
})

/** What became of a connection from an address that sends `bytes`: the greeting, or nothing at all. */
async function knock(port: number, from: string, bytes?: Buffer): Promise<{ socket: Socket; wasGreeted: boolean }> {
  const socket = connect({ host: '127.0.0.1', port, localAddress: from })
  socket.on('error', () => {})
  let wasGreeted = false
  socket.once('data', () => {
    wasGreeted = true
    if (bytes !== undefined) socket.end(bytes)
  })
  if (bytes !== undefined) {
    if (!socket.closed) await once(socket, 'close')
  } else await waitFor('a greeting, or the end', () => wasGreeted || socket.closed)
  return { socket, wasGreeted }
}

async function enterAlice(port: number, options: ReturnType<typeof tlsOptions>): Promise<void> {
  const client = await greeted({ host: '127.0.0.1', port })
  await client.startTls(options)
  expect((await client.option(Opt.GO, infoData('disk'))).at(-1)?.type).toBe(Rep.ACK)
  await client.disconnect()
}

test('an address that keeps sending garbage is let in no more, until its penalty is over; others are', async ({
  pki,
  start,
}) => {
  const running = await start({ 'per-source-penalties': { invalid: '400ms', min: '1s', exempt: [] } })
  const before = await holdingsOf(running)
  const port = running.port('tls')
  const garbage = Buffer.alloc(64, 0xee)
  for (let each = 0; each < 2; each++) expect((await knock(port, STRANGER, garbage)).wasGreeted).toBe(true)
  await running.waitForLog(({ msg }) => msg === 'protocol broken')
  await waitFor('a penalty', async () => !(await knock(port, STRANGER, garbage)).wasGreeted)
  expect(await running.waitForLog(({ msg }) => msg === 'turned away')).toMatchObject({ reason: 'penalty' })
  await enterAlice(port, tlsOptions(pki.alice))
  await waitFor('its end', async () => {
    const { socket, wasGreeted } = await knock(port, STRANGER)
    socket.destroy()
    return wasGreeted
  })
  await nothingLeft(running, before)
})

test('certificates that nobody knows are held against an address, exports that there are not too', async ({
  pki,
  start,
}) => {
  const running = await start({ 'per-source-penalties': { authfail: '5m', min: '9m', exempt: [] } })
  const before = await holdingsOf(running)
  const port = running.port('tls')
  const client = await greeted({ host: '127.0.0.1', port })
  await client.startTls(tlsOptions(pki.alice))
  expect((await client.option(Opt.GO, infoData('no such disk'))).at(-1)?.type).toBe(Rep.ERR_UNKNOWN)
  const other = await greeted({ host: '127.0.0.1', port })
  await other.startTls(tlsOptions(pki.mallory)).catch(() => {})
  await running.waitForLog(({ msg }) => msg === 'tls failed')
  await waitFor('a penalty', async () => !(await knock(port, '127.0.0.1', Buffer.alloc(0))).wasGreeted)
  // Whoever is in stays.
  expect((await client.option(Opt.GO, infoData('disk'))).at(-1)?.type).toBe(Rep.ACK)
  await client.disconnect()
  await nothingLeft(running, before)
})

test('a name that is asked for again and again in one connection is held against an address once', async ({
  pki,
  start,
}) => {
  const running = await start({ 'per-source-penalties': { authfail: '4m', min: '9m', exempt: [] } })
  const before = await holdingsOf(running)
  const port = running.port('tls')
  const client = await greeted({ host: '127.0.0.1', port })
  await client.startTls(tlsOptions(pki.alice))
  const isUnknown = async (option: number, name: string): Promise<void> =>
    expect((await client.option(option, infoData(name))).at(-1)?.type).toBe(Rep.ERR_UNKNOWN)
  for (let each = 0; each < 3; each++) {
    await isUnknown(Opt.INFO, 'no such disk')
    await isUnknown(Opt.GO, 'no such disk')
  }
  await enterAlice(port, tlsOptions(pki.alice))
  for (const name of ['another', 'a third one']) await isUnknown(Opt.GO, name)
  await waitFor('a penalty', async () => !(await knock(port, '127.0.0.1', Buffer.alloc(0))).wasGreeted)
  client.reset()
  await nothingLeft(running, before)
})

test('half-open connections take the places of others only up to `full`', async ({ pki, start }) => {
  const running = await start({
    sessions: 100,
    'sessions-per-address': 100,
    'max-startups': '20:100:20',
    negotiation: '60s',
  })
  const before = await holdingsOf(running)
  const port = running.port('tls')
  await enterAlice(port, tlsOptions(pki.alice))
  await waitFor('no descriptor of alice', () => openFds(running.pid) < 100)
  const crowd = await Promise.all(Array.from({ length: 30 }, () => knock(port, STRANGER)))
  expect(crowd.filter(({ wasGreeted }) => wasGreeted)).toHaveLength(20)
  expect(await running.waitForLog(({ msg }) => msg === 'turned away')).toMatchObject({ reason: 'max-startups' })
  crowd.find(({ wasGreeted }) => wasGreeted)?.socket.destroy()
  await waitFor('a place', async () => {
    try {
      await enterAlice(port, tlsOptions(pki.alice))
      return true
    } catch {
      return false
    }
  })
  for (const { socket } of crowd) socket.destroy()
  await nothingLeft(running, before)
})

test('a door that is full turns others away until one of its visitors has left; the other doors are open', async ({
  dir,
  gateway,
}) => {
  const upstream = { file: await seededFile(join(dir, 'disk.img'), 1, 3) }
  const exports = [{ name: 'disk', upstream, allow: [{ who: 'anyone', rights: 'read' }] }]
  const unix = join(dir, 'nbd.sock')
  const doors = (sessions: number): readonly Entry[] => [tcpDoor({ sessions }), { unix, sessions: 1 }]
  const running = await gateway(config(doors(2), exports, SCRAPED))
  const before = await holdingsOf(running)
  const place = { host: '127.0.0.1', port: running.port('tcp') }
  const enter = async (at: SocketAddress): Promise<RawClient> => {
    const client = await greeted(at)
    expect((await client.option(Opt.GO, infoData('disk'))).at(-1)?.type).toBe(Rep.ACK)
    return client
  }
  const isFull = async (at: SocketAddress): Promise<void> => expect(await (await dial(at)).closed()).toHaveLength(0)
  const [first, second] = [await enter(place), await enter(place)]
  await isFull(place)
  expect(await running.waitForLog(({ msg }) => msg === 'turned away')).toMatchObject({ reason: 'sessions-per-door' })
  const third = await enter({ path: unix })
  await isFull({ path: unix })
  await first.disconnect()
  const inside: RawClient[] = []
  const comesIn = async (): Promise<boolean> => {
    try {
      inside.push(await enter(place))
      return true
    } catch {
      return false
    }
  }
  await waitFor('a place at the door', comesIn)
  await isFull(place)
  await writeFile(running.configFile, withWorkers(config(doors(3), exports, SCRAPED)))
  running.kill('SIGHUP')
  await running.waitForLog(({ msg }) => msg === 'reloaded')
  inside.push(await enter(place))
  await isFull(place)
  for (const each of [second, third, ...inside]) each.reset()
  await nothingLeft(running, before)
})
