// Which hosts an SSH upstream trusts, and which keys log in, against a real sshd and a real ssh-agent.
import { join } from 'node:path'
import { expect } from 'vitest'
import { sha256 } from '../support/disk.ts'
import { MAIN } from '../support/gateway.ts'
import { run, runOk, start } from '../support/process.ts'
import { isListeningAt } from '../support/procfs.ts'
import { requires } from '../support/requires.ts'
import type { Sshd } from '../support/sshd.ts'
import { test } from './ssh-ground.ts'

/** Certifies a key for a host: `dir/NAME-cert.pub`. */
async function certify(dir: string, name: string, ...args: readonly string[]): Promise<void> {
  await runOk(['ssh-keygen', '-q', '-s', join(dir, 'ca'), '-I', 'test', ...args, join(dir, `${name}.pub`)])
}

/** A CA, and an sshd that shows a certificate of it. */
async function certified(
  dir: string,
  startSshd: (lines: readonly string[], prepare: (key: Sshd['key']) => Promise<void>) => Promise<Sshd>,
  args: readonly string[],
  kind = 'ed25519',
): Promise<Sshd> {
  return await startSshd([`HostCertificate ${join(dir, 'host-cert.pub')}`, 'RekeyLimit 1M'], async key => {
    await key('ca', '-t', kind)
    await key('stranger')
    if (kind !== 'ed25519') {
      await runOk(['rm', join(dir, 'host'), join(dir, 'host.pub')])
      await key('host', '-t', kind, ...(kind === 'ecdsa' ? ['-b', '384'] : []))
    }
    await certify(dir, 'host', ...args)
  })
}

const HOST = ['-h', '-n', '127.0.0.1,gw.example'] as const

