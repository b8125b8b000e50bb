// The end of a gateway as its clients see it: who haggles is told, what is in flight is answered, what comes later is ESHUTDOWN.
import { join } from 'node:path'
import { expect } from 'vitest'
import { Opt, Rep } from '../../src/protocol/constants.ts'
import { test } from '../support/fixtures.ts'
import { MAIN } from '../support/gateway.ts'
import { run, runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { isConnectable, waitFor } from '../support/wait.ts'
import { config, tcpDoor } from './configs.ts'
import { greeted, infoData, type RawClient, told } from './raw-client.ts'

const HOST = '127.0.0.1'
const ALLOW = [{ who: 'address:127.0.0.0/8', rights: 'write' }]
const ESHUTDOWN = 108
const READ = 0
const SHUTTING_DOWN = ['80000007 the gateway is shutting down']

async function inside(port: number): Promise<RawClient> {
  const client = await greeted({ host: HOST, port })
  await client.option(Opt.GO, infoData('disk'))
  return client
}

requires(
  'nbdkit',
  'fio',
  'nbdinfo',
)('a gateway that drains', () => {
  test('tells all who haggle, whatever they ask for', async ({ nbdkit, gateway }) => {
    const exports = [{ name: 'disk', upstream: `nbd+unix:///?socket=${await nbdkit('memory', '1M')}`, allow: ALLOW }]
    const running = await gateway(config([tcpDoor()], exports))
    const port = running.port('tcp')
    const [haggling, old, inIt] = [
      await greeted({ host: HOST, port }),
      await greeted({ host: HOST, port }),
      await inside(port),
    ]
    running.kill('SIGTERM')
    await running.waitForLog(({ msg }) => msg === 'draining')
    await waitFor('the door is closed', async () => !(await isConnectable({ host: HOST, port })))
    for (const option of [Opt.LIST, Opt.STRUCTURED_REPLY, Opt.STARTTLS])
      expect(told(await haggling.option(option))).toEqual(SHUTTING_DOWN)
    for (const option of [Opt.INFO, Opt.GO])
      expect(told(await haggling.option(option, infoData('disk')))).toEqual(SHUTTING_DOWN)
    expect(await haggling.option(Opt.ABORT)).toMatchObject([{ type: Rep.ACK }])
    // EXPORT_NAME has no answer but the end.
    old.write(Buffer.from('49484156454f50540000000100000004', 'hex'), Buffer.from('disk'))
    expect(await old.closed()).toHaveLength(0)
    await inIt.disconnect()
    expect(await running.waitForExit()).toEqual({ code: 0, signal: null })
  })

  test('answers what is in flight when the time is over, and ESHUTDOWN to all that comes later', async ({
    dir,
    nbdkit,
    gateway,
  }) => {
    const socket = await nbdkit('--filter=delay', 'memory', '1M', 'delay-read=2')
    const exports = [{ name: 'disk', upstream: `nbd+unix:///?socket=${socket}`, allow: ALLOW }]
    const admin = { socket: join(dir, 'admin.sock') }
    const running = await gateway(config([tcpDoor()], exports, { admin, limits: { drain: '0s' } }))
    const client = await inside(running.port('tcp'))
    client.request(READ, 1n, 0n, 4096)
    await waitFor('the request is out', async () => {
      const [session] = JSON.parse(
        await runOk([process.execPath, MAIN, 'sessions', '--json', '--socket', admin.socket]),
      )
      return session?.inFlight === 1
    })
    expect(await run([process.execPath, MAIN, 'drain', '--socket', admin.socket])).toMatchObject({ code: 0 })
    await running.waitForLog(({ msg }) => msg === 'draining')
    // Until the drain has come to its end, which is at once, requests are still passed on: the first no is what counts.
    let refused = false
    for (let cookie = 2n; !refused; cookie++) {
      client.request(READ, cookie, 0n, 512)
      const answer = await client.simpleReply(cookie === 2n ? 4096 : 512)
      if (answer.cookie !== cookie) break
      refused = answer.error === ESHUTDOWN
    }
    expect(refused).toBe(true)
    const last = await client.simpleReply(4096)
    expect(last).toMatchObject({ error: 0, cookie: 1n, data: Buffer.alloc(4096) })
    expect(await client.closed()).toHaveLength(0)
    expect(await running.waitForExit()).toEqual({ code: 0, signal: null })
    expect(running.log().find(({ msg }) => msg === 'session ended')).toMatchObject({ why: 'gateway stopped' })
  })

  test('loses no reply of fio', async ({ dir, nbdkit, gateway }) => {
    const exports = [{ name: 'disk', upstream: `nbd+unix:///?socket=${await nbdkit('memory', '16M')}`, allow: ALLOW }]
    const running = await gateway(config([tcpDoor()], exports, { limits: { drain: '300ms' } }))
    const job = ['--name=drain', '--rw=randrw', '--bs=4k', '--iodepth=32', '--size=16M', '--time_based', '--runtime=60']
    const where = ['--ioengine=nbd', `--uri=nbd://${HOST}:${running.port('tcp')}/disk`]
    const fio = run(['fio', '--output-format=json', ...where, ...job], { cwd: dir })
    // The first one is to learn the size.
    await waitFor('fio is at work', () => running.log().filter(({ msg }) => msg === 'session opened').length === 2)
    running.kill('SIGTERM')
    const { stdout } = await fio
    const report = JSON.parse(stdout.slice(stdout.indexOf('{\n')))
    expect(report.jobs[0].error).toBe(ESHUTDOWN)
    expect(await running.waitForExit()).toEqual({ code: 0, signal: null })
  })
})
