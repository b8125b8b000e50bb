// The audit trail beside real clients: what it says, that it outlives the gateway, and what happens on a full disk.
import { existsSync } from 'node:fs'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect } from 'vitest'
import { Cmd, Opt, Rep } from '../../src/protocol/constants.ts'
import { seededFile } from '../support/disk.ts'
import { test as base } from '../support/fixtures.ts'
import { MAIN, type RunningGateway } from '../support/gateway.ts'
import { run, runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { waitFor } from '../support/wait.ts'
import { allow, config, type Entry, nbdsUri, tcpDoor, tlsDoor } from './configs.ts'
import { exportInfo, greeted, infoData, type RawClient } from './raw-client.ts'

type Record = Readonly<globalThis.Record<string, unknown>>

const KIB = 1024
const anyone: Entry = { who: 'anyone', rights: 'write' }

const test = base.extend('disk', async ({ dir, nbdServer }) => {
  return async (rules: Entry): Promise<Entry> => {
    const server = await nbdServer({
      exports: { disk: { file: await seededFile(join(dir, 'disk.img'), 1), flush: true } },
    })
    return { name: 'disk', upstream: server.uri('disk'), ...rules }
  }
})

/** The records of a trail, as the program itself reads them. */
async function records(file: string): Promise<Record[]> {
  return JSON.parse(await runOk([process.execPath, MAIN, 'audit', 'show', '--json', file]))
}

async function verified(...files: string[]) {
  return await run([process.execPath, MAIN, 'audit', 'verify', ...files])
}

/** Waits until the trail has so many records of a kind. */
async function recorded(file: string, kind: string, count = 1): Promise<Record[]> {
  let found: Record[] = []
  await waitFor(`${count} × ${kind}`, async () => {
    if (!existsSync(file)) return false
    found = (await records(file)).filter(record => record.kind === kind)
    return found.length >= count
  })
  return found
}

/** A visitor in plaintext who asks for an export; the last answer's type. */
async function asks(
  gateway: RunningGateway,
  name = 'disk',
): Promise<{ client: RawClient; answer: number | undefined }> {
  const client = await greeted({ host: '127.0.0.1', port: gateway.port('tcp') })
  return { client, answer: (await client.option(Opt.GO, infoData(name))).at(-1)?.type }
}

async function readsWell(client: RawClient, cookie: bigint): Promise<void> {
  client.request(Cmd.READ, cookie, 0n, 4096)
  expect(await client.simpleReply(4096)).toMatchObject({ error: 0, cookie })
}

requires(
  'nbd-server',
  'nbdinfo',
  'nbdcopy',
  'qemu-io',
)('the audit trail', () => {
  test('says who was let in and who was not, how proven, by which line, and what was done', async ({
    dir,
    disk,
    gateway,
    pki,
  }) => {
    const rules = { allow: [allow('alice', 'write')], deny: ['cert:cn=bob'] }
    const running = await gateway(config([tlsDoor(pki)], [await disk(rules)], { state: './state' }))
    const trail = join(dir, 'state', 'audit.jsonl')
    const port = running.port('tls')
    const credentials = `tls-creds-x509,id=tls0,dir=${pki.alice.dir},endpoint=client`
    const image = `driver=nbd,server.type=inet,server.host=localhost,server.port=${port},export=disk,tls-creds=tls0`
    await runOk([
      'qemu-io',
      '--object',
      credentials,
      '-c',
      'write 0 64k',
      '-c',
      'flush',
      '-c',
      'read 0 4k',
      '--image-opts',
      image,
    ])
    expect((await run(['nbdinfo', nbdsUri(port, 'disk', pki.bob)])).code).not.toBe(0)
    expect((await run(['nbdinfo', nbdsUri(port, 'nowhere', pki.alice)])).code).not.toBe(0)
    // libnbd sends no certificate of an authority that the server has not named.
    expect((await run(['nbdinfo', nbdsUri(port, 'disk', pki.mallory)])).code).not.toBe(0)

    const [ended] = await recorded(trail, 'session ended')
    const refused = await recorded(trail, 'session refused', 3)
    const shown = JSON.parse(await runOk([process.execPath, MAIN, 'certs', 'show', '--json', pki.alice.cert]))
    const proof = { by: 'certificate', serial: shown.serial, fingerprint: `SHA256:${shown.fingerprint}` }
    const alice = { who: 'cert:cn=alice', proof, door: 'tls', peer: expect.stringContaining('127.0.0.1:') }
    const lines = (await readFile(running.configFile, 'utf8')).split('\n')
    const lineOf = (text: string) => `nbdgate.yaml:${lines.findIndex(line => line.includes(text))}`
    expect(await records(trail)).toMatchObject([
      { seq: 1, kind: 'gateway started', pid: running.pid },
      {
        seq: 2,
        kind: 'session opened',
        ...alice,
        export: 'disk',
        rights: 'write',
        decision: 'granted',
        rule: lineOf('cn=alice'),
      },
      ...Array.from({ length: 4 }, () => ({})),
    ])
    expect(ended).toMatchObject({ ...alice, opened: 2, writes: 1, bytesWritten: 64 * KIB, flushes: expect.any(Number) })
    expect(ended).toMatchObject({ reads: 1, bytesRead: 4 * KIB, refused: 0, why: 'disconnected' })
    expect(refused).toMatchObject([
      {
        who: 'cert:cn=bob',
        export: 'disk',
        decision: 'refused',
        reason: 'denied',
        rule: expect.stringContaining('nbdgate.yaml:'),
      },
      { who: 'cert:cn=alice', export: 'nowhere', reason: 'no such export' },
      { who: expect.stringContaining('address:127.0.0.1'), reason: 'tls: no certificate' },
    ])
    expect(await running.stop()).toBe(0)
    expect((await records(trail)).at(-1)).toMatchObject({ kind: 'gateway stopped' })
    expect((await verified(trail)).stdout).toContain(': intact: 7 records')
    expect((await stat(join(dir, 'state'))).mode & 0o777).toBe(0o700)
    expect((await stat(trail)).mode & 0o777).toBe(0o600)
  })

  test('has each opening on the disk before the client is answered, many at once', async ({ dir, disk, gateway }) => {
    const running = await gateway(config([tcpDoor()], [await disk({ allow: [anyone] })], { state: './state' }))
    const trail = join(dir, 'state', 'audit.jsonl')
    const seen = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const { client, answer } = await asks(running)
        const text = await readFile(trail, 'utf8')
        await client.disconnect()
        return { answer, opened: text.split('\n').filter(line => line.includes('"session opened"')).length }
      }),
    )
    expect(seen.map(({ answer }) => answer)).toEqual(seen.map(() => Rep.ACK))
    expect(
      seen
        .map(({ opened }) => opened)
        .sort((a, b) => a - b)
        .every((opened, index) => opened > index),
    ).toBe(true)
    await recorded(trail, 'session ended', 20)
    expect((await verified(trail)).code).toBe(0)
  })

  test('goes on after the gateway was killed in the middle of a session', async ({ dir, disk, gateway }) => {
    const yaml = config([tcpDoor()], [await disk({ allow: [anyone] })], { state: './state' })
    const trail = join(dir, 'state', 'audit.jsonl')
    const killed = await gateway(yaml)
    const { client } = await asks(killed)
    await readsWell(client, 1n)
    killed.kill('SIGKILL')
    await killed.waitForExit()
    expect((await verified(trail)).stdout).toContain(': intact: 2 records')
    // As a crash of the host might leave it.
    const text = await readFile(trail, 'utf8')
    await writeFile(trail, text.slice(0, -30))
    expect(await verified(trail)).toMatchObject({ code: 0, stdout: expect.stringContaining(':2: torn: ') })

    const next = await gateway(yaml)
    const { client: second, answer } = await asks(next)
    expect(answer).toBe(Rep.ACK)
    await second.disconnect()
    await recorded(trail, 'session ended')
    expect((await verified(trail)).code).toBe(0)
    expect((await records(trail)).map(({ kind }) => kind)).toEqual([
      'gateway started',
      'trail repaired',
      'gateway started',
      'session opened',
      'session ended',
    ])
  })

  test('belongs to one gateway: a second one on the same folder does not start', async ({ dir, disk, gateway }) => {
    const yaml = config([tcpDoor()], [await disk({ allow: [anyone] })], { state: './state' })
    const running = await gateway(yaml)
    const second = await run([process.execPath, MAIN, 'serve', '--config', running.configFile])
    expect(second.code).toBe(1)
    expect(second.stderr).toContain(`process ${running.pid} writes this audit trail`)
    expect((await asks(running)).answer).toBe(Rep.ACK)
    expect((await verified(join(dir, 'state', 'audit.jsonl'))).code).toBe(0)
  })

  test('is followed through its files', async ({ dir, disk, gateway }) => {
    const more = { state: './state', audit: { 'rotate-size': '64KiB' } }
    const running = await gateway(config([tcpDoor()], [await disk({ allow: [anyone] })], more))
    for (let i = 0; i < 100; i++) await (await asks(running)).client.disconnect()
    await running.stop()
    const files = (await runOk(['sh', '-c', 'ls state/audit*.jsonl'], { cwd: dir })).trim().split('\n')
    expect(files[0]).toBe('state/audit-000000000001.jsonl')
    expect(files.length).toBeGreaterThan(1)
    expect(files.at(-1)).toBe('state/audit.jsonl')
    const paths = files.map(file => join(dir, file))
    expect(await verified(...paths)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/intact: \d+ records, 1 to/),
    })
    expect((await verified(...paths.toReversed())).code).toBe(1)
  })
})

