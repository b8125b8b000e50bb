/** Exports that a server lists, published without being written down. */
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Opt } from '../../src/protocol/constants.ts'
import { seededFile } from '../support/disk.ts'
import { test } from '../support/fixtures.ts'
import { run, runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { freePort, waitFor } from '../support/wait.ts'
import { config, tcpDoor } from './configs.ts'
import { greeted, infoData } from './raw-client.ts'

const listed = async (uri: string): Promise<string[]> => {
  const { exports = [] } = JSON.parse(await runOk(['nbdinfo', '--list', '--json', uri]))
  return exports.map((each: { 'export-name': string }) => each['export-name'])
}

requires(
  'nbd-server',
  'nbdkit',
  'nbdinfo',
  'nbdcopy',
)('what a server lists', () => {
  test('is found under its prefix, by LIST and by GO, and others of it are not there', async ({
    dir,
    nbdServer,
    gateway,
  }) => {
    const file = join(dir, 'disk.img')
    await writeFile(file, Buffer.alloc(64 * 1024, 'x'))
    const server = await nbdServer({ exports: { vm1: { file }, vm2: { file }, secret: { file } } })
    const exports = [
      {
        name: 'lab-vm*',
        from: `nbd://127.0.0.1:${server.port}/`,
        prefix: 'lab-',
        allow: [{ who: 'anyone', rights: 'read' }],
      },
    ]
    const running = await gateway(config([tcpDoor()], exports))
    const uri = `nbd://127.0.0.1:${running.port('tcp')}`
    expect((await listed(uri)).sort()).toEqual(['lab-vm1', 'lab-vm2'])
    expect(running.log().filter(({ level }) => level !== 'info')).toEqual([])
    const copy = join(dir, 'copy.img')
    await runOk(['nbdcopy', `${uri}/lab-vm2`, copy])
    expect((await run(['cmp', file, copy])).code).toBe(0)
    expect((await run(['nbdinfo', '--size', `${uri}/lab-secret`])).code).not.toBe(0)
    expect((await run(['nbdinfo', '--size', `${uri}/secret`])).code).not.toBe(0)
  })

  test('is there once it is new at the server, without a reload', async ({ dir, nbdkit, gateway }) => {
    for (const name of ['one', 'two']) await writeFile(join(dir, `${name}.img`), Buffer.alloc(4096))
    const folder = join(dir, 'shelf')
    await runOk(['mkdir', folder])
    await runOk(['cp', join(dir, 'one.img'), join(folder, 'one')])
    const upstream = `nbd+unix:///?socket=${await nbdkit('file', `dir=${folder}`)}`
    const exports = [{ from: upstream, refresh: '1h', allow: [{ who: 'anyone', rights: 'read' }] }]
    const running = await gateway(config([tcpDoor()], exports))
    const uri = `nbd://127.0.0.1:${running.port('tcp')}`
    expect(await listed(uri)).toEqual(['one'])
    await runOk(['cp', join(dir, 'two.img'), join(folder, 'two')])
    await waitFor('the new export', async () => (await run(['nbdinfo', '--size', `${uri}/two`])).code === 0)
    expect((await listed(uri)).sort()).toEqual(['one', 'two'])
    await runOk(['rm', join(folder, 'one')])
    running.kill('SIGHUP')
    await running.waitForLog(({ msg }) => msg === 'reloaded')
    expect(await listed(uri)).toEqual(['two'])
  })

  test('is seen by whoever looks at the gateway: exports, what they move, and whether the server answers', async ({
    dir,
    nbdServer,
    gateway,
  }) => {
    const file = await seededFile(join(dir, 'disk.img'), 1)
    const server = await nbdServer({ exports: { vm1: { file }, vm2: { file } } })
    const absent = await freePort()
    const allow = [{ who: 'anyone', rights: 'read' }]
    const exports = [
      { name: 'lab-*', from: `nbd://127.0.0.1:${server.port}/`, prefix: 'lab-', allow },
      { name: 'far-*', from: `nbd://127.0.0.1:${absent}/`, prefix: 'far-', allow },
    ]
    const running = await gateway(config([tcpDoor()], exports, { admin: { http: '127.0.0.1:0' } }))
    const { address } = await running.waitForLog(({ msg }) => msg === 'admin http ready')
    const get = async (path: string) => await fetch(`http://${String(address)}${path}`)
    const uri = `nbd://127.0.0.1:${running.port('tcp')}`
    await runOk(['nbdcopy', '--connections=1', `${uri}/lab-vm2`, 'null:'])
    const client = await greeted({ host: '127.0.0.1', port: running.port('tcp') })
    await client.option(Opt.GO, infoData('lab-vm1'))

    const ready: { checks: { problems: unknown }[] } = await (await get('/readyz')).json()
    expect(ready.checks[1]?.problems).toEqual([`far-*: nbd://127.0.0.1:${absent}/: ECONNREFUSED`])
    expect((await get('/readyz?export=lab-vm1')).status).toBe(200)
    expect((await get('/readyz?export=lab-vm3')).status).toBe(503)
    const found: { exports: { name: string; sessions: number[] }[] } = await (await get('/v1/exports')).json()
    expect(found.exports.toSorted((a, b) => (a.name < b.name ? -1 : 1))).toMatchObject([
      { name: 'lab-vm1', listed: true, upstreamState: 'up', sessions: [expect.any(Number)], bytesRead: 0 },
      { name: 'lab-vm2', listed: true, upstreamState: 'up', sessions: [], bytesRead: 1024 * 1024 },
    ])
    expect(await (await get('/v1/regions?export=lab-vm1')).json()).toMatchObject({ sizeBytes: 1024 * 1024 })
    const metrics = await (await get('/metrics')).text()
    for (const series of [
      'nbdgate_payload_bytes_total{export="other",direction="read"} 1048576',
      'nbdgate_sessions{export="other",rights="read"} 1',
      'nbdgate_leases{export="other",access="read"} 1',
      'nbdgate_upstream_up{export="lab-*"} 1',
      'nbdgate_upstream_up{export="far-*"} 0',
    ]) {
      expect(metrics.split('\n')).toContain(series)
    }
    expect(metrics).not.toContain('lab-vm')
    await client.disconnect()
  })

  test('does not keep the gateway from serving what is written down when it is nonsense', async ({
    nbdkit,
    gateway,
  }) => {
    const nonsense = createServer(socket => {
      socket.on('error', () => {})
      socket.end(Buffer.alloc(100_000, 'x'))
    }).listen(0, '127.0.0.1')
    try {
      await once(nonsense, 'listening')
      const address = nonsense.address()
      const port = typeof address === 'object' ? address?.port : 0
      const upstream = `nbd+unix:///?socket=${await nbdkit('memory', '1M')}`
      const allow = [{ who: 'anyone', rights: 'read' }]
      const running = await gateway(
        config(
          [tcpDoor()],
          [
            { name: 'disk', upstream, allow },
            { from: `nbd://127.0.0.1:${port}/`, allow },
          ],
        ),
      )
      expect(await listed(`nbd://127.0.0.1:${running.port('tcp')}`)).toEqual(['disk'])
      await running.waitForLog(({ msg }) => msg === 'exports can not be listed')
    } finally {
      nonsense.close()
    }
  })
})
