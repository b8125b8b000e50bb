// Many who ask for much and take nothing, and many whose server takes nothing: the memory of the gateway stays bounded, and
// others get on.

import { expect } from 'vitest'
import { Cmd, Opt, Rep } from '../../src/protocol/constants.ts'
import { seededBytes } from '../support/disk.ts'
import { test } from '../support/fixtures.ts'
import { requires } from '../support/requires.ts'
import { startNbdkit } from '../support/servers.ts'
import { waitFor } from '../support/wait.ts'
import { config, tcpDoor } from './configs.ts'
import { greeted, infoData, type RawClient } from './raw-client.ts'
import { rssMiB, SCRAPED, scrape, seriesOf } from './scrape.ts'

const MIB = 1024 * 1024
const READERS = 50
const WRITERS = 16
/** What each of them asks for, or brings: more than the kernel takes over of it. */
const READS = 8
const WRITES = 16
const READ_BYTES = 2 * MIB
const LIMIT_MIB = 16
/**
 * Beside the limit: what is sure of each side of a session, a chunk, and a WRITE. By their own limits alone the readers could
 * hold 1 MiB each, the writers 8 MiB: 178 MiB.
 */
const BESIDE_MIB = READERS * (1 / 8 + 1 / 16) + WRITERS * (1 / 8 + 1 + 1 / 16)
/** Of V8, and what TLS, sockets and buffers take. */
const GROWN_MIB = 48

const ALLOW = [{ who: 'anyone', rights: 'write' }]

requires('nbdkit')('a gateway with little memory', () => {
  test('holds no more of slow readers and of slow servers than it may, and others get on beside them', {
    timeout: 60_000,
  }, async ({ dir, nbdkit, gateway }) => {
    const uri = (socket: string): string => `nbd+unix:///?socket=${socket}`
    const slow = await startNbdkit(dir, 'slow', ['memory', '1G'])
    try {
      const exports = [
        { name: 'disk', upstream: uri(await nbdkit('memory', '64M')), allow: ALLOW, sharing: 'cluster' },
        { name: 'slow', upstream: uri(slow.socket), allow: ALLOW, sharing: 'cluster' },
      ]
      const limits = { 'sessions-per-address': 200, 'in-flight-bytes-total': `${LIMIT_MIB}MiB` }
      const running = await gateway(config([tcpDoor()], exports, { ...SCRAPED, limits }))
      const enter = async (name: string): Promise<RawClient> => {
        const client = await greeted({ host: '127.0.0.1', port: running.port('tcp') })
        expect((await client.option(Opt.GO, infoData(name))).at(-1)?.type).toBe(Rep.ACK)
        return client
      }
      const held = async (): Promise<number> => {
        return (seriesOf(await scrape(running), 'nbdgate_in_flight_bytes') ?? Number.NaN) / MIB
      }
      const good = await enter('disk')
      await getsOn(good)
      const readers = await Promise.all(Array.from({ length: READERS }, () => enter('disk')))
      const writers = await Promise.all(Array.from({ length: WRITERS }, () => enter('slow')))
      expect(seriesOf(await scrape(running), 'nbdgate_in_flight_bytes_limit')).toBe(LIMIT_MIB * MIB)
      const before = rssMiB(running)
      slow.process.kill('SIGSTOP')
      for (const reader of readers) {
        reader.pause()
        for (let nth = 0; nth < READS; nth++)
          reader.request(Cmd.READ, BigInt(nth), BigInt(nth * READ_BYTES), READ_BYTES)
      }
      const payload = Buffer.alloc(MIB, 0x77)
      for (const writer of writers) {
        for (let nth = 0; nth < WRITES; nth++) writer.request(Cmd.WRITE, BigInt(nth), BigInt(nth * MIB), MIB, payload)
      }
      // Some of the sessions have taken what there was; the others go on within what is sure.
      await waitFor('a gateway that is full', async () => (await held()) > LIMIT_MIB / 2)
      for (let round = 0; round < 10; round++) {
        await getsOn(good)
        expect(await held()).toBeLessThan(LIMIT_MIB + BESIDE_MIB)
      }
      const other = await enter('disk')
      await getsOn(other)
      expect(rssMiB(running) - before).toBeLessThan(LIMIT_MIB + BESIDE_MIB + GROWN_MIB)
      slow.process.kill('SIGCONT')
      for (const writer of writers) {
        for (let nth = 0; nth < WRITES; nth++) expect((await writer.simpleReply()).error).toBe(0)
      }
      const [reader] = readers
      reader?.resume()
      for (let nth = 0; nth < READS; nth++) expect((await reader?.simpleReply(READ_BYTES))?.error).toBe(0)
      for (const each of readers) each.reset()
      await waitFor('nothing in flight', async () => (await held()) === 0)
      await getsOn(good)
      expect(running.log().filter(({ msg }) => msg === 'bug')).toEqual([])
    } finally {
      slow.process.kill('SIGCONT')
      await slow.process.stop()
    }
  })
})

/** Writes at two places and reads it again. */
async function getsOn(client: RawClient): Promise<void> {
  const content = seededBytes(7, MIB)
  for (const at of [0n, BigInt(32 * MIB)]) {
    client.request(Cmd.WRITE, 1n, at, MIB, content)
    expect((await client.simpleReply()).error).toBe(0)
    client.request(Cmd.READ, 2n, at, MIB)
    expect((await client.simpleReply(MIB)).data.equals(content)).toBe(true)
  }
}
