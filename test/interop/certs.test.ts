// What `nbdgate certs` makes is for other people's programs: nbdkit serves with it, and libnbd, qemu and nbd-client
// come in with the very commands that it prints.
import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { certsCommand } from '../../src/cli/certs.ts'

const run = promisify(execFile)

async function certs(...args: string[]): Promise<string> {
  const printed: string[] = []
  const write = vi.spyOn(process.stdout, 'write').mockImplementation(text => printed.push(String(text)) > 0)
  try {
    await certsCommand().parseAsync(args, { from: 'user' })
  } finally {
    write.mockRestore()
  }
  return printed.join('')
}

describe('a batch of clients', () => {
  it('is made whole, or not at all where one is there already', { timeout: 60_000 }, async () => {
    const dir = mkdtempSync(join(tmpdir(), 'nbdgate-certs-'))
    try {
      await certs('init', '--dir', dir)
      const printed = await certs('client', '--dir', dir, 'alice', 'bob', 'carol')
      expect(printed.split('\n').filter(line => line.includes('client-cert.pem'))).toHaveLength(3)
      expect(printed).not.toContain('With libnbd')
      await expect(certs('client', '--dir', dir, 'dave', 'bob')).rejects.toThrow('--force')
      await expect(certs('client', '--dir', dir, 'erin', 'frank', '--dns', 'erin.lab')).rejects.toThrow('of one client')
      const { stdout } = await run('openssl', ['x509', '-noout', '-subject', '-in', join(dir, 'carol/client-cert.pem')])
      expect(stdout).toContain('CN = carol')
      expect(['dave', 'erin', 'frank'].filter(name => existsSync(join(dir, name)))).toEqual([])
    } finally {
      rmSync(dir, { recursive: true })
    }
  })
})

describe('--json', () => {
  it('says what was made, renewed, revoked and signed', { timeout: 60_000 }, async () => {
    const dir = mkdtempSync(join(tmpdir(), 'nbdgate-certs-'))
    const said = async (name: string, ...words: string[]) =>
      JSON.parse(await certs(name, '--json', '--dir', dir, ...words))
    try {
      const authority = { subject: expect.any(String), cert: join(dir, 'ca-cert.pem'), key: join(dir, 'ca-key.pem') }
      expect(await said('init')).toMatchObject({ authority, crl: join(dir, 'ca-crl.pem'), hostKey: expect.any(String) })
      expect(await said('server', 'gw.lab')).toMatchObject({ subject: 'CN=gw.lab', cert: join(dir, 'server-cert.pem') })
      const clients = await said('client', 'alice', 'bob')
      expect(clients).toMatchObject([{ subject: 'CN=alice' }, { subject: 'CN=bob', ca: join(dir, 'bob/ca-cert.pem') }])
      const renewed = await said('renew', 'alice')
      expect(renewed).toMatchObject({ subject: 'CN=alice', sameKey: false, old: { serial: clients[0].serial } })
      expect(renewed.serial).not.toBe(clients[0].serial)
      const lists = [{ file: join(dir, 'ca-crl.pem'), revoked: 1, nextUpdate: expect.any(String) }]
      expect(await said('revoke', 'bob')).toMatchObject({ revoked: [clients[1].serial], lists })
      expect(Number((await said('crl')).lists[0].number)).toBeGreaterThan(1)
      const password = join(dir, 'password')
      writeFileSync(password, 'a long password\n')
      expect(await said('p12', 'alice', '--password-file', password)).toEqual({ file: join(dir, 'alice/client.p12') })
    } finally {
      rmSync(dir, { recursive: true })
    }
  })
})

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise<void>(resolve => server.close(() => resolve()))
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}

/** Runs a shell command against nbdkit with this folder's server certificate; nbdkit ends with the command. */
async function againstNbdkit(dir: string, commandFor: (port: number) => string): Promise<string> {
  const port = await freePort()
  const tls = ['--tls=require', '--tls-verify-peer', `--tls-certificates=${dir}`]
  const names = ['exportname=disk', 'exportname-list=explicit']
  const serve = ['-f', '-i', '127.0.0.1', '-p', String(port), ...tls, '--filter=exportname', 'memory', '1M', ...names]
  const { stdout } = await run('nbdkit', [...serve, '--run', commandFor(port)], {
    timeout: 30_000,
    // nbd-client lies in /usr/sbin, which is not in everybody's path.
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
  })
  return stdout
}

/** The indented line that starts with this program, out of what `certs client` printed. */
function commandOf(printed: string, program: string): string {
  const command = printed.split('\n').find(line => line.startsWith(`  ${program} `))
  if (command === undefined) throw new Error(`no ${program} in:\n${printed}`)
  return command.trim().replace('EXPORT', 'disk')
}

