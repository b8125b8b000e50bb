import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { parse } from 'yaml'
import { certsCommand } from '../../../src/cli/certs.ts'
import { loadCertificates } from '../../../src/pki/material.ts'
import { temporaryFolder } from './workshop.ts'

const SOURCES = new URL('../../../src/', import.meta.url).pathname

/** Runs `nbdgate certs ARGS` in this process; what it prints. */
async function certs(...args: string[]): Promise<string> {
  const printed: string[] = []
  const write = vi.spyOn(process.stdout, 'write').mockImplementation(text => printed.push(String(text)) > 0)
  try {
    const command = certsCommand()
    for (const part of [command, ...command.commands]) part.exitOverride().configureOutput({ writeErr: () => {} })
    await command.parseAsync(args, { from: 'user' })
  } finally {
    write.mockRestore()
  }
  return printed.join('')
}

async function authority(): Promise<string> {
  const dir = join(temporaryFolder(), 'certs')
  await certs('init', '--dir', dir)
  return dir
}

describe('nbdgate certs', () => {
  it('makes a server certificate and prints the door to paste', async () => {
    const dir = await authority()
    const printed = await certs('server', 'gw.example', '10.0.0.1', '--dir', dir)
    expect(printed).toContain(`${join(dir, 'server-key.pem')}: keep it secret\n`)
    expect(parse(printed.slice(printed.indexOf('doors:')))).toEqual({
      doors: [
        {
          tls: '0.0.0.0:10809',
          cert: join(dir, 'server-cert.pem'),
          key: join(dir, 'server-key.pem'),
          'client-ca': join(dir, 'ca-cert.pem'),
          crl: join(dir, 'ca-crl.pem'),
        },
      ],
    })
  })

  it('makes a client certificate and prints a command for each client', async () => {
    const dir = await authority()
    const own = join(dir, 'alice')
    const printed = await certs('client', 'alice', '--dir', dir)
    expect(printed).toContain(`  nbdinfo 'nbds://HOST/EXPORT?tls-certificates=${own}'\n`)
    expect(printed).toContain(
      `  qemu-img info --object tls-creds-x509,id=tls0,dir=${own},endpoint=client --image-opts driver=nbd,host=HOST,port=10809,export=EXPORT,tls-creds=tls0\n`,
    )
    expect(printed).toContain(
      `  nbd-client HOST 10809 /dev/nbd0 -N EXPORT -enable-tls -cacertfile ${own}/ca-cert.pem -certfile ${own}/client-cert.pem -keyfile ${own}/client-key.pem -tlshostname HOST\n`,
    )
  })

  it('writes the name of the gateway into those commands once it has a certificate', async () => {
    const dir = await authority()
    await certs('server', '*.lab.example', '2001:db8::1', '--dir', dir)
    const printed = await certs('client', 'alice', '--dir', dir)
    expect(printed).toContain("nbdinfo 'nbds://[2001:db8::1]/EXPORT?")
    expect(printed).toContain('host=2001:db8::1,port')
  })

  it('quotes a folder with a name that is hard on shells, URIs and qemu', async () => {
    const dir = await authority()
    const printed = await certs('client', "Zoë, O'Neil & Co", '--dir', dir)
    expect(printed).toContain(`tls-certificates=${dir}/Zo%C3%AB%2C%20O'\\''Neil%20%26%20Co'\n`)
    expect(printed).toContain(`'tls-creds-x509,id=tls0,dir=${dir}/Zoë,, O'\\''Neil & Co,endpoint=client'`)
    expect(printed).toContain(`-keyfile '${dir}/Zoë, O'\\''Neil & Co/client-key.pem'`)
  })

  it('takes every option', async () => {
    const dir = join(temporaryFolder(), 'pki')
    const more = ['--dir', dir, '--rsa', '--org', 'Lab', '--unit', 'Ops', '--days', '3']
    await certs('init', ...more)
    const names = ['--dns', 'a.example', '--dns', 'b.example', '--email', 'a@b', '--uri', 'spiffe://x/y']
    await certs('client', 'alice', ...names, ...more)
    const shown: unknown = JSON.parse(await certs('show', join(dir, 'alice', 'client-cert.pem'), '--json'))
    expect(shown).toMatchObject({
      subject: 'CN=alice,OU=Ops,O=Lab',
      issuer: 'CN=nbdgate authority,OU=Ops,O=Lab',
      dnsNames: ['alice', 'a.example', 'b.example'],
      emails: ['a@b'],
      uris: ['spiffe://x/y'],
      authority: false,
    })
    const [certificate] = loadCertificates(join(dir, 'alice', 'client-cert.pem'))
    expect(certificate.publicKey.asymmetricKeyType).toBe('rsa')
    expect(Date.parse(certificate.validTo) - Date.parse(certificate.validFrom)).toBeLessThan(4 * 86_400_000)
  })

  it('shows a certificate as the words of a rule', async () => {
    const dir = await authority()
    await certs('client', 'alice', '--org', 'Lab', '--dir', dir)
    const printed = await certs('show', join(dir, 'alice', 'client-cert.pem'))
    expect(printed).toMatch(/^subject {4}CN=alice,O=Lab\nissuer {5}CN=nbdgate authority\n/)
    expect(printed).toMatch(/\ncert:cn=alice\ncert:o=Lab\ncert:dns=alice\ncert:fingerprint=SHA256:[0-9a-f]{64}\n/)
  })

  it('shows every certificate of a chain', async () => {
    const dir = await authority()
    await certs('server', 'gw.example', '--dir', dir)
    const [leaf, ca] = ['server-cert.pem', 'ca-cert.pem'].map(name => readFileSync(join(dir, name), 'utf8'))
    writeFileSync(join(dir, 'chain.pem'), `${leaf}${ca}`)
    const shown: unknown = JSON.parse(await certs('show', '--json', join(dir, 'chain.pem')))
    expect(shown).toMatchObject({ dnsNames: ['gw.example'], authority: false, chain: [{ authority: true }] })
    expect(await certs('show', join(dir, 'chain.pem'))).toContain('\n\nsubject    CN=nbdgate authority\n')
  })

  it('overwrites nothing unless it is forced to', async () => {
    const dir = await authority()
    const before = readFileSync(join(dir, 'ca-key.pem'), 'utf8')
    await expect(certs('init', '--dir', dir)).rejects.toThrow(
      `${join(dir, 'ca-key.pem')}: is there already; --force overwrites it`,
    )
    expect(readFileSync(join(dir, 'ca-key.pem'), 'utf8')).toBe(before)
    await certs('init', '--dir', dir, '--force')
    expect(readFileSync(join(dir, 'ca-key.pem'), 'utf8')).not.toBe(before)
  })

  it('says that there is no authority yet', async () => {
    const dir = temporaryFolder()
    await expect(certs('server', 'gw.example', '--dir', dir)).rejects.toThrow(
      /ca-cert\.pem: the authority is not there/,
    )
    await expect(certs('client', 'alice', '--dir', dir)).rejects.toThrow(/ca-cert\.pem: the authority is not there/)
    expect(readdirSync(dir)).toEqual([])
  })

  it('leaves no folder behind for a client that can not be certified', async () => {
    const dir = await authority()
    await expect(certs('client', 'a'.repeat(65), '--dir', dir)).rejects.toThrow(/longer than 64/)
    await expect(certs('client', '../mallory', '--dir', dir)).rejects.toThrow(/slash/)
    expect(readdirSync(dir).sort()).toEqual([
      'ca-cert.pem',
      'ca-crl.pem',
      'ca-key.pem',
      'ssh_host_ed25519_key',
      'ssh_host_ed25519_key.pub',
    ])
  })

  it.each(['0', '-1', 'x', '1.5', ''])('takes %j days for a mistake in the command line', async days => {
    const dir = join(temporaryFolder(), 'certs')
    await expect(certs('init', '--dir', dir, `--days=${days}`)).rejects.toMatchObject({
      code: 'commander.invalidArgument',
    })
    expect(existsSync(dir)).toBe(false)
  })
})

/** Every module that is loaded with this one, packages too; what `await import()` brings in does not count. */
function loadedWith(file: string, seen: Set<string> = new Set()): Set<string> {
  if (seen.has(file)) return seen
  seen.add(file)
  const imports = readFileSync(file, 'utf8').matchAll(/^(?:import|export|\}) ?(?!type)[^;]*?from '([^']+)'/gm)
  for (const [, name = ''] of imports) {
    if (name.startsWith('.')) loadedWith(join(dirname(file), name), seen)
    else seen.add(name)
  }
  return seen
}

describe('node-forge', () => {
  it('is loaded by minting only', () => {
    for (const file of [
      'cli/certs.ts',
      'pki/files.ts',
      'pki/material.ts',
      'pki/certificate-facts.ts',
      'pki/store.ts',
    ]) {
      expect(loadedWith(join(SOURCES, file))).not.toContain('node-forge')
    }
    expect(loadedWith(join(SOURCES, 'pki/mint.ts'))).toContain('node-forge')
  })
})
