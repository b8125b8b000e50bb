// Bad lines, frozen servers and full disks under a client that verifies what it reads: nothing is lost, and nothing is left behind.
// CHAOS_SEED repeats the order of a run.

import { rmSync } from 'node:fs'
import { truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'
import { Cmd, Opt, Rep } from '../../src/protocol/constants.ts'
import { type BadLine, FAULTS, seeded, startBadLine } from '../chaos/bad-line.ts'
import { seededBytes } from '../support/disk.ts'
import { childrenOf, signalIfAlive } from '../support/procfs.ts'
import { requires } from '../support/requires.ts'
import { startNbdServer } from '../support/servers.ts'
import { waitFor } from '../support/wait.ts'
import { config, tcpDoor } from './configs.ts'
import { greeted, infoData, type RawClient } from './raw-client.ts'
import { test as base, fioVerifies } from './resume-ground.ts'
import { holdingsOf, nothingLeft, SCRAPED } from './scrape.ts'

const SEED = Number(process.env.CHAOS_SEED ?? '7')
const ANYONE = [{ who: 'anyone', rights: 'write' }]
const ENOSPC = 28
const SIZE_MIB = 32

const test = base
  /** An nbd-server: its port, and what signals it and all that serves for it. */
  .extend('server', async ({ dir }, { onCleanup }) => {
    const file = join(dir, 'disk.img')
    await writeFile(file, '')
    await truncate(file, SIZE_MIB * 1024 * 1024)
    const server = await startNbdServer(dir, 'server', { exports: { disk: { file, flush: true, fua: true } } })
    const signal = (name: NodeJS.Signals): void => {
      for (const pid of [server.pid, ...childrenOf(server.pid)]) signalIfAlive(pid, name)
    }
    onCleanup(async () => {
      signal('SIGCONT')
      await server.stop()
    })
    return { port: server.port, signal }
  })
  .extend('line', async ({ server }, { onCleanup }): Promise<BadLine> => {
    const line = await startBadLine(server.port)
    onCleanup(line.stop)
    return line
  })

requires(
  'nbd-server',
  'nbdkit',
  'fio',
)('a client that verifies', () => {
  test('notices nothing of a bad line to the server, nor of one that freezes; and nothing is left behind', {
    timeout: 120_000,
  }, async ({ dir, server, line, gateway }) => {
    const upstream = `nbd://127.0.0.1:${line.port}/disk`
    const exports = [{ name: 'disk', upstream, allow: ANYONE, reconnect: '60s', 'replay-buffer': '64MiB' }]
    const running = await gateway(config([tcpDoor()], exports, SCRAPED))
    const uri = `nbd://127.0.0.1:${running.port('tcp')}/disk`
    const before = await holdingsOf(running)
    const random = seeded(SEED)
    const kinds = [...FAULTS, 'freeze'] as const
    const struck: string[] = []
    let isOver = false
    const trouble = async (): Promise<void> => {
      while (!isOver) {
        await delay(100 + 200 * random())
        // Only who is in survives: a server that is away lets nobody in.
        if (!isWorking()) continue
        const kind =
          kinds[struck.length < kinds.length ? struck.length : Math.floor(random() * kinds.length)] ?? 'reset'
        const ms = 50 + 250 * random()
        if (kind === 'freeze') {
          server.signal('SIGSTOP')
          await delay(ms)
          server.signal('SIGCONT')
        } else await line.strike(kind, ms)
        struck.push(kind)
      }
    }
    const lines = (what: string): number => running.log().filter(({ msg }) => msg === what).length
    let opened = 0
    /** fio looks at the disk on one connection, and works on the next. */
    const isWorking = (): boolean =>
      lines('session opened') >= opened + 2 && lines('session opened') > lines('session ended')
    const work = async (): Promise<void> => {
      do {
        await waitFor('a server that is there', () => lines('upstream lost') === lines('upstream back'))
        opened = lines('session opened')
        await fioVerifies(dir, uri)
      } while (struck.length < kinds.length)
    }
    await Promise.all([
      trouble(),
      work().finally(() => {
        isOver = true
      }),
    ])
    expect([...new Set(struck)].toSorted()).toEqual([...kinds].toSorted())
    expect(lines('upstream back')).toBeGreaterThan(0)
    expect(running.log().filter(({ msg }) => msg === 'bug' || msg === 'unflushed writes lost')).toEqual([])
    await waitFor('all connections to end', () => line.count === 0)
    await nothingLeft(running, before)
  })

  test('is told that the disk is full, keeps its session, and can write when there is room', async ({
    dir,
    nbdkit,
    gateway,
  }) => {
    // While this file is there.
    const full = join(dir, 'full')
    const errors = ['error=ENOSPC', 'error-pwrite-rate=100%', `error-pwrite-file=${full}`]
    const upstream = `nbd+unix:///?socket=${await nbdkit('--filter=error', 'memory', '1M', ...errors)}`
    const exports = [{ name: 'disk', upstream, allow: ANYONE }]
    const running = await gateway(config([tcpDoor()], exports, SCRAPED))
    const before = await holdingsOf(running)
    const client = await greeted({ host: '127.0.0.1', port: running.port('tcp') })
    expect((await client.option(Opt.GO, infoData('disk'))).at(-1)?.type).toBe(Rep.ACK)
    const content = seededBytes(SEED, 4096)
    const write = async (): Promise<number> => {
      client.request(Cmd.WRITE, 1n, 0n, content.length, content)
      return (await client.simpleReply()).error
    }
    await writeFile(full, '')
    expect(await write()).toBe(ENOSPC)
    expect(await firstBlock(client)).toEqual(Buffer.alloc(4096))
    rmSync(full)
    expect(await write()).toBe(0)
    expect(await firstBlock(client)).toEqual(content)
    await client.disconnect()
    await nothingLeft(running, before)
    expect(running.log().filter(({ msg }) => msg === 'bug')).toEqual([])
  })
})

async function firstBlock(client: RawClient): Promise<Buffer> {
  client.request(Cmd.READ, 2n, 0n, 4096)
  return (await client.simpleReply(4096)).data
}
