// `npm run bench`: nbdgate's TLS gateway beside nbdkit's and qemu-nbd's TLS proxies, all in front of the same nbd-server
// disk, alternating in one run. Prints medians and ratios; absolute times of a shared machine mean nothing.
// What not to conclude: see README, "Benchmarks".
//
// nbdgate is there twice: as it comes, with a worker for each core, and with all sessions in one process.
//
//   npm run bench                 the running Node
//   npm run bench -- --rounds 9   more rounds
//   npm run bench -- --node PATH  the gateway on another Node
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { idleMemory } from './idle-memory.mjs'
import { canConnect, cpuSeconds, freePort, makePki, median, run, start, stopAll, timed, waitFor } from './tools.mjs'

const args = process.argv.slice(2)
const option = (name, fallback) => (args.includes(name) ? args[args.indexOf(name) + 1] : fallback)
const ROUNDS = Number(option('--rounds', '5'))
const NODE = option('--node', process.execPath)
const SIZE_MIB = Number(option('--mib', '512'))
const NOBODY = 65534
const ONLY = option('--only', '')

const dir = mkdtempSync(join(tmpdir(), 'nbdgate-bench-'))
// The disk lies in memory where it can: the kernel's writeback to a real one stalls writers for seconds.
const memory = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : dir, 'nbdgate-bench-'))
try {
  await main()
} finally {
  await stopAll()
  for (const each of [memory, dir]) rmSync(each, { recursive: true, force: true })
}

async function main() {
  const nodeVersion = (await run([NODE, '--version'])).stdout.trim()
  console.log(`nbdgate on Node ${nodeVersion}, ${SIZE_MIB} MiB, ${ROUNDS} rounds, medians of seconds unless said`)
  const certs = await makePki(dir)
  const disk = join(memory, 'disk.img')
  await run(['sh', '-c', `head -c ${SIZE_MIB}M /dev/urandom > ${disk}`])
  const peers = await startPeers(disk, certs)
  const results = {}
  const client = `${certs}/alice`
  const home = await makeHome(client)
  const uri = port => `nbds://localhost:${port}/disk?tls-certificates=${client}`

  const measures = {
    'read, 1 connection': port => timed(['nbdcopy', '--connections=1', uri(port), 'null:']),
    'read, 4 connections': port => timed(['nbdcopy', '--connections=4', uri(port), 'null:']),
    'write, 1 connection': port => timed(['nbdcopy', '--connections=1', disk, uri(port)]),
    'write, 4 connections': port => timed(['nbdcopy', '--connections=4', disk, uri(port)]),
    'randread 4 KiB, depth 1 (µs)': port => randread(port, home, 1),
    'randread 4 KiB, depth 32 (1/s)': port => randread(port, home, 32),
  }
  for (const [name, measure] of Object.entries(measures)) {
    if (ONLY !== '' && !name.includes(ONLY)) continue
    const samples = Object.fromEntries(Object.keys(peers).map(peer => [peer, []]))
    for (let round = -1; round < ROUNDS; round++) {
      for (const [peer, { port, pid }] of Object.entries(peers)) {
        const before = cpuSeconds(pid())
        const value = await measure(port)
        if (round >= 0) samples[peer].push({ value, cpu: cpuSeconds(pid()) - before })
      }
    }
    results[name] = Object.fromEntries(
      Object.entries(samples).map(([peer, list]) => [
        peer,
        {
          value: median(list.map(each => each.value)),
          cpu: median(list.map(each => each.cpu)),
          samples: list.map(each => each.value),
        },
      ]),
    )
    report(name, results[name])
  }
  if (ONLY === '' || ONLY.includes('idle')) {
    results['idle KiB'] = {}
    for (const peer of ['nbdgate', 'nbdgate, 1 process']) {
      const { port, pid } = peers[peer]
      const kib = await idleMemory({ port, pid: pid(), certs: client, sessions: 500 })
      console.log(`memory of an idle session of ${peer} (500 of them): ${kib.toFixed(0)} KiB`)
      results['idle KiB'][peer] = kib
    }
  }
  mkdirSync('.work', { recursive: true })
  writeFileSync(`.work/bench-${nodeVersion}.json`, `${JSON.stringify(results, null, 2)}\n`)
}

