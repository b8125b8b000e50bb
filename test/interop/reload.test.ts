// A configuration that changes under running sessions: who may go on does not notice, who may not is ended.
import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Cmd, Opt, Rep } from '../../src/protocol/constants.ts'
import { seededFile } from '../support/disk.ts'
import { test as base } from '../support/fixtures.ts'
import type { LogLine, RunningGateway } from '../support/gateway.ts'
import type { TestPki } from '../support/pki.ts'
import { runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { freePort, isConnectable } from '../support/wait.ts'
import { allow, config, type Entry, tcpDoor, tlsDoor, tlsOptions } from './configs.ts'
import { greeted, infoData, type RawClient } from './raw-client.ts'

const HOST = '127.0.0.1'

const test = base.extend('disk', async ({ dir, nbdServer }) => {
  const file = await seededFile(join(dir, 'disk.img'), 1)
  const server = await nbdServer({ exports: { disk: { file, flush: true }, other: { file } } })
  return (name: string, rules: Entry): Entry => ({ name, upstream: server.uri('disk'), ...rules })
})

/** A visitor inside TLS, in transmission phase. */
async function entered(port: number, pki: TestPki, who: 'alice' | 'bob', name = 'disk'): Promise<RawClient> {
  const client = await greeted({ host: HOST, port })
  await client.startTls(tlsOptions(pki[who]))
  expect((await client.option(Opt.GO, infoData(name))).at(-1)?.type).toBe(Rep.ACK)
  return client
}

async function works(client: RawClient): Promise<void> {
  client.request(Cmd.READ, 7n, 0n, 512)
  expect(await client.simpleReply(512)).toMatchObject({ error: 0, cookie: 7n })
}

/** Replaces the configuration as editors do, and waits for what comes of it. */
async function change(running: RunningGateway, text: string): Promise<LogLine> {
  const isResult = ({ msg }: LogLine) => msg === 'reloaded' || String(msg).startsWith('reload failed')
  const before = running.log().filter(isResult).length
  await writeFile(`${running.configFile}.new`, text)
  await rename(`${running.configFile}.new`, running.configFile)
  await running.waitForLog(() => running.log().filter(isResult).length > before)
  return running.log().filter(isResult).at(-1) ?? {}
}

const ended = (running: RunningGateway, who: string) =>
  running.waitForLog(line => line.msg === 'session ended' && line.who === who)

requires('nbd-server')('a reload', () => {
  test('ends who is not allowed any more, with the reason, and nobody else', async ({ disk, gateway, pki }) => {
    const both = config([tlsDoor(pki)], [disk('disk', { allow: [allow('alice', 'write'), allow('bob', 'write')] })])
    const running = await gateway(both)
    const port = running.port('tls')
    const [alice, bob] = [await entered(port, pki, 'alice'), await entered(port, pki, 'bob')]
    const line = await change(running, config([tlsDoor(pki)], [disk('disk', { allow: [allow('alice', 'write')] })]))
    expect(line).toMatchObject({ msg: 'reloaded', sessionsEnded: 1 })
    await bob.closed()
    expect(await ended(running, 'cert:cn=bob')).toMatchObject({ why: 'no longer allowed: no rule' })
    await works(alice)
    expect(running.port('tls')).toBe(port)
  })

  test('ends who may only read now, and leaves who may write now as he is', async ({ disk, gateway, pki }) => {
    const rights = (ofAlice: 'read' | 'write', ofBob: 'read' | 'write') =>
      config([tlsDoor(pki)], [disk('disk', { allow: [allow('alice', ofAlice), allow('bob', ofBob)] })])
    const running = await gateway(rights('write', 'read'))
    const port = running.port('tls')
    const [alice, bob] = [await entered(port, pki, 'alice'), await entered(port, pki, 'bob')]
    await change(running, rights('read', 'write'))
    await alice.closed()
    const { why } = await ended(running, 'cert:cn=alice')
    expect(why).toMatch(/^no longer allowed: read only, nbdgate.*:\d+$/)
    await works(bob)
  })

  test('on SIGHUP does the same', async ({ disk, gateway, pki }) => {
    const running = await gateway(config([tlsDoor(pki)], [disk('disk', { allow: [allow('alice', 'write')] })]))
    const alice = await entered(running.port('tls'), pki, 'alice')
    running.kill('SIGHUP')
    expect(await running.waitForLog(({ msg }) => msg === 'reloaded')).toMatchObject({ sessionsEnded: 0 })
    await works(alice)
  })

  test('that fails leaves all as it was, and says what is wrong', async ({ disk, gateway, pki, dir }) => {
    const rules = { allow: [allow('alice', 'write')] }
    const good = config([tlsDoor(pki)], [disk('disk', rules)])
    const running = await gateway(good)
    const port = running.port('tls')
    const alice = await entered(port, pki, 'alice')
    const half = join(dir, 'half.pem')
    await writeFile(half, (await readFile(pki.server.cert, 'utf8')).slice(0, 400))
    const taken = tcpDoor({ tcp: `${HOST}:${port}` })
    const broken: readonly (readonly [string, RegExp])[] = [
      ['version: 1\ndoors: [', /:2:\d+: /],
      [
        config([tlsDoor(pki)], [disk('disk', { allow: [{ who: 'cert:cm=alice', rights: 'read' }] })]),
        /:\d+:\d+: cert:cm is not/,
      ],
      [config([tlsDoor(pki, { cert: half })], []), /half\.pem/],
      [config([tlsDoor(pki, { key: pki.alice.key })], []), /does not match/],
      [config([tlsDoor(pki), taken], []), /address is in use/],
    ]
    for (const [text, problem] of broken) {
      const line = await change(running, text)
      expect(line.msg).toBe('reload failed: all stays as it was')
      expect(JSON.stringify(line)).toMatch(problem)
      await works(alice)
      await (await entered(port, pki, 'alice')).disconnect()
    }
    expect(await change(running, good)).toMatchObject({ msg: 'reloaded', opened: [], closed: [] })
  })

  test('opens doors and closes doors; who came in by one that is gone stays', async ({ disk, gateway, pki }) => {
    const exports = [disk('disk', { allow: [{ who: 'anyone', rights: 'write' }] })]
    const [first, second] = [await freePort(), await freePort()]
    const running = await gateway(config([tlsDoor(pki), tcpDoor({ tcp: `${HOST}:${first}` })], exports))
    const visitor = await greeted({ host: HOST, port: first })
    await visitor.option(Opt.GO, infoData('disk'))
    const line = await change(running, config([tlsDoor(pki), tcpDoor({ tcp: `${HOST}:${second}` })], exports))
    expect(line).toMatchObject({ opened: [`${HOST}:${second}`], closed: [`${HOST}:${first}`], sessionsEnded: 0 })
    expect(await isConnectable({ host: HOST, port: first })).toBe(false)
    expect(await isConnectable({ host: HOST, port: second })).toBe(true)
    await works(visitor)
    // The same port on more addresses: the old door stands in the way of the new one.
    const wider = await change(running, config([tlsDoor(pki), tcpDoor({ tcp: `0.0.0.0:${second}` })], exports))
    expect(wider).toMatchObject({ msg: 'reloaded', opened: [`0.0.0.0:${second}`] })
    await works(visitor)
  })

  test('brings new exports and limits to those who come then', async ({ disk, gateway }) => {
    const anyone = { allow: [{ who: 'anyone', rights: 'read' }] }
    const running = await gateway(config([tcpDoor()], [disk('disk', anyone)]))
    const haggling = await greeted({ host: HOST, port: running.port('tcp') })
    const next = config([tcpDoor()], [disk('disk', anyone), disk('more', anyone)], { limits: { sessions: 1 } })
    await change(running, next)
    expect((await haggling.option(Opt.GO, infoData('more'))).at(-1)?.type).toBe(Rep.ACK)
    await works(haggling)
    const late = await greeted({ host: HOST, port: running.port('tcp') }).catch(() => undefined)
    expect(late).toBeUndefined()
  })
})

requires('nbd-server', 'certtool')('certificates', () => {
  test('that a new list revokes end their sessions, and come in no more', async ({ disk, gateway, pki, dir }) => {
    const rules = { allow: [allow('alice', 'write'), allow('bob', 'write')] }
    const crl = join(dir, 'crl.pem')
    const revoke = async (certificate?: string): Promise<void> => {
      const template = join(dir, 'crl.cfg')
      await writeFile(template, 'crl_next_update = 30\ncrl_number = 1\n')
      const ca = ['--load-ca-privkey', pki.ca.key, '--load-ca-certificate', pki.ca.cert]
      const listed = certificate === undefined ? [] : ['--load-certificate', certificate]
      await runOk(['certtool', '--generate-crl', ...ca, ...listed, '--template', template, '--outfile', `${crl}.new`])
      await rename(`${crl}.new`, crl)
    }
    await revoke()
    const running = await gateway(config([tlsDoor(pki, { crl })], [disk('disk', rules)]))
    const port = running.port('tls')
    const [alice, bob] = [await entered(port, pki, 'alice'), await entered(port, pki, 'bob')]
    // The list alone changes: nobody touches the configuration.
    await revoke(pki.bob.cert)
    await bob.closed()
    expect(await ended(running, 'cert:cn=bob')).toMatchObject({ why: 'no longer allowed: certificate: revoked' })
    await works(alice)
    const again = await greeted({ host: HOST, port })
    await again.startTls(tlsOptions(pki.bob)).catch(() => {})
    await again.closed()
    expect(await running.waitForLog(({ msg }) => msg === 'tls failed')).toMatchObject({ reason: 'revoked' })
  })

  test('of an authority that is trusted no more end their sessions', async ({ disk, gateway, pki }) => {
    const exports = [disk('disk', { allow: [{ who: 'anyone', rights: 'write' }] })]
    const running = await gateway(config([tlsDoor(pki)], exports))
    const alice = await entered(running.port('tls'), pki, 'alice')
    await change(running, config([tlsDoor(pki, { 'client-ca': pki.rogueCa.cert })], exports))
    await alice.closed()
    const { why } = await ended(running, 'cert:cn=alice')
    expect(why).toBe('no longer allowed: certificate: unknown CA')
  })
})

requires('nbd-server')('a right that runs out', () => {
  const soon = () => new Date(Date.now() + 4000)

  test('ends its session, unless another rule goes on', async ({ disk, gateway, pki }) => {
    const until = soon().toISOString()
    const rules = [{ ...allow('alice', 'write'), until }, { ...allow('bob', 'write'), until }, allow('bob', 'write')]
    const running = await gateway(config([tlsDoor(pki)], [disk('disk', { allow: rules })]))
    const port = running.port('tls')
    const [alice, bob] = [await entered(port, pki, 'alice'), await entered(port, pki, 'bob')]
    await alice.closed()
    const { why } = await ended(running, 'cert:cn=alice')
    expect(why).toMatch(/^no longer allowed: expired, nbdgate.*:\d+$/)
    await works(bob)
  })

  test('with its certificate ends the session too', async ({ disk, gateway, pki }) => {
    const exports = [disk('disk', { allow: [{ who: 'anyone', rights: 'write' }] })]
    const brief = pki.client('brief', { days: 6 / 86_400 })
    const running = await gateway(config([tlsDoor(pki)], exports))
    const client = await greeted({ host: HOST, port: running.port('tls') })
    await client.startTls(tlsOptions(brief))
    await client.option(Opt.GO, infoData('disk'))
    await client.closed()
    const { why } = await ended(running, 'cert:cn=brief')
    expect(why).toBe('no longer allowed: certificate: expired')
  })
})