const canMount = process.getuid?.() === 0 && (await run(['unshare', '-m', 'true'])).code === 0

requires('nbd-server')('a full disk under the audit trail', () => {
  describe.runIf(canMount)('of its own', () => {
    const FILL = 'dd if=/dev/zero of=state/filler bs=4096 status=none 2>/dev/null; true'

    /** A small file system under `state`, mounted for the time of the test. */
    const mounted = test.extend('small', async ({ dir }, { onCleanup }) => {
      const state = join(dir, 'state')
      await mkdir(state, { mode: 0o700 })
      await runOk(['mount', '-t', 'tmpfs', '-o', 'size=64k,mode=0700', 'tmpfs', state])
      onCleanup(() => runOk(['umount', '-l', state]).then(() => {}))
      return {
        trail: join(state, 'audit.jsonl'),
        fill: () => runOk(['sh', '-c', FILL], { cwd: dir }),
        free: () => runOk(['rm', join(state, 'filler')]),
      }
    })

    mounted('keeps newcomers out, cuts nobody off, and opens again by itself', async ({ small, disk, gateway }) => {
      const running = await gateway(config([tcpDoor()], [await disk({ allow: [anyone] })], { state: './state' }))
      const { client: early } = await asks(running)
      await small.fill()
      // The page that the trail ends in may have room yet.
      const late: RawClient[] = []
      const refused = async () => {
        const { client, answer } = await asks(running)
        late.push(client)
        return answer !== Rep.ACK
      }
      await waitFor('a refusal', refused)
      const { client, answer } = await asks(running)
      expect(answer).toBe(Rep.ERR_PLATFORM)
      const failed = await running.waitForLog(({ msg }) => msg === 'audit trail failed')
      expect(failed).toMatchObject({ level: 'error', code: 'WRITE', err: { cause: { code: 'ENOSPC' } } })
      expect(running.log().filter(({ msg }) => msg === 'audit trail failed')).toHaveLength(1)
      await running.waitForLog(({ msg, reason }) => msg === 'refused' && reason === 'audit trail')
      for (let cookie = 1n; cookie < 20n; cookie++) await readsWell(early, cookie)
      expect((await verified(small.trail)).code).toBe(0)

      await small.free()
      // The same connection asks again, and gets in.
      const again = await client.option(Opt.GO, infoData('disk'))
      expect(again.at(-1)?.type).toBe(Rep.ACK)
      expect(exportInfo(again).size).toBe(1024n * 1024n)
      await running.waitForLog(({ msg }) => msg === 'audit trail works again')
      await early.disconnect()
      for (const each of [...late, client]) each.reset()
      const reasons = (await recorded(small.trail, 'session refused')).map(({ reason }) => reason)
      expect(new Set(reasons)).toEqual(new Set(['audit trail']))
      const ended = await recorded(small.trail, 'session ended')
      expect(ended.find(({ conn }) => conn === 1)).toMatchObject({ reads: 19, bytesRead: 19 * 4096, opened: 2 })
      expect(await running.stop()).toBe(0)
      expect(await verified(small.trail)).toMatchObject({ code: 0, stdout: expect.stringMatching(/^[^\n]*: intact/) })
    })

    mounted('lets them in with `on-failure: warn`, and writes it down later', async ({ small, disk, gateway }) => {
      await small.fill()
      const more = { state: './state', audit: { 'on-failure': 'warn' } }
      const running = await gateway(config([tcpDoor()], [await disk({ allow: [anyone] })], more))
      const { client, answer } = await asks(running)
      expect(answer).toBe(Rep.ACK)
      await readsWell(client, 1n)
      expect(await running.waitForLog(({ msg }) => msg === 'audit trail failed')).toMatchObject({ level: 'error' })
      await small.free()
      await client.disconnect()
      expect(await recorded(small.trail, 'session opened')).toHaveLength(1)
      expect(await recorded(small.trail, 'session ended')).toMatchObject([{ reads: 1 }])
      expect((await verified(small.trail)).code).toBe(0)
    })

    mounted('from the start on keeps all out until there is room', async ({ small, disk, gateway }) => {
      await small.fill()
      const running = await gateway(config([tcpDoor()], [await disk({ allow: [anyone] })], { state: './state' }))
      expect((await asks(running)).answer).toBe(Rep.ERR_PLATFORM)
      await small.free()
      expect((await asks(running)).answer).toBe(Rep.ACK)
      expect((await records(small.trail)).map(({ kind }) => kind)).toContain('gateway started')
    })
  })
})
