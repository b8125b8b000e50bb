/** SIGUSR2 where programs are run for sessions: what the old process has made is there for the visitors of the new one. */
import { join } from 'node:path'
import { expect } from 'vitest'
import { Cmd } from '../../src/protocol/constants.ts'
import { test as base } from '../support/fixtures.ts'
import type { RunningGateway } from '../support/gateway.ts'
import { isAlive, signalTo } from '../support/procfs.ts'
import { requires } from '../support/requires.ts'
import { waitFor } from '../support/wait.ts'
import { config, type Entry, tcpDoor } from './configs.ts'
import { inside, isServed, upgrade } from './heirs.ts'
import { ANYONE, folders, leftIn, linesOf, nbdgate, script, serversIn } from './hooks-ground.ts'
import type { RawClient } from './raw-client.ts'

const HOST = '127.0.0.1'
const MARK = Buffer.alloc(512, 0x5a)

/** As `overlays list --json` has it, in part. */
interface Overlay {
  readonly id: string
  readonly pid?: number
  readonly sessions: readonly number[]
}

const test = base.extend('lab', async ({ dir, gateway }) => {
  const notes = join(dir, 'notes')
  const note = await script(
    dir,
    'note',
    `echo "$1 $NBDGATE_ID" >> ${notes}\n[ "$1" != prepare ] || truncate -s 1M "$NBDGATE_OVERLAY"`,
  )
  const made = { prepare: [note, 'prepare'], cleanup: [note, 'cleanup'], upstream: { file: '{overlay}' } }
  const begin = async (exported: Entry) => {
    const running = await gateway(
      config([tcpDoor()], [{ name: 'disk', allow: ANYONE, sharing: 'cluster', ...exported }], folders(dir)),
    )
    return { running, tcp: { host: HOST, port: running.port('tcp') } }
  }
  const overlays = async (): Promise<readonly Overlay[]> => {
    const { stdout } = await nbdgate('overlays', 'list', '--socket', join(dir, 'admin.sock'), '--json')
    return JSON.parse(stdout)
  }
  const remove = async (id = '') => await nbdgate('overlays', 'rm', id, '--socket', join(dir, 'admin.sock'))
  const noted = (what: string) => linesOf(notes).filter(line => line.startsWith(what)).length
  return { made, begin, overlays, remove, noted }
})

const memory = (more: Entry = {}): Entry => ({ spawn: ['nbdkit', '-f', '-U', '{socket}', 'memory', '1M'], ...more })

async function mark(client: RawClient, offset: bigint): Promise<void> {
  client.request(Cmd.WRITE, 7n, offset, MARK.length, MARK)
  expect((await client.simpleReply()).error).toBe(0)
}

async function isMarked(client: RawClient, offset: bigint): Promise<boolean> {
  client.request(Cmd.READ, 8n, offset, MARK.length)
  return (await client.simpleReply(MARK.length)).data.equals(MARK)
}

/** Until the first process has gone, all have their log in one place. */
async function lasts(running: RunningGateway, young: RawClient): Promise<void> {
  expect(await isServed(young)).toBe(true)
  expect(isAlive(running.pid)).toBe(true)
}