async function startPeers(disk, certs) {
  const serverPort = await freePort()
  writeFileSync(
    join(dir, 'nbd-server.conf'),
    `[generic]\nport = ${serverPort}\nlistenaddr = 127.0.0.1\n[disk]\nexportname = ${disk}\nflush = true\nfua = true\n`,
  )
  await run(['nbd-server', '-C', join(dir, 'nbd-server.conf'), '-p', join(dir, 'nbd-server.pid')])
  await waitFor(() => canConnect(serverPort))
  stopAll.pidFiles.push(join(dir, 'nbd-server.pid'))
  const upstream = `nbd://127.0.0.1:${serverPort}/disk`
  const [nbdkitPort, qemuPort] = [await freePort(), await freePort()]

  const gateway = await startGateway('auto', certs, upstream)
  const alone = await startGateway(1, certs, upstream)
  // nbdkit and qemu want a folder with the server's files under their own names: the same that `certs` writes.
  const nbdkit = start(
    [
      'nbdkit',
      '-f',
      '-p',
      String(nbdkitPort),
      '-i',
      '127.0.0.1',
      '--tls=require',
      '--tls-verify-peer',
      `--tls-certificates=${certs}`,
      '-e',
      'disk',
      'nbd',
      `uri=${upstream}`,
    ],
    join(dir, 'nbdkit.log'),
  )
  const qemu = start(
    [
      'qemu-nbd',
      '-t',
      '-e',
      '64',
      '-b',
      '127.0.0.1',
      '-p',
      String(qemuPort),
      '-x',
      'disk',
      '-f',
      'raw',
      '--object',
      `tls-creds-x509,id=tls0,dir=${certs},endpoint=server,verify-peer=on`,
      '--tls-creds',
      'tls0',
      upstream,
    ],
    join(dir, 'qemu.log'),
  )
  for (const port of [nbdkitPort, qemuPort]) await waitFor(() => canConnect(port))
  return {
    nbdgate: gateway,
    'nbdgate, 1 process': alone,
    nbdkit: { port: nbdkitPort, pid: () => nbdkit.pid },
    'qemu-nbd': { port: qemuPort, pid: () => qemu.pid },
  }
}

/** A gateway that is ready, with its sessions in so many workers. */
async function startGateway(workers, certs, upstream) {
  const port = await freePort()
  const file = join(dir, `nbdgate-${workers}.yaml`)
  const text = `version: 1
workers: ${workers}
doors:
  - { tls: "127.0.0.1:${port}", cert: ${certs}/server-cert.pem, key: ${certs}/server-key.pem, client-ca: ${certs}/ca-cert.pem }
exports:
  - { name: disk, upstream: "${upstream}", allow: [{ who: "cert:cn=alice", rights: write }] }
limits: { sessions: 2000, sessions-per-address: 2000 }
`
  writeFileSync(file, text)
  const nodeArgs = (option('--node-args', '') || '').split(' ').filter(Boolean)
  const gateway = start([NODE, ...nodeArgs, 'dist/main.js', 'serve', '--config', file], join(dir, 'gateway.log'))
  await waitFor(() => canConnect(port))
  return { port, pid: () => gateway.pid }
}

/**
 * fio takes no certificates in its URI: libnbd finds them in $HOME/.pki/libnbd, but for root, for whom it looks in /etc
 * alone. So there is a home with a copy, and root runs fio as nobody.
 */
async function makeHome(client) {
  const home = join(dir, 'home')
  mkdirSync(join(home, '.pki'), { recursive: true })
  cpSync(client, join(home, '.pki', 'libnbd'), { recursive: true })
  if (process.getuid() === 0) await run(['chown', '-R', String(NOBODY), home])
  chmodSync(dir, 0o755)
  return home
}

/** fio's nbd engine: mean latency in µs at depth 1, requests a second else. */
async function randread(port, home, depth) {
  const job = ['fio', '--name=r', '--ioengine=nbd', `--uri=nbds://localhost:${port}/disk`, '--rw=randread', '--bs=4k']
  const bounds = [`--iodepth=${depth}`, '--time_based', '--runtime=2', `--size=${Math.min(256, SIZE_MIB)}M`]
  const user = process.getuid() === 0 ? ['setpriv', `--reuid=${NOBODY}`, '--clear-groups'] : []
  const env = ['env', `HOME=${home}`]
  const { stdout } = await run([...user, ...env, ...job, ...bounds, '--output-format=json', `--aux-path=${home}`])
  const read = JSON.parse(stdout.slice(stdout.indexOf('{'))).jobs[0].read
  return depth === 1 ? 1e6 / read.iops : read.iops
}

function report(name, result) {
  const rate = name.includes('1/s')
  const ours = result.nbdgate.value
  const others = Object.entries(result).filter(([peer]) => peer !== 'nbdgate')
  const cells = Object.entries(result).map(
    ([peer, { value, cpu }]) =>
      `${peer} ${value.toFixed(rate || name.includes('µs') ? 0 : 3)} (cpu ${cpu.toFixed(2)} s)`,
  )
  const ratios = others.map(([peer, { value }]) => `${(rate ? ours / value : value / ours).toFixed(2)} × ${peer}`)
  console.log(`${name}: ${cells.join(', ')}  ->  ${ratios.join(', ')}`)
}
