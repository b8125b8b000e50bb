// Who may go where: each kind of key and certificate, each option, each target, driven by the real ssh.
import { renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { run, runOk, start } from '../support/process.ts'
import { isListeningAt } from '../support/procfs.ts'
import { requires } from '../support/requires.ts'
import { config } from './configs.ts'
import { greets, isGreeted, type SshCall, test } from './ssh-support.ts'

const KEYS = { ed25519: undefined, 'ecdsa-256': 256, 'ecdsa-384': 384, 'ecdsa-521': 521, rsa: 2048 } as const

/** What is tried for each; the letters of those that are open are the outcome. */
const FORWARDS = {
  t: 'nbd:10809',
  a: '/exports',
  d: '/exports/disk',
  o: '/exports/other',
  x: '127.0.0.1:22',
  p: '/etc/passwd',
}
const ALL = 'tadoe'

/** Options of a line → targets that are open: t nbd:10809, a /exports, d /exports/disk, o /exports/other, e exec nbd. */
const LINES: Readonly<Record<string, string>> = {
  '': ALL,
  restrict: ALL,
  'restrict,no-pty,no-agent-forwarding,no-X11-forwarding': ALL,
  'restrict,permitopen="nbd:10809"': ALL,
  'permitopen="/exports"': ALL,
  'permitopen="/exports/disk"': 'd',
  'permitopen="/exports/disk",permitopen="/exports/other"': 'do',
  'permitopen="/exports/nothing"': '',
  'no-port-forwarding': 'e',
  'from="127.0.0.0/8"': ALL,
  'from="127.0.0.1"': ALL,
  'from="127.*"': ALL,
  'from="10.0.0.0/8,::1"': '',
  'from="127.0.0.0/8,!127.0.0.1"': '',
  'expiry-time="20991231"': ALL,
  'expiry-time="20200101"': '',
  'principals="bob,eve"': ALL,
  'principals="alice"': '',
  'command="nbd"': '',
  'restrict,agent-forwarding': '',
  'environment="A=b"': '',
  'cert-authority': '',
}

/** Options of ssh-keygen for a certificate → options of the authority's line ('' with @: user-ca instead) → open. */
const CERTIFICATES: readonly (readonly [name: string, keygen: readonly string[], line: string, open: string])[] = [
  ['of the user', ['-n', 'bob'], 'cert-authority', ALL],
  ['of the user, by user-ca', ['-n', 'alice,bob'], '@', ALL],
  ['of somebody else', ['-n', 'alice'], 'cert-authority', ''],
  ['of somebody else, by user-ca', ['-n', 'alice'], '@', ''],
  ['without principals', [], '@', ''],
  ['with a principal of the line', ['-n', 'ops'], 'cert-authority,principals="dba,ops"', ALL],
  ['without a principal of the line', ['-n', 'bob'], 'cert-authority,principals="dba,ops"', ''],
  ['for one export', ['-n', 'bob'], 'cert-authority,permitopen="/exports/other"', 'o'],
  ['that has expired', ['-n', 'bob', '-V', '20200101:20200102'], '@', ''],
  ['of the future', ['-n', 'bob', '-V', '20980101:20990102'], '@', ''],
  ['of now', ['-n', 'bob', '-V', '-1d:+1d'], '@', ALL],
  ['from here', ['-n', 'bob', '-O', 'source-address=127.0.0.0/8'], '@', ALL],
  ['from elsewhere', ['-n', 'bob', '-O', 'source-address=10.0.0.0/8'], '@', ''],
  ['with a forced command', ['-n', 'bob', '-O', 'force-command=nbd'], '@', ''],
  ['with an unknown critical option', ['-n', 'bob', '-O', 'critical:x@example.com=1'], '@', ''],
  ['without forwarding', ['-n', 'bob', '-O', 'clear'], '@', 'e'],
  ['of a host', ['-h', '-n', 'bob'], '@', ''],
  ['whose authority is a plain key of the file', ['-n', 'bob'], '', ''],
]

const replace = (file: string, text: string): void => {
  writeFileSync(`${file}.new`, `${text}\n`)
  renameSync(`${file}.new`, file)
}

const withDoor = test
  /** Looks which targets are open to somebody. */
  .extend('look', async ({ dir, files }) => {
    let count = 0
    return async (call: SshCall): Promise<string> => {
      count++
      const forwards = Object.entries(FORWARDS).map(([letter, target]) => ({
        letter,
        socket: join(dir, `${count}${letter}`),
        target,
      }))
      const words = forwards.flatMap(({ socket, target }) => ['-L', `${socket}:${target}`])
      const argv = files.argv({ ...call, options: ['-N', ...words, ...(call.options ?? [])] })
      const ready = (): boolean => forwards.every(({ socket }) => isListeningAt(socket))
      const ssh = await start(argv, { ready }).catch(() => undefined)
      let open = ''
      for (const { letter, socket } of ssh === undefined ? [] : forwards) if (await isGreeted(socket)) open += letter
      await ssh?.stop()
      return (await greets(files.argv(call, 'nbd'))) ? `${open}e` : open
    }
  })
  .extend('door', async ({ dir, disk, files, gateway }) => {
    const userCa = join(dir, 'user_ca.pub')
    const revoked = join(dir, 'revoked_keys')
    for (const file of [userCa, revoked]) writeFileSync(file, '')
    const allow = [{ who: 'anyone', rights: 'write' }]
    const exports = ['disk', 'other'].map(name => ({ name, upstream: { file: disk }, allow }))
    const limits = { 'sessions-per-address': 200 }
    const running = await gateway(
      config([files.door({ 'user-ca': userCa, 'revoked-keys': revoked })], exports, { limits }),
    )
    return { running, port: running.port('ssh'), userCa, revoked }
  })

requires('ssh', 'ssh-keygen')('who may go where', () => {
  withDoor('a key, by the options of its line', { timeout: 180_000 }, async ({ door, files, look }) => {
    const key = await files.key('user')
    const found: Record<string, string> = {}
    for (const options of Object.keys(LINES)) {
      files.authorize(`${options} ${files.publicKey('user')}`.trim())
      found[options] = await look({ port: door.port, key })
    }
    expect(found).toEqual(LINES)
  })

  withDoor('each type of key', { timeout: 180_000 }, async ({ door, files, look }) => {
    const lines = { '': ALL, 'permitopen="/exports/disk"': 'd', 'principals="alice"': '' }
    const [found, wanted]: Record<string, string>[] = [{}, {}]
    for (const [name, bits] of Object.entries(KEYS)) {
      const key = await files.key(name, name.split('-')[0], bits)
      for (const [options, open] of Object.entries(lines)) {
        files.authorize(`${options} ${files.publicKey(name)}`.trim())
        Object.assign(found ?? {}, { [`${name} ${options}`]: await look({ port: door.port, key }) })
        Object.assign(wanted ?? {}, { [`${name} ${options}`]: open })
      }
    }
    expect(found).toEqual(wanted)
  })

  withDoor('a certificate', { timeout: 180_000 }, async ({ dir, door, files, look }) => {
    const ca = await files.key('ca')
    const key = await files.key('user')
    const found: Record<string, string> = {}
    for (const [name, keygen, line] of CERTIFICATES) {
      await runOk(['ssh-keygen', '-q', '-s', ca, '-I', name, ...keygen, `${key}.pub`])
      const authority = files.publicKey('ca')
      files.authorize(line === '@' ? '' : `${line} ${authority}`.trim())
      replace(door.userCa, line === '@' ? authority : '')
      found[name] = await look({
        port: door.port,
        key,
        options: ['-o', `CertificateFile=${join(dir, 'user-cert.pub')}`],
      })
    }
    expect(found).toEqual(Object.fromEntries(CERTIFICATES.map(([name, , , open]) => [name, open])))
  })

  withDoor(
    'whoever is revoked, from the next channel on',
    { timeout: 60_000 },
    async ({ dir, door, files, look, tunnel }) => {
      const [ca, user] = [await files.key('ca', 'rsa', 2048), await files.key('user')]
      await runOk(['ssh-keygen', '-q', '-s', ca, '-I', 'x', '-n', 'bob', `${user}.pub`])
      const certificate = ['-o', `CertificateFile=${join(dir, 'user-cert.pub')}`]
      const calls = {
        plain: { port: door.port, key: user },
        certified: { port: door.port, key: user, options: certificate },
      }
      const socket = join(dir, 'before.sock')
      files.authorize(files.publicKey('user'))
      await tunnel(calls.plain, { [socket]: '/exports/disk' })
      expect(await isGreeted(socket)).toBe(true)
      replace(door.revoked, files.publicKey('user'))
      expect(await isGreeted(socket)).toBe(false)
      expect(await look(calls.plain)).toBe('')
      replace(door.revoked, '')
      files.authorize('')
      replace(door.userCa, files.publicKey('ca'))
      expect(await look(calls.certified)).toBe(ALL)
      for (const name of ['user', 'ca']) {
        replace(door.revoked, files.publicKey(name))
        expect(await look(calls.certified)).toBe('')
      }
      // What can not be read could have been the stolen key.
      replace(door.revoked, 'SSHKRL\n')
      expect(await look(calls.certified)).toBe('')
      await door.running.waitForLog(({ msg, problem }) => msg === 'ssh key file' && String(problem).includes('KRL'))
    },
  )

  withDoor('nobody: what the door is not for', async ({ door, files }) => {
    const key = await files.key('user')
    files.authorize(files.publicKey('user'))
    const call = { port: door.port, key }
    const refused: readonly (readonly [options: readonly string[], command: readonly string[], reason: string])[] = [
      [[], ['ls'], 'no command but nbd can be run here'],
      [[], ['nbd', 'disk'], 'no command but nbd can be run here'],
      [[], ['-s', 'sftp'], 'no command but nbd can be run here'],
      [[], [], 'there is no shell here'],
      [['-tt'], ['ls'], 'there are no terminals here'],
      [['-N', '-o', 'ExitOnForwardFailure=yes', '-R', '0:127.0.0.1:22'], [], 'there are no remote forwards here'],
      [
        ['-N', '-o', 'ExitOnForwardFailure=yes', '-R', '/tmp/nbdgate-remote.sock:127.0.0.1:22'],
        [],
        'there are no remote',
      ],
      [['-W', '127.0.0.1:22'], [], 'only NBD is here'],
    ]
    for (const [options, command, reason] of refused) {
      const { code, stdout, stderr } = await run(files.argv({ ...call, options }, ...command), { input: '' })
      // Where it is the client that gives up, it is 255.
      const isClients = ['-N', '-W', '-tt'].some(option => options.includes(option))
      expect([code, stdout], [...options, ...command].join(' ')).toEqual([isClients ? 255 : 1, ''])
      await door.running.waitForLog(line => line.msg === 'ssh refused' && String(line.reason).includes(reason))
      // Of forwards and terminals that it does not get, a quiet ssh says so in words of its own.
      if (!isClients) expect(stderr).toContain(reason)
    }
    const [none] = [await run(files.argv({ ...call, options: ['-o', 'PubkeyAuthentication=no'] }, 'nbd'))]
    expect(none.code).toBe(255)
    for (const option of [
      'Ciphers=chacha20-poly1305@openssh.com',
      'Ciphers=aes128-ctr',
      'KexAlgorithms=diffie-hellman-group14-sha1',
    ]) {
      expect((await run(files.argv({ ...call, options: ['-o', option] }, 'nbd'))).code, option).toBe(255)
    }
  })
})
