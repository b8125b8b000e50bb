// Two identities on one export, in every mode: who comes in beside whom, and with which rights.
import { writeFile } from 'node:fs/promises'
import { expect } from 'vitest'
import { Cmd, Err, Opt, Rep } from '../../src/protocol/constants.ts'
import { run, runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { nbdsUri, tlsOptions } from './configs.ts'
import { exportInfo, greeted, infoData } from './raw-client.ts'
import { CAN_MULTI_CONN, enter, entered, go, HOST, nbdgate, READ_ONLY, test } from './sharing-ground.ts'

const MODES = ['exclusive', 'readers-or-writer', 'single-writer', 'cluster', 'read-only'] as const

/** What bob, who may write, and carol, who may read, get beside alice, who writes. */
const BESIDE_A_WRITER = {
  exclusive: { bob: 'refused', carol: 'refused' },
  'readers-or-writer': { bob: 'refused', carol: 'refused' },
  'single-writer': { bob: 'refused', carol: 'read' },
  cluster: { bob: 'write', carol: 'read' },
  'read-only': { bob: 'read', carol: 'read' },
} as const

requires(
  'nbd-server',
  'nbdinfo',
  'nbdcopy',
  'qemu-io',
)('two identities', () => {
  test.for(MODES)('%s', async (mode, { shared, gateway, pki, carol: carols }) => {
    const running = await gateway(shared.text({ sharing: mode }))
    const port = running.port('tls')
    const alice = await entered(port, pki.alice)
    expect(alice.isReadOnly).toBe(mode === 'read-only')
    for (const [who, leaf] of [['bob', pki.bob] as const, ['carol', carols] as const]) {
      const gone = await enter(port, leaf)
      const got = gone.kind === 'refused' ? 'refused' : gone.isReadOnly ? 'read' : 'write'
      expect([who, got]).toEqual([who, BESIDE_A_WRITER[mode][who]])
      if (gone.kind === 'refused') {
        expect(gone.reply).toBe(Rep.ERR_POLICY)
        const since = String.raw`since 20\d\d-\d\d-\d\dT[\d:.]+Z`
        const use = new RegExp(
          `^this export is in use for writing by cert:cn=alice from 127\\.0\\.0\\.1:\\d+ ${since}$`,
        )
        expect(gone.text).toMatch(use)
        const line = await running.waitForLog(each => each.msg === 'refused' && each.who === `cert:cn=${who}`)
        expect(line).toMatchObject({ reason: 'busy', export: 'disk', holder: 'cert:cn=alice', level: 'warn' })
        // The same connection may ask again; it must not have taken anything with it.
        expect((await go(gone.client)).kind).toBe('refused')
      } else await gone.client.disconnect()
    }
    // A second connection of hers is hers.
    await (await entered(port, pki.alice)).client.disconnect()
    // The same by real clients, of which bob's must not fail for another reason.
    const copied = await run(['nbdcopy', nbdsUri(port, 'disk', pki.bob), 'null:'])
    expect(copied.code === 0).toBe(BESIDE_A_WRITER[mode].bob !== 'refused')
    await alice.client.disconnect()
    await runOk(['nbdcopy', nbdsUri(port, 'disk', pki.bob), 'null:'])
    await runOk(['nbdinfo', nbdsUri(port, 'disk', carols)])
  })

  test.for(MODES)('%s: readers beside each other', async (mode, { shared, gateway, pki, carol: carols }) => {
    const running = await gateway(shared.text({ sharing: mode }))
    const port = running.port('tls')
    const carol = await entered(port, carols)
    const second = await enter(port, pki.bob)
    const expected = {
      exclusive: 'refused',
      'readers-or-writer': 'refused',
      'single-writer': 'write',
      cluster: 'write',
      'read-only': 'read',
    }
    expect(second.kind === 'refused' ? 'refused' : second.isReadOnly ? 'read' : 'write').toBe(expected[mode])
    await carol.client.disconnect()
  })
})

requires('nbd-server', 'qemu-io')('when-busy', () => {
  test('read-only lets look on, and nothing else', async ({ shared, gateway, pki }) => {
    const port = (await gateway(shared.text({ 'when-busy': 'read-only' }))).port('tls')
    const alice = await entered(port, pki.alice)
    expect(alice.flags & CAN_MULTI_CONN).toBe(CAN_MULTI_CONN)
    const bob = await entered(port, pki.bob)
    // Another connection of his may get more: then they would not be the same.
    expect(bob.flags & (READ_ONLY | CAN_MULTI_CONN)).toBe(READ_ONLY)
    for (const type of [Cmd.WRITE, Cmd.TRIM, Cmd.WRITE_ZEROES]) {
      bob.client.request(type, 1n, 0n, 512, type === Cmd.WRITE ? Buffer.alloc(512) : undefined)
      expect(await bob.client.simpleReply()).toMatchObject({ error: Err.PERM })
    }
    bob.client.request(Cmd.READ, 2n, 0n, 512)
    expect((await bob.client.simpleReply(512)).data).toHaveLength(512)
    // INFO says the same beforehand.
    const asking = await greeted({ host: HOST, port })
    await asking.startTls(tlsOptions(pki.bob))
    expect(exportInfo(await asking.option(Opt.INFO, infoData('disk'))).flags & READ_ONLY).toBe(READ_ONLY)
    // Nobody waits for who only looks on.
    await alice.client.disconnect()
    expect((await entered(port, pki.alice)).isReadOnly).toBe(false)
  })

  test('wait lets in when there is a place, and refuses when the time is over', async ({ shared, gateway, pki }) => {
    const running = await gateway(shared.text({ 'when-busy': 'wait=60s' }))
    const port = running.port('tls')
    const alice = await entered(port, pki.alice)
    const bob = enter(port, pki.bob)
    await alice.client.disconnect()
    expect(await bob).toMatchObject({ kind: 'in', isReadOnly: false })
    await writeFile(running.configFile, shared.text({ 'when-busy': 'wait=1ms' }))
    await nbdgate('reload', '--socket', shared.socket)
    expect(await enter(port, pki.alice)).toMatchObject({ kind: 'refused', reply: Rep.ERR_POLICY })
  })
})

requires('nbd-server')('several connections of one identity', () => {
  test('are one holder, and with identity+address one at each address', async ({ shared, gateway, pki }) => {
    const running = await gateway(shared.text({ sharing: 'exclusive' }))
    const port = running.port('tls')
    const both = await Promise.all([entered(port, pki.alice), entered(port, pki.alice)])
    const { stdout } = await nbdgate('lease', 'list', '--json', '--socket', shared.socket)
    expect(JSON.parse(stdout)).toMatchObject([{ export: 'disk', holder: 'cert:cn=alice', access: 'write' }])
    for (const { client } of both) await client.disconnect()
    await writeFile(running.configFile, shared.text({ sharing: 'exclusive', holder: 'identity+address' }))
    expect((await nbdgate('reload', '--socket', shared.socket)).code).toBe(0)
    const here = await entered(port, pki.alice)
    const address = { host: HOST, port, localAddress: '127.0.0.9' }
    const elsewhere = await greeted(address)
    await elsewhere.startTls(tlsOptions(pki.alice))
    expect(await go(elsewhere)).toMatchObject({ kind: 'refused', reply: Rep.ERR_POLICY })
    await here.client.disconnect()
  })
})

requires('nbd-server')('an operator', () => {
  test('sees who holds what, and frees it', async ({ shared, gateway, pki }) => {
    const running = await gateway(shared.text())
    const port = running.port('tls')
    const where = ['--socket', shared.socket]
    expect((await nbdgate('lease', 'list', ...where)).stdout).toBe('nobody holds an export\n')
    const alice = await entered(port, pki.alice)
    const table = (await nbdgate('lease', 'list', ...where)).stdout.split('\n')
    expect(table[0]).toMatch(/^EXPORT +SHARING +HOLDER +FROM +ACCESS +SINCE +SESSIONS$/)
    expect(table[1]).toMatch(/^disk +readers-or-writer +cert:cn=alice +127\.0\.0\.1:\d+ +write +\d+s +1$/)
    const sessions = JSON.parse((await nbdgate('sessions', '--json', ...where)).stdout)
    expect(sessions).toMatchObject([{ id: 1, lease: 'write' }])
    expect(await nbdgate('lease', 'release', 'disk', 'cert:cn=bob', ...where)).toMatchObject({ code: 1 })
    expect(JSON.parse((await nbdgate('lease', 'release', 'disk', 'cert:cn=alice', '--json', ...where)).stdout)).toEqual(
      {
        released: 1,
      },
    )
    await alice.client.closed()
    const bob = await entered(port, pki.bob)
    expect(bob.isReadOnly).toBe(false)
    const [{ id }] = JSON.parse((await nbdgate('sessions', '--json', ...where)).stdout)
    expect(await nbdgate('kick', String(id), ...where)).toMatchObject({ code: 0 })
    await bob.client.closed()
    expect((await entered(port, pki.alice)).isReadOnly).toBe(false)
    expect(await nbdgate('lease', 'release', 'nothing', ...where)).toMatchObject({
      code: 1,
      stderr: 'nbdgate: there is no such lease\n',
    })
  })

  test('changes the mode: who came later and has no place goes, and a writer where nobody writes', async ({
    shared,
    gateway,
    pki,
  }) => {
    const running = await gateway(shared.text({ sharing: 'cluster' }))
    const port = running.port('tls')
    const reload = async (sharing: string) => {
      await writeFile(running.configFile, shared.text({ sharing }))
      // The gateway may have seen that the file has changed, and have done it already.
      expect((await nbdgate('reload', '--socket', shared.socket)).code).toBe(0)
    }
    const alice = await entered(port, pki.alice)
    const bob = await entered(port, pki.bob)
    await reload('exclusive')
    await bob.client.closed()
    const why = 'no longer allowed: sharing exclusive, and cert:cn=alice was there before'
    await running.waitForLog(line => line.msg === 'session ended' && line.why === why)
    await reload('read-only')
    await alice.client.closed()
    expect((await entered(port, pki.alice)).isReadOnly).toBe(true)
  })
})
