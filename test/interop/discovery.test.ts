/** Exports that a server lists, published without being written down. */
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { expect } from 'vitest'
import { test } from '../support/fixtures.ts'
import { run, runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { waitFor } from '../support/wait.ts'
import { config, tcpDoor } from './configs.ts'

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
    const uri = `nbd://127.0.0.1:${(await gateway(config([tcpDoor()], exports))).port('tcp')}`
    expect((await listed(uri)).sort()).toEqual(['lab-vm1', 'lab-vm2'])
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
