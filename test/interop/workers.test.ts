// Sessions in two workers: what one process promises, two keep together; and what becomes of it when one of them dies.
import { rename, writeFile } from 'node:fs/promises'
import { type IncomingMessage, request } from 'node:http'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Cmd, Err } from '../../src/protocol/constants.ts'
import type { RunningGateway } from '../support/gateway.ts'
import { runOk, start } from '../support/process.ts'
import { childrenOf, isAlive, signalTo } from '../support/procfs.ts'
import { requires } from '../support/requires.ts'
import { waitFor } from '../support/wait.ts'
import { allow, config, nbdsUri, tlsDoor } from './configs.ts'
import type { RawClient } from './raw-client.ts'
import { enter, entered, nbdgate, test } from './sharing-ground.ts'

const TWO = { workers: 2 }

interface Listed {
  readonly id: number
  readonly who: string
  readonly worker: number
}

/** Asks the admin socket, as the commands do; nothing is as often asked here as that. */
async function ask(socketPath: string, method: string, path: string): Promise<{ status: number; text: string }> {
  const asked = request({ socketPath, method, path }).end()
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    asked.once('response', resolve).once('error', reject)
  })
  let text = ''
  for await (const chunk of response.setEncoding('utf8')) text += chunk
  return { status: response.statusCode ?? 0, text }
}

async function listed(socket: string): Promise<readonly Listed[]> {
  return JSON.parse((await ask(socket, 'GET', '/v1/sessions')).text).sessions
}

/** The worker that a number stands for now. */
function pidOf(running: RunningGateway, worker: number): number {
  const ready = running.log().filter(line => line.msg === 'worker ready' && line.worker === worker)
  return Number(ready.at(-1)?.pid)
}

async function works(client: RawClient): Promise<void> {
  client.request(Cmd.READ, 7n, 0n, 512)
  expect(await client.simpleReply(512)).toMatchObject({ error: Err.NONE, cookie: 7n })
}

async function reload(running: RunningGateway, text: string): Promise<void> {
  const count = () => running.log().filter(({ msg }) => String(msg).startsWith('reload')).length
  const before = count()
  await writeFile(`${running.configFile}.new`, text)
  await rename(`${running.configFile}.new`, running.configFile)
  await running.waitForLog(() => count() >= before + 2)
}

/** The records of a trail that holds. */
async function trail(dir: string): Promise<readonly Readonly<Record<string, unknown>>[]> {
  const file = join(dir, 'state', 'audit.jsonl')
  expect(await nbdgate('audit', 'verify', file)).toMatchObject({ code: 0 })
  const lines = (await runOk(['cat', file])).trim().split('\n')
  return lines.map(line => JSON.parse(line))
}

