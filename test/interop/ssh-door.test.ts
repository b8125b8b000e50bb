// The SSH door as people use it: the real ssh, nbdcopy and nbdinfo in front of the real nbd-server.
import { join } from 'node:path'
import { expect } from 'vitest'
import { seededFile, sha256 } from '../support/disk.ts'
import { run, runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { config } from './configs.ts'
import { greeted } from './raw-client.ts'
import { sshConfig, test as withSsh } from './ssh-support.ts'

const test = withSsh
  /** A gateway with a key that may come in, nbd-server behind it, and `disk` at the end. */
  .extend('lab', async ({ disk, files, gateway, nbdServer }) => {
    const key = await files.key('user')
    files.authorize(`restrict ${files.publicKey('user')}`)
    const server = await nbdServer({ exports: { disk: { file: disk, flush: true, fua: true } } })
    const running = await gateway(sshConfig(files, `nbd://127.0.0.1:${server.port}/disk`))
    return { running, call: { port: running.port('ssh'), key } }
  })

const FORWARDS = { 'host and port': 'nbd:10809', exports: '/exports', 'one export': '/exports/disk' } as const

requires(
  'ssh',
  'ssh-keygen',
  'nbd-server',
  'nbdcopy',
  'nbdinfo',
  'socat',
)('the SSH door', () => {
  for (const [name, target] of Object.entries(FORWARDS)) {
    test(`carries bytes both ways, unchanged, through ssh -L to ${name}`, async ({ dir, disk, lab, tunnel }) => {
      const socket = join(dir, 'l.sock')
      await tunnel(lab.call, { [socket]: target })
      const uri = `nbd+unix:///${target === '/exports/disk' ? '' : 'disk'}?socket=${socket}`
      await expectBothWays(dir, disk, uri)
      expect(lab.running.log().find(({ msg }) => msg === 'session opened')).toMatchObject({
        who: 'ssh:user=bob',
        door: 'ssh',
        export: 'disk',
        key: expect.stringMatching(/^SHA256:/),
      })
    })
  }

  for (const [name, words] of [
    ['ssh -W', ['-W', 'nbd:10809']],
    ['the command nbd', ['nbd']],
    ['the subsystem nbd', ['-s', 'nbd']],
  ] as const) {
    test(`carries bytes both ways, unchanged, through ${name}`, async ({ dir, disk, files, lab, pipe }) => {
      const isOption = words[0] === '-W'
      const call = isOption ? { ...lab.call, options: words } : lab.call
      const socket = await pipe('w.sock', files.argv(call, ...(isOption ? [] : words)))
      await expectBothWays(dir, disk, `nbd+unix:///disk?socket=${socket}`)
    })
  }

  test('makes the export of the path the default one, and the only one', async ({ dir, lab, tunnel }) => {
    const [one, all] = [join(dir, 'one.sock'), join(dir, 'all.sock')]
    await tunnel(lab.call, { [one]: '/exports/disk', [all]: '/exports' })
    const names = async (socket: string): Promise<unknown> => {
      const { exports } = JSON.parse(await runOk(['nbdinfo', '--list', '--json', `nbd+unix:///?socket=${socket}`]))
      return exports.map((each: Record<string, unknown>) => each['export-name'])
    }
    expect(await names(one)).toEqual(['disk'])
    expect(await names(all)).toEqual(['disk', 'other'])
    await runOk(['nbdinfo', `nbd+unix:///?socket=${one}`])
    await runOk(['nbdinfo', `nbd+unix:///disk?socket=${one}`])
    expect((await run(['nbdinfo', `nbd+unix:///other?socket=${one}`])).stderr).toContain('other')
    expect((await run(['nbdinfo', `nbd+unix:///?socket=${all}`])).code).not.toBe(0)
  })

  test('serves eight channels of one connection at once', async ({ dir, disk, lab, tunnel }) => {
    const socket = join(dir, 'eight.sock')
    await tunnel(lab.call, { [socket]: '/exports/disk' })
    const copies = Array.from({ length: 8 }, (_, i) => join(dir, `copy-${i}.img`))
    const uri = `nbd+unix:///?socket=${socket}`
    await Promise.all(copies.map(copy => runOk(['nbdcopy', '--connections=1', uri, copy])))
    const wanted = await sha256(disk)
    for (const copy of copies) expect(await sha256(copy)).toBe(wanted)
    expect(lab.running.log().filter(({ msg }) => msg === 'ssh login')).toHaveLength(1)
  })

  test('keeps every byte while keys change all the time', async ({ dir, disk, lab, tunnel }) => {
    const socket = join(dir, 'rekey.sock')
    await tunnel({ ...lab.call, options: ['-o', 'RekeyLimit=1M'] }, { [socket]: '/exports/disk' })
    await expectBothWays(dir, disk, `nbd+unix:///?socket=${socket}`, '--connections=4')
  })

  test('knows who may write by user, key and address', async ({ dir, disk, files, gateway, nbdServer, tunnel }) => {
    const [alice, bob] = [await files.key('alice'), await files.key('bob', 'ecdsa', 521)]
    files.authorize(`principals="alice" ${files.publicKey('alice')}`, `principals="bob" ${files.publicKey('bob')}`)
    const server = await nbdServer({ exports: { disk: { file: disk, flush: true } } })
    const print = (await runOk(['ssh-keygen', '-lf', `${bob}.pub`])).split(' ')[1]
    const upstream = `nbd://127.0.0.1:${server.port}/disk`
    const allow = [
      { who: ['ssh:user=alice', 'address:127.0.0.0/8'], rights: 'write' },
      { who: `ssh:key=${print}`, rights: 'read' },
    ]
    const running = await gateway(config([files.door()], [{ name: 'disk', upstream, allow }]))
    const port = running.port('ssh')
    const sockets = { alice: join(dir, 'a.sock'), bob: join(dir, 'b.sock') }
    await tunnel({ port, key: alice, user: 'alice' }, { [sockets.alice]: '/exports/disk' })
    await tunnel({ port, key: bob, user: 'bob' }, { [sockets.bob]: '/exports/disk' })
    const isReadOnly = async (socket: string): Promise<unknown> =>
      JSON.parse(await runOk(['nbdinfo', '--json', `nbd+unix:///?socket=${socket}`])).exports[0].is_read_only
    expect(await isReadOnly(sockets.alice)).toBe(false)
    expect(await isReadOnly(sockets.bob)).toBe(true)
    // A key that a line binds to a name is nobody else's.
    expect((await run(files.argv({ port, key: bob, user: 'alice' }, 'nbd'))).code).toBe(255)
    await running.waitForLog(({ reason }) => reason === 'a key of somebody else')
  })

  test('refuses STARTTLS in the channel with ERR_POLICY, and goes on', async ({ lab, dir, tunnel }) => {
    const socket = join(dir, 'tls.sock')
    await tunnel(lab.call, { [socket]: 'nbd:10809' })
    const client = await greeted({ path: socket })
    const [STARTTLS, LIST, ERR_POLICY, ACK] = [5, 3, 0x8000_0002, 1]
    expect((await client.option(STARTTLS)).map(({ type }) => type)).toEqual([ERR_POLICY])
    expect((await client.option(LIST)).at(-1)?.type).toBe(ACK)
  })

  test('drains: a tunnel that nobody uses does not keep the gateway', async ({ dir, lab, tunnel }) => {
    const socket = join(dir, 'idle.sock')
    const ssh = await tunnel(lab.call, { [socket]: '/exports/disk' })
    await runOk(['nbdinfo', `nbd+unix:///?socket=${socket}`])
    expect(await lab.running.stop()).toBe(0)
    expect((await ssh.waitForExit()).code).not.toBe(null)
  })
})

async function expectBothWays(dir: string, disk: string, uri: string, ...options: readonly string[]): Promise<void> {
  const copy = join(dir, 'copy.img')
  await runOk(['nbdcopy', ...options, uri, copy])
  expect(await sha256(copy)).toBe(await sha256(disk))
  const other = await seededFile(join(dir, 'other.img'), 16, 2)
  await runOk(['nbdcopy', ...options, '--flush', other, uri])
  expect(await sha256(disk)).toBe(await sha256(other))
}