requires(
  'nbd-server',
  'nbdinfo',
  'nbdcopy',
  'sshd',
  'ssh-keygen',
  'ssh-agent',
)('SSH upstreams', () => {
  test('refuse a host that shows another key, is revoked or unknown, naming the line', async ({ sshd, doorTo }) => {
    const refused = async (file: string, what: string): Promise<void> => {
      const { uri, running } = await doorTo(sshd, 'port=1', { 'known-hosts': file })
      expect((await run(['nbdinfo', uri])).code).not.toBe(0)
      expect(running.stderr()).toContain(what)
      await running.stop()
    }
    const changed = sshd.knownHosts('changed', ['# the old key', `{host} ${sshd.publicKey('other')}`])
    await refused(changed, `is not what stands in ${changed}:2`)
    const lines = [`{host} ${sshd.publicKey('host')}`, `@revoked * ${sshd.publicKey('host')}`]
    const revoked = sshd.knownHosts('revoked', lines)
    await refused(revoked, `is revoked in ${revoked}:2`)
    const bare = sshd.knownHosts('bare', [`127.0.0.1 ${sshd.publicKey('host')}`])
    await refused(bare, `${bare} has no key of it`)
    expect(sshd.logins()).toBe(0)
  })

  test('know a host by its hashed name', async ({ disk, nbdServer, sshd, doorTo }) => {
    const server = await nbdServer({ exports: { disk: { file: disk } } })
    const file = sshd.known('host')
    await runOk(['ssh-keygen', '-q', '-H', '-f', file])
    const { uri } = await doorTo(sshd, `port=${server.port}`, { 'known-hosts': file, identity: sshd.identity })
    await runOk(['nbdinfo', uri])
    expect(sshd.logins()).toBeGreaterThan(0)
  })

  for (const kind of ['ed25519', 'ecdsa']) {
    test(`take the certificate of a host, ${kind}, also when keys change`, async ({
      dir,
      disk,
      nbdServer,
      startSshd,
      doorTo,
    }) => {
      const sshd = await certified(dir, startSshd, HOST, kind)
      const server = await nbdServer({ exports: { disk: { file: disk } } })
      const file = sshd.knownHosts('authorities', [`@cert-authority {host} ${sshd.publicKey('ca')}`])
      const { uri } = await doorTo(sshd, `port=${server.port}`, { 'known-hosts': file })
      const copy = join(dir, 'copy.img')
      await runOk(['nbdcopy', uri, copy])
      expect(await sha256(copy)).toBe(await sha256(disk))
    })
  }

  for (const [what, args] of [
    ['is for other hosts', ['-h', '-n', 'other.example']],
    ['is for other hosts', ['-h']],
    ['has expired', [...HOST, '-V', '20200101:20200102']],
    ['is not valid yet', [...HOST, '-V', '20990101:20990102']],
  ] as const) {
    test(`refuse a certificate that ${what} (${args.join(' ')})`, async ({ dir, startSshd, doorTo }) => {
      const sshd = await certified(dir, startSshd, args)
      const file = sshd.knownHosts('authorities', [`@cert-authority * ${sshd.publicKey('ca')}`])
      const { uri, running } = await doorTo(sshd, 'port=1', { 'known-hosts': file })
      expect((await run(['nbdinfo', uri])).code).not.toBe(0)
      expect(running.stderr()).toContain(`its certificate ${what} (${file}:1)`)
      expect(sshd.logins()).toBe(0)
    })
  }

  test('refuse a certificate of another authority, of a revoked one, and a host without one', async ({
    dir,
    startSshd,
    doorTo,
  }) => {
    const sshd = await certified(dir, startSshd, HOST)
    const refused = async (lines: readonly string[], what: string): Promise<void> => {
      const file = sshd.knownHosts('authorities', lines)
      const { uri, running } = await doorTo(sshd, 'port=1', { 'known-hosts': file })
      expect((await run(['nbdinfo', uri])).code).not.toBe(0)
      expect(running.stderr()).toContain(what)
      await running.stop()
    }
    const [ca, stranger] = [sshd.publicKey('ca'), sshd.publicKey('stranger')]
    await refused([`@cert-authority * ${stranger}`], 'its certificate comes from another authority')
    await refused([`@cert-authority * ${ca}`, `@revoked * ${ca}`], 'its certificate is revoked by line 2')
    await refused([`@cert-authority * ${ca}`, `@revoked * ${sshd.publicKey('host')}`], 'is revoked by line 2')
    const plain = await startSshd()
    const file = plain.knownHosts('authorities', [`@cert-authority * ${ca}`])
    const { uri, running } = await doorTo(plain, 'port=1', { 'known-hosts': file })
    expect((await run(['nbdinfo', uri])).code).not.toBe(0)
    expect(running.stderr()).toContain('comes without a certificate that is taken')
    expect(sshd.logins() + plain.logins()).toBe(0)
  })

  test('log in with the agent, and not without', async ({ dir, disk, nbdServer, sshd, doorTo }) => {
    const server = await nbdServer({ exports: { disk: { file: disk } } })
    const socket = join(dir, 'agent.sock')
    const agent = await start(['ssh-agent', '-D', '-a', socket], { ready: () => isListeningAt(socket) })
    try {
      const without = await doorTo(sshd, `port=${server.port}`, { identity: undefined }, { SSH_AUTH_SOCK: socket })
      expect((await run(['nbdinfo', without.uri])).code).not.toBe(0)
      expect(without.running.stderr()).toContain('All configured authentication methods failed')
      await runOk(['ssh-add', '-q', sshd.identity], { env: { SSH_AUTH_SOCK: socket } })
      await runOk(['nbdinfo', without.uri])
      const none = await doorTo(sshd, `port=${server.port}`, { identity: undefined }, { SSH_AUTH_SOCK: undefined })
      expect((await run(['nbdinfo', none.uri])).code).not.toBe(0)
      expect(none.running.stderr()).toContain('there is no agent (SSH_AUTH_SOCK)')
    } finally {
      await agent.stop()
    }
  })

  test('refuse a key with a passphrase at once, and say so when sshd does not know ours', async ({
    dir,
    sshd,
    doorTo,
  }) => {
    const locked = await sshd.key('locked', '-N', 'secret')
    const pem = await sshd.key('locked-pem', '-t', 'rsa', '-m', 'PEM', '-N', 'secret')
    for (const identity of [locked, pem]) {
      const uri = `nbd+ssh://127.0.0.1:${sshd.port}/disk`
      const argv = [process.execPath, MAIN, 'connect', uri, '--listen', '127.0.0.1:0', '--identity', identity]
      const ended = await run(argv, { cwd: dir })
      expect(ended).toMatchObject({ code: 2, stderr: expect.stringContaining('is encrypted with a passphrase') })
    }
    const gone = { SSH_AUTH_SOCK: join(dir, 'no-agent.sock') }
    const agentless = await doorTo(sshd, 'port=1', { identity: undefined }, gone)
    expect((await run(['nbdinfo', agentless.uri])).code).not.toBe(0)
    expect(agentless.running.stderr()).toMatch(/no SSH with [^"]*agent/)
    const { uri, running } = await doorTo(sshd, 'port=1', { identity: join(dir, 'other') })
    expect((await run(['nbdinfo', uri])).code).not.toBe(0)
    expect(running.stderr()).toContain('All configured authentication methods failed')
    expect(sshd.logins()).toBe(0)
  })
})