requires('nbd-server')('two workers', () => {
  test('have a session each, and count them together', async ({ shared, gateway, pki }) => {
    const text = shared.text({ sharing: 'cluster', limits: { sessions: 3 } }, TWO)
    const running = await gateway(text)
    const port = running.port('tls')
    const clients = [
      await entered(port, pki.alice),
      await entered(port, pki.bob),
      await entered(port, pki.alice),
    ] as const
    for (const { client } of clients) await works(client)
    const sessions = await listed(shared.socket)
    expect(sessions.map(({ worker }) => worker).toSorted()).not.toEqual([1, 1, 1])
    expect(new Set(sessions.map(({ worker }) => worker))).toEqual(new Set([1, 2]))
    expect(sessions.map(({ id }) => id)).toEqual(sessions.map(({ id }) => id).toSorted((a, b) => a - b))
    expect(await enter(port, pki.bob)).toMatchObject({ kind: 'refused', text: expect.stringContaining('as many') })
    clients[0].client.reset()
    await waitFor('a place is free', async () => (await enter(port, pki.bob)).kind === 'in')
  })

  test('keep a second writer out, whichever of them he comes to', async ({ shared, gateway, pki }) => {
    const running = await gateway(shared.text({}, TWO))
    const port = running.port('tls')
    const alice = [await entered(port, pki.alice), await entered(port, pki.alice)] as const
    expect(new Set((await listed(shared.socket)).map(({ worker }) => worker))).toEqual(new Set([1, 2]))
    for (let visit = 0; visit < 4; visit++) {
      expect(await enter(port, pki.bob)).toMatchObject({
        kind: 'refused',
        text: expect.stringContaining('cert:cn=alice'),
      })
    }
    const leases = await ask(shared.socket, 'GET', '/v1/leases')
    const two = [expect.any(Number), expect.any(Number)]
    expect(JSON.parse(leases.text).leases).toMatchObject([{ holder: 'cert:cn=alice', sessions: two }])
    expect(await ask(shared.socket, 'DELETE', '/v1/leases?export=disk')).toMatchObject({ status: 200 })
    for (const { client } of alice) await client.closed()
    expect(await enter(port, pki.bob)).toMatchObject({ kind: 'in' })
  })

  test('end those whose rights a reload takes, and take no file that is broken', async ({ shared, gateway, pki }) => {
    const text = shared.text({ sharing: 'cluster' }, TWO)
    const running = await gateway(text)
    const port = running.port('tls')
    const bobs = [await entered(port, pki.bob), await entered(port, pki.bob)] as const
    const alices = [await entered(port, pki.alice), await entered(port, pki.alice)] as const
    await reload(running, text.replace('"exports"', '"exprots"'))
    expect(running.log().at(-1)).toMatchObject({ msg: 'reload failed: all stays as it was' })
    for (const { client } of [...bobs, ...alices]) await works(client)
    await reload(running, text.replace('cert:cn=bob', 'cert:cn=nobody'))
    expect(running.log().find(({ msg }) => msg === 'reloaded')).toMatchObject({ sessionsEnded: 2 })
    for (const { client } of bobs) await client.closed()
    for (const { client } of alices) await works(client)
    for (let visit = 0; visit < 2; visit++) expect(await enter(port, pki.bob)).toMatchObject({ kind: 'refused' })
  })

  test('are one gateway for kick and explain', async ({ shared, gateway, pki }) => {
    const running = await gateway(shared.text({ sharing: 'cluster' }, TWO))
    const port = running.port('tls')
    const [alice, bob] = [await entered(port, pki.alice), await entered(port, pki.bob)]
    const sessions = await listed(shared.socket)
    const at = (who: string) => `/v1/sessions/${sessions.find(each => each.who === who)?.id}`
    for (const who of ['cert:cn=alice', 'cert:cn=bob']) {
      const { text } = await ask(shared.socket, 'GET', `${at(who)}/explanation`)
      expect(JSON.parse(text)).toMatchObject({ decision: { kind: 'granted' } })
    }
    expect(await ask(shared.socket, 'DELETE', at('cert:cn=bob'))).toMatchObject({ status: 204 })
    await bob.client.closed()
    await works(alice.client)
    expect(await ask(shared.socket, 'DELETE', '/v1/sessions/999')).toMatchObject({ status: 404 })
  })

  test('end in order: nobody new, those who are in have their time', async ({ shared, gateway, pki }) => {
    const running = await gateway(shared.text({ sharing: 'cluster' }, TWO))
    const clients = [
      await entered(running.port('tls'), pki.alice),
      await entered(running.port('tls'), pki.bob),
    ] as const
    const workers = childrenOf(running.pid)
    expect(workers).toHaveLength(2)
    running.kill('SIGTERM')
    for (const pid of workers) signalTo(pid, 'SIGTERM')
    await running.waitForLog(({ msg }) => msg === 'draining')
    for (const { client } of clients) await works(client)
    for (const { client } of clients) client.request(Cmd.DISC, 1n, 0n, 0)
    expect(await running.waitForExit()).toMatchObject({ code: 0 })
    const ends = running.log().filter(({ msg }) => msg === 'session ended')
    expect(ends.map(({ why }) => why)).toEqual(['disconnected', 'disconnected'])
    expect(workers.some(isAlive)).toBe(false)
  })

  test('end when the main process is killed', async ({ shared, gateway, pki }) => {
    const running = await gateway(shared.text({}, TWO))
    const { client } = await entered(running.port('tls'), pki.alice)
    const workers = childrenOf(running.pid)
    running.kill('SIGKILL')
    await client.closed()
    await waitFor('the workers are gone', () => !workers.some(isAlive))
  })
})