requires('nbdkit')('an upgrade', () => {
  test('keeps a spawned server for all, as long as somebody is on it', async ({ dir, lab }) => {
    const { running, tcp } = await lab.begin({ upstream: memory() })
    const old = await inside(tcp)
    await mark(old, 0n)
    const heir = await upgrade(running)
    const young = await inside(tcp)
    expect(await isMarked(young, 0n)).toBe(true)
    await mark(young, 4096n)
    expect(await isMarked(old, 4096n)).toBe(true)
    expect(serversIn(running)).toHaveLength(1)
    expect(await lab.overlays()).toMatchObject([
      { export: 'disk', pid: serversIn(running)[0], sessions: [1, expect.any(Number)] },
    ])
    await old.disconnect()
    // The server is the old process's still.
    await waitFor('one session', async () => (await lab.overlays())[0]?.sessions.length === 1)
    await lasts(running, young)
    await young.disconnect()
    expect(await running.waitForExit()).toEqual({ code: 0, signal: null })
    await waitFor('nothing is left', () => leftIn(dir).length === 0)
    const next = await inside(tcp)
    expect(await isMarked(next, 0n)).toBe(false)
    expect(await lab.overlays()).toMatchObject([{ export: 'disk', sessions: [expect.any(Number)] }])
    expect((await lab.overlays())[0]?.pid).not.toBe(serversIn(running)[0])
    expect(isAlive(heir)).toBe(true)
  })

  test('keeps the disk of somebody who is known, whoever lets him in', async ({ dir, lab }) => {
    const { running, tcp } = await lab.begin({ ...lab.made, per: 'identity' })
    const old = await inside(tcp)
    await mark(old, 0n)
    await upgrade(running)
    const young = await inside(tcp)
    expect(await isMarked(young, 0n)).toBe(true)
    expect(lab.noted('prepare')).toBe(1)
    await old.disconnect()
    await waitFor('one session', async () => (await lab.overlays())[0]?.sessions.length === 1)
    await lasts(running, young)
    const id = (await lab.overlays())[0]?.id
    expect(await lab.remove(id)).toMatchObject({ code: 1, stderr: expect.stringContaining('use') })
    await young.disconnect()
    expect(await running.waitForExit()).toEqual({ code: 0, signal: null })
    // It lies in the state folder, and is the new process's.
    await waitFor('its disk', async () => (await lab.overlays()).length === 1)
    const next = await inside(tcp)
    expect(await isMarked(next, 0n)).toBe(true)
    await next.disconnect()
    await waitFor('its end', async () => (await lab.remove(id)).code === 0)
    expect([lab.noted('prepare'), lab.noted('cleanup'), leftIn(dir)]).toEqual([1, 1, []])
  })

  test('lets a disk that nobody uses go over at once', async ({ lab }) => {
    const { running, tcp } = await lab.begin({ ...lab.made, per: 'identity' })
    const old = await inside(tcp)
    await mark(old, 0n)
    await old.disconnect()
    await waitFor('nobody', async () => (await lab.overlays())[0]?.sessions.length === 0)
    const heir = await upgrade(running)
    expect(await running.waitForExit()).toEqual({ code: 0, signal: null })
    const young = await inside(tcp)
    expect(await isMarked(young, 0n)).toBe(true)
    expect([lab.noted('prepare'), lab.noted('cleanup')]).toEqual([1, 0])
    expect(isAlive(heir)).toBe(true)
  })

  test('takes apart what each connection has had, in whichever process', async ({ dir, lab }) => {
    const { running, tcp } = await lab.begin({ ...lab.made, per: 'connection' })
    const old = await inside(tcp)
    const heir = await upgrade(running)
    const young = await inside(tcp)
    await mark(old, 0n)
    expect(await isMarked(young, 0n)).toBe(false)
    expect(await lab.overlays()).toHaveLength(2)
    await old.disconnect()
    expect(await running.waitForExit()).toEqual({ code: 0, signal: null })
    await waitFor('one cleanup', () => lab.noted('cleanup') === 1)
    await young.disconnect()
    await waitFor('nothing is left', () => lab.noted('cleanup') === 2 && leftIn(dir).length === 0)
    expect([lab.noted('prepare'), isAlive(heir)]).toEqual([2, true])
  })

  test('once more, while servers of all three live', async ({ dir, lab }) => {
    const { running, tcp } = await lab.begin({ upstream: memory() })
    const old = await inside(tcp)
    await mark(old, 0n)
    const heir = await upgrade(running)
    const youngest = await upgrade(running, heir)
    const young = await inside(tcp)
    expect(await isMarked(young, 0n)).toBe(true)
    await old.disconnect()
    await lasts(running, young)
    expect([isAlive(heir), serversIn(running).length]).toEqual([true, 1])
    await young.disconnect()
    expect(await running.waitForExit()).toEqual({ code: 0, signal: null })
    await waitFor('the end of the second', () => !isAlive(heir))
    await waitFor('nothing is left', () => leftIn(dir).length === 0)
    expect(await isServed(await inside(tcp))).toBe(true)
    expect(isAlive(youngest)).toBe(true)
  })

  test('goes on with a server of its own when the old process is killed', async ({ lab }) => {
    const { running, tcp } = await lab.begin({ ...lab.made, per: 'export', upstream: memory() })
    const old = await inside(tcp)
    const heir = await upgrade(running)
    const young = await inside(tcp)
    running.kill('SIGKILL')
    await old.closed()
    // nbdkit, which is told to end, says ESHUTDOWN by itself as long as it is there.
    await waitFor('another server', async () => await isServed(young))
    expect((await lab.overlays())[0]?.pid).not.toBe(serversIn(running)[0])
    expect(isAlive(heir)).toBe(true)
    await young.disconnect()
    signalTo(heir, 'SIGTERM')
    await waitFor('its end', () => !isAlive(heir))
    expect(lab.noted('prepare')).toBe(lab.noted('cleanup'))
  })

  test('asks the program for those who come after it, as before it', async ({ lab, nbdkit }) => {
    const upstream = `nbd+unix:///?socket=${await nbdkit('memory', '1M')}`
    const { running, tcp } = await lab.begin({ upstream, authorize: ['true'] })
    const old = await inside(tcp)
    await upgrade(running)
    expect([await isServed(old), await isServed(await inside(tcp))]).toEqual([true, true])
    await old.disconnect()
    expect(await running.waitForExit()).toEqual({ code: 0, signal: null })
  })
})
