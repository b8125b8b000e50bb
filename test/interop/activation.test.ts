// What a service manager hands over and is told: sockets that are open already, and what becomes of the gateway.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { hearNotifications, withSockets } from '../support/activation.ts'
import { test } from '../support/fixtures.ts'
import { MAIN } from '../support/gateway.ts'
import { run, runOk } from '../support/process.ts'
import { childrenOf } from '../support/procfs.ts'
import { requires } from '../support/requires.ts'
import { freePort, isConnectable } from '../support/wait.ts'
import { config, tcpDoor, tlsDoor } from './configs.ts'
import { greeted } from './raw-client.ts'

const HOST = '127.0.0.1'

/** The sockets that a process has, by their inodes. */
function socketsOf(pid: number): ReadonlySet<string> {
  const links = readdirSync(`/proc/${pid}/fd`).map(fd => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`)
    } catch {
      return ''
    }
  })
  return new Set(links.filter(link => link.startsWith('socket:')))
}

/** Inodes of the sockets that listen on a port or a path, as the kernel lists them. */
function listenersOn(place: { readonly port: number } | { readonly path: string }): readonly string[] {
  if ('path' in place) {
    const rows = readFileSync('/proc/net/unix', 'utf8')
      .split('\n')
      .map(row => row.trim().split(/\s+/))
    return rows.filter(row => row[7] === place.path && row[3] === '00010000').map(row => `socket:[${row[6]}]`)
  }
  const port = place.port.toString(16).toUpperCase().padStart(4, '0')
  const rows = readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .map(row => row.trim().split(/\s+/))
  return rows.filter(row => row[1]?.endsWith(`:${port}`) && row[3] === '0A').map(row => `socket:[${row[9]}]`)
}

requires('python3:nbd')('sockets that a service manager has opened', () => {
  test('are the doors, by address or by name, and go to no child', async ({ dir, gateway, pki }) => {
    const [byAddress, byName, http] = [await freePort(), await freePort(), await freePort()]
    const [path, admin] = [join(dir, 'nbd.sock'), join(dir, 'admin.sock')]
    // The TLS door's address is not the one that its socket has: the name says which it is.
    const doors = [tcpDoor({ tcp: `${HOST}:${byAddress}` }), tlsDoor(pki, { tls: `${HOST}:1` }), { unix: path }]
    const more = { admin: { socket: admin, http: `${HOST}:${http}` }, workers: 2 }
    const wrap = withSockets([
      { name: 'nbdgate.socket', at: `${HOST}:${http}` },
      { name: 'tls', at: `${HOST}:${byName}` },
      { name: '', at: path },
      { name: 'other.socket', at: `${HOST}:${byAddress}` },
      { name: 'admin', at: admin },
    ])
    const running = await gateway(config(doors, [], more), { wrap })
    expect(running.doors).toEqual([
      { kind: 'tcp', address: `${HOST}:${byAddress}` },
      { kind: 'tls', address: `${HOST}:${byName}` },
      { kind: 'unix', address: path },
    ])
    for (const address of [{ host: HOST, port: byAddress }, { host: HOST, port: byName }, { path }])
      (await greeted(address)).reset()
    expect(await runOk([process.execPath, MAIN, 'sessions', '--socket', admin])).toContain('nobody')
    // Each place has one listener, and the gateway alone has it.
    const listeners = [{ port: byAddress }, { port: byName }, { port: http }, { path }, { path: admin }].map(
      listenersOn,
    )
    expect(listeners.map(found => found.length)).toEqual([1, 1, 1, 1, 1])
    const workers = childrenOf(running.pid)
    expect(workers).toHaveLength(2)
    for (const [inode = ''] of listeners) {
      expect(socketsOf(running.pid)).toContain(inode)
      for (const worker of workers) expect(socketsOf(worker)).not.toContain(inode)
    }
    for (const worker of workers) expect(readFileSync(`/proc/${worker}/environ`, 'utf8')).not.toContain('LISTEN_')
    // What the manager has made is the manager's to take away.
    expect(await running.stop()).toBe(0)
    expect(readdirSync(dir)).toEqual(expect.arrayContaining(['nbd.sock', 'admin.sock']))
  })

  test('that belong to no door, or do not listen, are a mistake', async ({ dir }) => {
    const file = join(dir, 'nbdgate.yaml')
    await writeFile(file, config([tcpDoor()], []))
    const serve = [process.execPath, MAIN, 'serve', '--config', file]
    const port = await freePort()
    const lost = await run([...withSockets([{ name: 'else', at: `${HOST}:${port}` }]), ...serve])
    expect(lost).toMatchObject({ code: 2 })
    expect(lost.stderr).toBe(
      `nbdgate: LISTEN_FDS: descriptor 3 (else) listens on ${HOST}:${port}, which is no door of ${file}\n`,
    )
    const wrong = await run([...withSockets([{ name: 'dgram', at: `${HOST}:${port}` }]), ...serve])
    expect(wrong).toMatchObject({ code: 2 })
    expect(wrong.stderr).toContain('descriptor 3 (dgram) is no stream socket that listens')
    const twice = await run([
      ...withSockets([
        { name: 'tcp', at: `${HOST}:0` },
        { name: 'tcp', at: `${HOST}:0` },
      ]),
      ...serve,
    ])
    expect(twice.stderr).toContain('descriptor 4 (tcp) listens on')
  })

  test('of another process are none of ours', async ({ dir, gateway }) => {
    const env = { LISTEN_PID: '1', LISTEN_FDS: '3', LISTEN_FDNAMES: 'a:b:c' }
    const running = await gateway(config([{ unix: join(dir, 'nbd.sock') }], []), { env })
    expect(await isConnectable({ path: join(dir, 'nbd.sock') })).toBe(true)
    expect(await running.stop()).toBe(0)
  })
})

requires('python3:nbd')('the service manager', () => {
  test('is told when the gateway serves, reloads, lives and ends', async ({ dir, gateway }) => {
    const path = join(dir, 'notify.sock')
    const manager = await hearNotifications(path)
    try {
      const env = { NOTIFY_SOCKET: path, WATCHDOG_USEC: '100000' }
      const running = await gateway(config([tcpDoor()], [], { workers: 1 }), { env })
      await manager.waitFor(/^READY=1; STATUS=serving$/)
      await manager.waitFor(/^WATCHDOG=1$/)
      running.kill('SIGHUP')
      await running.waitForLog(({ msg }) => msg === 'reloaded')
      const reloading = await manager.waitFor(/^RELOADING=1; MONOTONIC_USEC=\d+; STATUS=reloading$/)
      const at = Number(/USEC=(\d+)/.exec(reloading)?.[1]) / 1e6
      const uptime = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0])
      // A virtual machine that has slept has two clocks; this one has not been up for longer than it says.
      expect(at).toBeGreaterThan(0)
      expect(at).toBeLessThanOrEqual(uptime + 1)
      running.kill('SIGTERM')
      expect(await running.waitForExit()).toMatchObject({ code: 0 })
      await manager.waitFor(/^STOPPING=1; STATUS=draining/)
      const told = manager
        .heard()
        .filter(line => line !== 'WATCHDOG=1')
        .map(line => line.split(/[=;]/)[0])
      expect(told).toEqual(['READY', 'RELOADING', 'READY', 'STOPPING'])
    } finally {
      await manager.stop()
    }
  })

  test('may have an abstract socket, and nobody else gets to know of it', async ({ gateway }) => {
    const name = `@nbdgate-test-${process.pid}`
    const manager = await hearNotifications(name)
    try {
      const running = await gateway(config([tcpDoor()], [], { workers: 2 }), { env: { NOTIFY_SOCKET: name } })
      await manager.waitFor(/^READY=1/)
      for (const worker of childrenOf(running.pid))
        expect(readFileSync(`/proc/${worker}/environ`, 'utf8')).not.toContain('NOTIFY_SOCKET')
      expect(await running.stop()).toBe(0)
      expect(manager.heard().some(line => line.startsWith('WATCHDOG'))).toBe(false)
    } finally {
      await manager.stop()
    }
  })
})