requires('nbd-server', 'fio')('a worker that is killed', () => {
  test('takes its own sessions along, gives back what they had, and is replaced', { timeout: 120_000 }, async ({
    dir,
    shared,
    gateway,
    pki,
  }) => {
    const text = shared.text({ limits: { sessions: 2 } }, { ...TWO, state: join(dir, 'state') })
    const running = await gateway(text)
    const port = running.port('tls')
    const [first, second] = [await entered(port, pki.alice), await entered(port, pki.alice)]
    const [doomed, other] = await listed(shared.socket)
    expect(doomed?.worker).not.toBe(other?.worker)
    expect(await enter(port, pki.alice)).toMatchObject({ kind: 'refused' })
    const opened = async (): Promise<number> => {
      const { text: metrics } = await ask(shared.socket, 'GET', '/metrics')
      return Number(/^nbdgate_sessions_opened_total\{export="disk"\} (\d+)$/m.exec(metrics)?.[1])
    }
    expect(await opened()).toBe(2)
    signalTo(pidOf(running, doomed?.worker ?? 0), 'SIGKILL')
    await first.client.closed()
    expect(await running.waitForLog(({ msg }) => msg === 'worker died')).toMatchObject({
      level: 'error',
      worker: doomed?.worker,
      signal: 'SIGKILL',
    })
    expect(await running.waitForLog(({ msg }) => msg === 'session ended')).toMatchObject({
      conn: doomed?.id,
      why: 'worker died',
    })
    await works(second.client)
    // What it has counted stays in the sum.
    expect(await opened()).toBe(2)
    // Its place is free, and bob's turn comes when alice's other session has gone too.
    const again = await entered(port, pki.alice)
    expect(await enter(port, pki.bob)).toMatchObject({ kind: 'refused' })
    again.client.reset()
    second.client.reset()
    await waitFor('the lease is free', async () => (await enter(port, pki.bob)).kind === 'in')
    await running.waitForLog(() => running.log().filter(({ msg }) => msg === 'worker ready').length === 3)
    const metrics = (await ask(shared.socket, 'GET', '/metrics')).text.split('\n')
    expect(metrics).toContain('nbdgate_worker_restarts_total 1')
    expect(metrics).toContain('nbdgate_sessions_ended_total{why="worker died"} 1')
    const ends = (await trail(dir)).filter(({ kind }) => kind === 'session ended')
    expect(ends[0]).toMatchObject({ conn: doomed?.id, who: 'cert:cn=alice', export: 'disk', why: 'worker died' })
    expect(ends.filter(({ conn }) => conn === doomed?.id)).toHaveLength(1)
  })

  test('leaves the copy that the other one carries alone', { timeout: 120_000 }, async ({
    dir,
    shared,
    gateway,
    pki,
  }) => {
    const running = await gateway(shared.text({ sharing: 'cluster', limits: { read: '100kB/s' } }, { ...TWO }))
    const port = running.port('tls')
    const doomed = await entered(port, pki.bob)
    const copy = join(dir, 'copy.img')
    const argv = ['nbdcopy', '--connections=1', nbdsUri(port, 'disk', pki.alice), copy]
    const copying = await start(argv, { ready: async () => (await listed(shared.socket)).length === 2 })
    const sessions = await listed(shared.socket)
    const worker = sessions.find(({ who }) => who === 'cert:cn=bob')?.worker
    expect(sessions.find(({ who }) => who === 'cert:cn=alice')?.worker).not.toBe(worker)
    signalTo(pidOf(running, worker ?? 0), 'SIGKILL')
    await doomed.client.closed()
    expect(await copying.waitForExit(60_000)).toMatchObject({ code: 0 })
    await runOk(['cmp', '-n', String(1024 * 1024), copy, shared.file])
  })
})

requires('nbd-server', 'fio')('rates', () => {
  test('hold for the sessions of both workers together', { timeout: 120_000 }, async ({ shared, gateway, pki }) => {
    const running = await gateway(shared.text({ sharing: 'cluster', limits: { iops: 200 } }, TWO))
    const port = running.port('tls')
    const clients = [await entered(port, pki.alice), await entered(port, pki.bob)] as const
    expect(new Set((await listed(shared.socket)).map(({ worker }) => worker)).size).toBe(2)
    const begin = performance.now()
    // 1200 requests at 200 a second; both sessions have their share of them.
    const replies = clients.map(async ({ client }) => {
      for (let cookie = 0n; cookie < 600n; cookie++) client.request(Cmd.READ, cookie, 0n, 512)
      for (let cookie = 0n; cookie < 600n; cookie++) expect((await client.simpleReply(512)).error).toBe(Err.NONE)
    })
    await Promise.all(replies)
    // Never faster, however slow the machine: what budgets hold at first, 0.1 s of it and a part for each worker, is left out.
    expect(performance.now() - begin).toBeGreaterThan(((1200 - 40) / 200) * 1000 * 0.95)
  })
})

requires('nbd-server')('the configuration', () => {
  test('with one worker has no other process', async ({ gateway, pki, shared }) => {
    const running = await gateway(shared.text({}, { workers: 1 }))
    expect(childrenOf(running.pid)).toEqual([])
    await works((await entered(running.port('tls'), pki.alice)).client)
    expect(await listed(shared.socket)).toMatchObject([{ who: 'cert:cn=alice' }])
    expect((await listed(shared.socket))[0]?.worker).toBeUndefined()
  })

  test('that no worker can load keeps the gateway from starting', async ({ dir, pki }) => {
    const file = join(dir, 'nbdgate.yaml')
    const doors = [tlsDoor(pki), { unix: file }]
    await writeFile(file, config(doors, [{ name: 'a', upstream: { file }, allow: [allow('alice', 'read')] }], TWO))
    const { code, stderr } = await nbdgate('serve', '--config', file)
    expect(code).toBe(1)
    expect(stderr).toContain('there is a file that is no socket')
  })
})
