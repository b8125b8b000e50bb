// The SSH door under what goes wrong: floods, broken files, clients that stall, hundreds of logins.
import { once } from 'node:events'
import { chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import ssh2 from 'ssh2'
import { expect } from 'vitest'
import { MAIN } from '../support/gateway.ts'
import { run, runOk } from '../support/process.ts'
import { openFds, rssKiB } from '../support/procfs.ts'
import { requires } from '../support/requires.ts'
import { waitFor } from '../support/wait.ts'
import { config } from './configs.ts'
import { greets, isGreeted, sshConfig, test } from './ssh-support.ts'

const LOGINS = 300
const FLOOD = 100
const MIB_IN_KIB = 1024

requires(
  'ssh',
  'ssh-keygen',
  'nbd-server',
  'nbdinfo',
  'nbdcopy',
)('the SSH door', () => {
  test(`gives back all that ${LOGINS} logins took`, { timeout: 180_000 }, async ({ disk, files, gateway }) => {
    const key = await files.key('user')
    files.authorize(files.publicKey('user'))
    const allow = [{ who: 'anyone', rights: 'read' }]
    const exports = [{ name: 'disk', upstream: { file: disk }, allow }]
    const running = await gateway(config([files.door()], exports), { nodeArgs: ['--expose-gc'] })
    const call = { port: running.port('ssh'), key }
    const logins = (): number => running.log().filter(({ msg }) => msg === 'ssh ended').length
    const login = async (): Promise<void> => {
      expect(await greets(files.argv(call, 'nbd'))).toBe(true)
    }
    // What is made once, at the first of them, is not to be given back.
    for (let i = 0; i < 30; i++) await login()
    await waitFor('the first to be gone', () => logins() === 30)
    const [fds, kib] = [openFds(running.pid), rssKiB(running.pid)]
    for (let i = 0; i < LOGINS; i += 4) await Promise.all([login(), login(), login(), login()])
    await waitFor('all to be gone', () => logins() === 30 + LOGINS)
    expect(openFds(running.pid)).toBe(fds)
    expect(rssKiB(running.pid) - kib).toBeLessThan(32 * MIB_IN_KIB)
  })

  test('lets people in while somebody floods it with half-open logins', async ({ disk, files, gateway }) => {
    const key = await files.key('user')
    files.authorize(files.publicKey('user'))
    const limits = { sessions: FLOOD + 20, 'sessions-per-address': FLOOD + 20, negotiation: '3s' }
    const allow = [{ who: 'anyone', rights: 'read' }]
    const running = await gateway(
      config([files.door()], [{ name: 'disk', upstream: { file: disk }, allow }], { limits }),
    )
    const port = running.port('ssh')
    const flood: Socket[] = []
    for (let i = 0; i < FLOOD; i++) {
      const socket = connect({ host: '127.0.0.1', port })
      socket.on('error', () => {})
      socket.resume()
      // Some say nothing, some say who they are and no more, some begin with garbage.
      if (i % 3 > 0) socket.write(i % 3 === 1 ? 'SSH-2.0-flood\r\n' : 'GET / HTTP/1.1\r\n\r\n')
      flood.push(socket)
    }
    expect(await greets(files.argv({ port, key }, 'nbd'))).toBe(true)
    await Promise.all(flood.map(socket => (socket.closed ? undefined : once(socket, 'close'))))
    // Of many within a second a line says how many more there were.
    const lines = () => running.log().filter(({ msg }) => msg === 'ssh login failed')
    const failed = (): number => lines().reduce((sum, { times }) => sum + (typeof times === 'number' ? times : 1), 0)
    await waitFor('each of them in the log', () => failed() === FLOOD)
    expect(await greets(files.argv({ port, key }, 'nbd'))).toBe(true)
  })

  test('counts channels: no more than the sessions of an address', async ({ dir, disk, files, gateway, tunnel }) => {
    const key = await files.key('user')
    files.authorize(files.publicKey('user'))
    const limits = { 'sessions-per-address': 3 }
    const allow = [{ who: 'anyone', rights: 'read' }]
    const running = await gateway(
      config([files.door()], [{ name: 'disk', upstream: { file: disk }, allow }], { limits }),
    )
    const socket = join(dir, 'l.sock')
    await tunnel({ port: running.port('ssh'), key }, { [socket]: '/exports/disk' })
    const held = [connect(socket), connect(socket)]
    for (const each of held) await once(each, 'data')
    expect(await isGreeted(socket)).toBe(false)
    await running.waitForLog(({ msg, reason }) => msg === 'turned away' && reason === 'sessions-per-address')
    held[0]?.destroy()
    await waitFor('a place', () => isGreeted(socket))
    for (const each of held) each.destroy()
  })

  test('names a broken line of authorized_keys, admits nobody by it, and the others', async ({
    disk,
    files,
    gateway,
  }) => {
    const [good, bad] = [await files.key('good'), await files.key('bad')]
    files.authorize('# people', files.publicKey('good'), `restrict,command="ls" ${files.publicKey('bad')}`)
    const exports = [{ name: 'disk', upstream: { file: disk }, allow: [{ who: 'anyone', rights: 'read' }] }]
    const running = await gateway(config([files.door()], exports))
    const { code, stderr } = await run([process.execPath, MAIN, 'check', running.configFile])
    expect(code).toBe(2)
    expect(stderr).toBe(`${files.authorizedKeys}:3:10: command= is refused: no command but nbd can be run here\n`)
    expect(running.log().find(({ msg }) => msg === 'ssh key file')).toMatchObject({
      level: 'warn',
      line: 3,
      column: 10,
    })
    const port = running.port('ssh')
    expect(await greets(files.argv({ port, key: bad }, 'nbd'))).toBe(false)
    expect(await greets(files.argv({ port, key: good }, 'nbd'))).toBe(true)
    rmSync(files.authorizedKeys)
    expect(await greets(files.argv({ port, key: good }, 'nbd'))).toBe(false)
    files.authorize(files.publicKey('bad'))
    expect(await greets(files.argv({ port, key: bad }, 'nbd'))).toBe(true)
  })

  test('ends the sessions of a key that is taken out, and no others', async ({ dir, disk, files, gateway, tunnel }) => {
    const [stays, goes] = [await files.key('stays'), await files.key('goes')]
    files.authorize(files.publicKey('stays'), files.publicKey('goes'))
    const exports = [{ name: 'disk', upstream: { file: disk }, allow: [{ who: 'anyone', rights: 'read' }] }]
    const running = await gateway(config([files.door()], exports))
    const port = running.port('ssh')
    const sockets = { stays: join(dir, 's.sock'), goes: join(dir, 'g.sock') }
    await tunnel({ port, key: stays }, { [sockets.stays]: '/exports/disk' })
    await tunnel({ port, key: goes }, { [sockets.goes]: '/exports/disk' })
    const opened = (): number => running.log().filter(({ msg }) => msg === 'session opened').length
    const held: Socket[] = []
    for (const path of [sockets.stays, sockets.goes]) {
      const socket = connect(path)
      socket.on('error', () => {})
      socket.resume()
      socket.write(Buffer.concat([Buffer.from('00000003', 'hex'), exportName('disk')]))
      held.push(socket)
    }
    await waitFor('both sessions', () => opened() === 2)
    const [first, second] = held
    files.authorize(files.publicKey('stays'))
    await running.waitForLog(({ msg, why }) => msg === 'session ended' && String(why).includes('login: an unknown key'))
    await waitFor('its end', () => second?.closed === true)
    expect(first?.closed).toBe(false)
    for (const socket of held) socket.destroy()
  })

  test('warns of keys that pass for any name where rules go by names', async ({ disk, files, dir }) => {
    await files.key('one')
    await files.key('two')
    files.authorize(`principals="bob" ${files.publicKey('one')}`, files.publicKey('two'))
    const allow = [{ who: 'ssh:user=bob', rights: 'read' }]
    writeFileSync(join(dir, 'n.yaml'), config([files.door()], [{ name: 'disk', upstream: { file: disk }, allow }]))
    const { code, stdout } = await run([process.execPath, MAIN, 'check', join(dir, 'n.yaml')])
    expect(code).toBe(0)
    expect(stdout).toContain('lines 2 have no principals=')
  })

  test('does not start with a host key that can not be used, and says which', async ({ dir, disk, files }) => {
    const key = await files.key('other')
    await runOk(['ssh-keygen', '-q', '-t', 'ed25519', '-N', 'secret', '-f', join(dir, 'locked')])
    writeFileSync(join(dir, 'junk'), 'junk')
    const cases = {
      [join(dir, 'none')]: 'there is no host key: `nbdgate certs init` makes one',
      [join(dir, 'junk')]: 'this is no private key',
      [join(dir, 'locked')]: 'protected by a passphrase',
      [`${key}.pub`]: 'this is a public key',
    }
    if (userInfo().uid !== 0) {
      chmodSync(key, 0)
      cases[key] = 'the host key can not be read'
    }
    for (const [file, sentence] of Object.entries(cases)) {
      const exports = [{ name: 'disk', upstream: { file: disk } }]
      writeFileSync(join(dir, 'n.yaml'), config([files.door({ 'host-keys': [file] })], exports))
      const { code, stderr } = await run([process.execPath, MAIN, 'serve', '--config', join(dir, 'n.yaml')])
      expect(code).toBe(2)
      expect(stderr).toContain(`${file}: `)
      expect(stderr).toContain(sentence)
    }
  })

  test('keeps less than 8 MiB for a client that reads nothing', async ({
    disk,
    files,
    gateway,
    nbdServer,
    dir,
    tunnel,
  }) => {
    const key = await files.key('user')
    files.authorize(files.publicKey('user'))
    const server = await nbdServer({ exports: { disk: { file: disk } } })
    const running = await gateway(sshConfig(files, `nbd://127.0.0.1:${server.port}/disk`))
    const port = running.port('ssh')
    // Warm: buffers that a busy gateway has are there.
    const socket = join(dir, 'warm.sock')
    await tunnel({ port, key }, { [socket]: '/exports/disk' })
    for (let i = 0; i < 4; i++) await runOk(['nbdcopy', `nbd+unix:///?socket=${socket}`, 'null:'])
    const before = rssKiB(running.pid)
    const { client, sock } = await loggedIn(port, key)
    try {
      const channel = await new Promise<ssh2.ClientChannel>((resolve, reject) => {
        client.exec('nbd', (error, opened) => (error === undefined ? resolve(opened) : reject(error)))
      })
      channel.write(Buffer.concat([Buffer.from('00000003', 'hex'), exportName('disk')]))
      const opened = (): number => running.log().filter(({ msg }) => msg === 'session opened').length
      const ended = (): number => running.log().filter(({ msg }) => msg === 'session ended').length
      await waitFor('its session', () => opened() === ended() + 1)
      // 512 READs of 1 MiB; the window is raised to all there is, and not a byte of the answers is taken.
      Reflect.get(client, '_protocol').channelWindowAdjust(
        Reflect.get(Object(Reflect.get(channel, 'outgoing')), 'id'),
        0xf000_0000,
      )
      sock.pause()
      for (let i = 0; i < 512; i++) channel.write(readRequest(i))
      const peak = await highest(() => rssKiB(running.pid))
      expect(peak - before).toBeLessThan(8 * MIB_IN_KIB)
    } finally {
      client.destroy()
    }
  })
})

/**
 * The highest of a size in KiB, read until it has not risen for a while of polls. The timers of a process that does nothing touch
 * a new page a few times in a second: that is no rise, as long as the while has not brought a sixteenth of a MiB.
 */
async function highest(read: () => number): Promise<number> {
  let [top, calm, mark] = [0, 0, 0]
  await waitFor(
    'calm',
    () => {
      const now = read()
      top = Math.max(top, now)
      calm = top > mark + 64 ? 0 : calm + 1
      if (calm === 0) mark = top
      return calm > 100
    },
    { describe: () => `${top} KiB at last, ${mark} KiB at the last rise` },
  )
  return top
}

async function loggedIn(port: number, key: string): Promise<{ client: ssh2.Client; sock: Socket }> {
  const client = new ssh2.Client()
  const sock = connect({ host: '127.0.0.1', port })
  client.on('error', () => {})
  sock.on('error', () => {})
  client.connect({ sock, username: 'bob', privateKey: readFileSync(key) })
  await once(client, 'ready')
  return { client, sock }
}

/** NBD_OPT_EXPORT_NAME. */
function exportName(name: string): Buffer {
  const head = Buffer.from('49484156454f50540000000100000000', 'hex')
  head.writeUInt32BE(name.length, 12)
  return Buffer.concat([head, Buffer.from(name)])
}

/** A READ of the first MiB. */
function readRequest(cookie: number): Buffer {
  const head = Buffer.from('25609513000000000000000000000000000000000000000000100000', 'hex')
  head.writeUInt32BE(cookie, 12)
  return head
}
