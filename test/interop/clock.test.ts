// The system's clock is set forward and back under a running gateway: what has run out does not come back with it.
import { join } from 'node:path'
import { expect } from 'vitest'
import type { LeafFiles } from '../../src/pki/files.ts'
import { Cmd, Opt, Rep } from '../../src/protocol/constants.ts'
import { seededFile } from '../support/disk.ts'
import { test } from '../support/fixtures.ts'
import { type LogLine, MAIN } from '../support/gateway.ts'
import { run } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { settableClock } from '../support/settable-clock.ts'
import { allow, config, tlsDoor, tlsOptions } from './configs.ts'
import { greeted, infoData, type RawClient } from './raw-client.ts'

/** Less than what certificates are dated back by, so that they stay valid. */
const MINUTE_S = 60
const S_PER_DAY = 86_400
/** How long the rule and the certificate that run out are good for: a gateway has to start meanwhile. */
const BRIEFLY_S = 10
const SET_BACK = 'the clock was set back: what has run out stays so until a reload'

requires('faketime')('a clock that is set back', () => {
  test('brings no rule and no certificate back, says so, and is followed after a reload', async ({
    dir,
    gateway,
    pki,
  }) => {
    const file = await seededFile(join(dir, 'disk.img'), 1)
    const clock = await settableClock(dir)
    const [guest, brief] = [pki.client('guest'), pki.client('brief', { days: BRIEFLY_S / S_PER_DAY })]
    const until = new Date(Date.now() + BRIEFLY_S * 1000).toISOString()
    const rules = [allow('alice', 'write'), { ...allow('guest', 'read'), until }, allow('brief', 'read')]
    const exports = [{ name: 'disk', upstream: { file }, sharing: 'cluster', allow: rules }]
    const yaml = config([tlsDoor(pki)], exports, { state: './state' })
    const running = await gateway(yaml, { env: clock.env })
    const enter = async (leaf: LeafFiles): Promise<RawClient> => {
      const client = await greeted({ host: '127.0.0.1', port: running.port('tls') })
      await client.startTls(tlsOptions(leaf))
      expect((await client.option(Opt.GO, infoData('disk'))).at(-1)?.type).toBe(Rep.ACK)
      return client
    }
    const [alice, ...short] = [await enter(pki.alice), await enter(guest), await enter(brief)]
    for (const client of short) await client.closed()

    await clock.set(-MINUTE_S)
    const { ms } = await running.waitForLog(({ msg }) => msg === SET_BACK)
    expect(Math.abs(Number(ms) - MINUTE_S * 1000)).toBeLessThan(10_000)
    const visitor = await greeted({ host: '127.0.0.1', port: running.port('tls') })
    await visitor.startTls(tlsOptions(guest))
    expect((await visitor.option(Opt.GO, infoData('disk'))).at(-1)?.type).toBe(Rep.ERR_UNKNOWN)
    const isRefused = ({ msg, who, reason }: LogLine) =>
      msg === 'refused' && who === 'cert:cn=guest' && reason === 'expired'
    await running.waitForLog(isRefused)
    // OpenSSL goes by the system's clock, and would let it in.
    const late = await greeted({ host: '127.0.0.1', port: running.port('tls') })
    await late.startTls(tlsOptions(brief)).catch(() => {})
    await late.closed()
    await running.waitForLog(({ msg, reason }) => msg === 'tls failed' && reason === 'expired')

    running.kill('SIGHUP')
    await running.waitForLog(({ msg }) => msg === 'reloaded')
    for (const client of [await enter(guest), await enter(brief)]) client.reset()
    alice.request(Cmd.READ, 7n, 0n, 512)
    expect(await alice.simpleReply(512)).toMatchObject({ error: 0, cookie: 7n })
    alice.reset()
    visitor.reset()
    expect(await running.stop()).toBe(0)
    const trail = join(dir, 'state', 'audit.jsonl')
    const verified = await run([process.execPath, MAIN, 'audit', 'verify', trail])
    expect(verified).toMatchObject({ code: 0, stdout: expect.stringContaining('intact') })
    const { stdout } = await run([process.execPath, MAIN, 'audit', 'show', '--json', trail])
    expect(stdout.match(/"clock set back"/g)).toHaveLength(1)
  })
})