describe.each([
  ['ECDSA', []],
  ['RSA', ['--rsa']],
] as const)('with %s certificates', (_name, kind) => {
  let root: string
  let dir: string
  let printed: string

  beforeAll(async () => {
    root = mkdtempSync(join(tmpdir(), 'nbdgate-certs-'))
    dir = join(root, 'certs')
    await make('init')
    await make('server', 'localhost', '127.0.0.1')
    printed = await make('client', 'alice')
  })
  afterAll(() => rmSync(root, { recursive: true, force: true }))

  function make(...args: string[]): Promise<string> {
    return certs(...args, '--dir', dir, ...kind)
  }

  function nbdinfo(host: string, port: number, folder: string): string {
    return `nbdinfo --json 'nbds://${host}:${port}/disk?tls-certificates=${folder}'`
  }

  it('nbdinfo gets through TLS with the command that is printed', async () => {
    const command = commandOf(printed, 'nbdinfo')
      .replace('nbdinfo', 'nbdinfo --json')
      .replace('//localhost/', '//localhost:PORT/')
    const info: unknown = JSON.parse(await againstNbdkit(dir, port => command.replace('PORT', String(port))))
    expect(info).toMatchObject({ TLS: true, exports: [{ 'export-size': 1_048_576 }] })
  })

  it('nbdinfo gets through to the address that is certified', async () => {
    const written = await againstNbdkit(dir, port => nbdinfo('127.0.0.1', port, join(dir, 'alice')))
    expect(JSON.parse(written)).toMatchObject({ TLS: true })
  })

  it('qemu-img gets through TLS with the command that is printed', async () => {
    const command = commandOf(printed, 'qemu-img')
    const written = await againstNbdkit(dir, port => command.replace('port=10809', `port=${port}`))
    expect(written).toContain('virtual size: 1 MiB (1048576 bytes)')
  })

  it('nbd-client gets through TLS with the options that are printed', async () => {
    // Without the kernel's module only the list can be asked for; the TLS options are the same.
    const command = commandOf(printed, 'nbd-client').replace('/dev/nbd0 -N disk', '-l')
    const written = await againstNbdkit(dir, port => command.replace('10809', String(port)))
    expect(written).toContain('\ndisk\n')
  })

  it('certtool accepts both chains', async () => {
    for (const leaf of [join(dir, 'server-cert.pem'), join(dir, 'alice', 'client-cert.pem')]) {
      const verify = ['--verify', '--load-ca-certificate', join(dir, 'ca-cert.pem'), '--infile', leaf]
      const { stdout } = await run('certtool', verify)
      expect(stdout).toContain('The certificate is trusted')
    }
  })

  it('a client of another authority stays outside', async () => {
    const other = join(root, 'other')
    await certs('init', '--dir', other)
    await certs('client', 'mallory', '--dir', other, ...kind)
    // Mallory trusts the right authority, so that nothing but the own certificate can be at fault.
    const swap = `cp ${join(dir, 'ca-cert.pem')} ${join(other, 'mallory', 'ca-cert.pem')}`
    const attempt = againstNbdkit(dir, port => `${swap} && ${nbdinfo('localhost', port, join(other, 'mallory'))}`)
    await expect(attempt).rejects.toMatchObject({ stderr: expect.stringMatching(/nbdkit.*(verif|certificate)/i) })
  })

  it('a client without a certificate stays outside', async () => {
    const bare = join(root, 'bare')
    const copy = `mkdir -p ${bare} && cp ${join(dir, 'ca-cert.pem')} ${bare}`
    const attempt = againstNbdkit(dir, port => `${copy} && ${nbdinfo('localhost', port, bare)}`)
    await expect(attempt).rejects.toMatchObject({ stderr: expect.stringMatching(/nbdkit.*certificate/i) })
  })

  it('a server under another name is not believed', async () => {
    const elsewhere = join(root, 'elsewhere')
    const copy = ['ca-cert.pem', 'ca-key.pem'].map(file => join(dir, file))
    await run('mkdir', ['-p', elsewhere])
    await run('cp', [...copy, elsewhere])
    await certs('server', 'gw.example', '--dir', elsewhere, ...kind)
    const attempt = againstNbdkit(elsewhere, port => nbdinfo('localhost', port, join(dir, 'alice')))
    await expect(attempt).rejects.toMatchObject({
      stderr: expect.stringMatching(/nbdinfo: .*certificate verification/),
    })
    // Nothing but the name was wrong: who asks for that name gets through.
    const command = `${commandOf(printed, 'qemu-img')},tls-hostname=gw.example`
    const written = await againstNbdkit(elsewhere, port => command.replace('port=10809', `port=${port}`))
    expect(written).toContain('virtual size: 1 MiB')
  })
})
