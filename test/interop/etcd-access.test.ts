// Who may talk to etcd, and which etcd is talked to.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect } from 'vitest'
import type { EtcdConfig } from '../../src/config/config.ts'
import { EtcdError } from '../../src/sharing/errors.ts'
import { EtcdClient } from '../../src/sharing/etcd-client.ts'
import { loadEtcdMaterial } from '../../src/sharing/etcd-material.ts'
import { put } from '../../src/sharing/etcd-messages.ts'
import { type EtcdOptions, etcdCertificate, startEtcd } from '../support/etcd.ts'
import { test as base } from '../support/fixtures.ts'
import { runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'

const test = base.extend('etcd', async ({ dir }, { onCleanup }) => {
  const stops: (() => Promise<void>)[] = []
  onCleanup(async () => void (await Promise.all(stops.map(stop => stop()))))
  return async (options: EtcdOptions = {}) => {
    const cluster = await startEtcd(dir, `etcd-${stops.length}`, options)
    stops.push(cluster.stop)
    return cluster
  }
})

function clientOf(endpoints: readonly string[], config: Partial<EtcdConfig> = {}): EtcdClient {
  const material = loadEtcdMaterial({ endpoints, ttlMs: 2000, prefix: '/t/', name: 'gw', ...config })
  return new EtcdClient({ endpoints, material, attemptMs: 2000 })
}

/** The code of the error that a promise rejects with. */
async function codeOf(answer: Promise<unknown>): Promise<string> {
  try {
    await answer
    return 'none'
  } catch (error) {
    return error instanceof EtcdError ? error.code : String(error)
  }
}

requires(
  'etcd',
  'etcdctl',
  'openssl',
)('etcd', () => {
  describe('with client certificates', () => {
    test('answers who has one, and nobody else; and is believed only with one of its authority', async ({
      dir,
      pki,
      etcd,
    }) => {
      const { urls } = await etcd({ tls: await etcdCertificate(dir, pki.ca) })
      const mine = { ca: pki.ca.cert, cert: pki.alice.cert, key: pki.alice.key }
      expect(await clientOf(urls, mine).all('/t/')).toMatchObject({ found: [] })
      expect(await codeOf(clientOf(urls, { ca: pki.ca.cert }).all('/t/'))).toBe('UNREACHABLE')
      const others = { cert: pki.mallory.cert, key: pki.mallory.key }
      expect(await codeOf(clientOf(urls, { ...mine, ...others }).all('/t/'))).toBe('UNREACHABLE')
      expect(await codeOf(clientOf(urls, { ...mine, ca: pki.rogueCa.cert }).all('/t/'))).toBe('UNREACHABLE')
    })
  })

  test('with a name and a password: a token that has run out is renewed, a wrong password says so', {
    timeout: 60_000,
  }, async ({ dir, etcd }) => {
    const { urls } = await etcd({ args: ['--auth-token-ttl', '1'] })
    const ctl = async (...args: readonly string[]): Promise<string> =>
      await runOk(['etcdctl', '--endpoints', urls.join(','), ...args], { env: { ETCDCTL_API: '3' } })
    await ctl('role', 'add', 'gateways')
    await ctl('role', 'grant-permission', 'gateways', '--prefix=true', 'readwrite', '/t/')
    await ctl('user', 'add', 'gw:secret')
    await ctl('user', 'grant-role', 'gw', 'gateways')
    await ctl('user', 'add', 'root:root')
    await ctl('user', 'grant-role', 'root', 'root')
    await ctl('auth', 'enable')
    const passwordFile = join(dir, 'password')
    await writeFile(passwordFile, 'secret\n', { mode: 0o600 })
    const client = clientOf(urls, { login: { user: 'gw', passwordFile } })
    const seen: string[] = []
    const watching = new AbortController()
    const watch = client.watch('/t/', 1, ({ events }) => seen.push(...events.map(({ key }) => key)), watching.signal)
    const ended = expect(watch).rejects.toThrow(EtcdError)
    expect(await client.txn([], [put('/t/a', 'x')])).toMatchObject({ succeeded: true })
    await new Promise(resolve => setTimeout(resolve, 2500))
    expect(await client.txn([], [put('/t/b', 'x')])).toMatchObject({ succeeded: true })
    expect(await client.all('/t/')).toMatchObject({ found: [{ key: '/t/a' }, { key: '/t/b' }] })
    await expect.poll(() => seen).toEqual(['/t/a', '/t/b'])
    watching.abort()
    await ended
    expect(await codeOf(client.txn([], [put('/elsewhere', 'x')]))).toBe('DENIED')
    await writeFile(passwordFile, 'wrong\n')
    expect(await codeOf(clientOf(urls, { login: { user: 'gw', passwordFile } }).all('/t/'))).toBe('DENIED')
    expect(await codeOf(clientOf(urls).all('/t/'))).toBe('DENIED')
  })

  test('of another cluster is not believed', async ({ etcd }) => {
    const [one, two] = [await etcd(), await etcd()]
    const client = clientOf([...one.urls, ...two.urls])
    await client.all('/t/')
    for (const member of one.members) {
      member.kill('SIGKILL')
      await member.waitForExit()
    }
    expect(await codeOf(client.all('/t/'))).toBe('ANOTHER_CLUSTER')
  })

  test('that is no etcd, or nobody, is told apart', async ({ nbdServer, dir }) => {
    await writeFile(join(dir, 'disk'), Buffer.alloc(4096))
    const server = await nbdServer({ exports: { disk: { file: join(dir, 'disk') } } })
    expect(await codeOf(clientOf([`http://127.0.0.1:${server.port}`]).all('/t/'))).toBe('UNREACHABLE')
    expect(await codeOf(clientOf(['http://127.0.0.1:1']).all('/t/'))).toBe('UNREACHABLE')
  })
})
