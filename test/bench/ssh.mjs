// `node test/bench/ssh.mjs`: nbdgate's SSH door beside Debian's sshd, both behind `ssh -N -L` with AES-GCM, in front of
// the same nbd-server disk, alternating in one run. Medians and ratios; absolute times of a shared machine mean nothing.
//
//   --rounds N   --mib N   --node PATH   --only WORD
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { canConnect, freePort, median, run, start, stopAll, timed, waitFor } from './tools.mjs'

const args = process.argv.slice(2)
const option = (name, fallback) => (args.includes(name) ? args[args.indexOf(name) + 1] : fallback)
const ROUNDS = Number(option('--rounds', '5'))
const NODE = option('--node', process.execPath)
const SIZE_MIB = Number(option('--mib', '512'))
const ONLY = option('--only', '')
const CIPHER = 'aes128-gcm@openssh.com'

const dir = mkdtempSync(join(tmpdir(), 'nbdgate-bench-'))
const memory = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : dir, 'nbdgate-bench-'))
try {
  await main()
} finally {
  await stopAll()
  for (const each of [memory, dir]) rmSync(each, { recursive: true, force: true })
}

async function main() {
  const disk = join(memory, 'disk.img')
  await run(['sh', '-c', `head -c ${SIZE_MIB}M /dev/urandom > ${disk}`])
  const peers = await startPeers(disk)
  const uri = port => `nbd://127.0.0.1:${port}/disk`
  const measures = {
    'read, 1 connection (s)': port => timed(['nbdcopy', '--connections=1', uri(port), 'null:']),
    'write, 1 connection (s)': port => timed(['nbdcopy', '--connections=1', disk, uri(port)]),
    'randread 4 KiB, depth 1 (µs)': port => randread(port, 1),
    'randread 4 KiB, depth 32 (1/s)': port => randread(port, 32),
  }
  console.log(`${SIZE_MIB} MiB, ${ROUNDS} rounds, ${CIPHER}, medians`)
  for (const [name, measure] of Object.entries(measures)) {
    if (!name.includes(ONLY)) continue
    const samples = Object.fromEntries(Object.keys(peers).map(peer => [peer, []]))
    for (let round = -1; round < ROUNDS; round++) {
      for (const [peer, port] of Object.entries(peers)) {
        const value = await measure(port)
        if (round >= 0) samples[peer].push(value)
      }
    }
    const [ours, theirs] = [median(samples.nbdgate), median(samples.sshd)]
    const isRate = name.includes('1/s')
    const speed = isRate ? ours / theirs : theirs / ours
    const digits = name.includes('(s)') ? 3 : 0
    console.log(`${name}: nbdgate ${ours.toFixed(digits)}, sshd ${theirs.toFixed(digits)}  ->  ${speed.toFixed(2)} ×`)
  }
}

/** Local ports that lead to the disk, one through each server. */
async function startPeers(disk) {
  const [serverPort, gatewayPort, sshdPort, ours, theirs] = await Promise.all([1, 2, 3, 4, 5].map(freePort))
  const file = (name, text) => {
    writeFileSync(join(dir, name), text)
    return join(dir, name)
  }
  const keygen = name => run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', join(dir, name)])
  await Promise.all(['host', 'user'].map(keygen))
  const authorized = file('authorized', readFileSync(join(dir, 'user.pub')))
  const server = `[generic]\nport = ${serverPort}\nlistenaddr = 127.0.0.1\n[disk]\nexportname = ${disk}\nflush = true\n`
  await run(['nbd-server', '-C', file('nbd-server.conf', server), '-p', join(dir, 'nbd-server.pid')])
  await waitFor(() => canConnect(serverPort))
  stopAll.pidFiles.push(join(dir, 'nbd-server.pid'))

  const config = `version: 1
doors: [{ ssh: "127.0.0.1:${gatewayPort}", host-keys: [host], authorized-keys: authorized }]
exports: [{ name: disk, upstream: "nbd://127.0.0.1:${serverPort}/disk", allow: [{ who: anyone, rights: write }] }]
`
  start([NODE, 'dist/main.js', 'serve', '--config', file('nbdgate.yaml', config)], join(dir, 'gateway.log'))
  mkdirSync('/run/sshd', { recursive: true })
  const sshd = [
    `ListenAddress 127.0.0.1:${sshdPort}`,
    `HostKey ${join(dir, 'host')}`,
    `AuthorizedKeysFile ${authorized}`,
    `PidFile none`,
    'StrictModes no',
    'UsePAM no',
  ]
  start(['/usr/sbin/sshd', '-D', '-e', '-f', file('sshd_config', `${sshd.join('\n')}\n`)], join(dir, 'sshd.log'))
  await waitFor(() => canConnect(gatewayPort))
  await waitFor(() => canConnect(sshdPort))
  tunnel(gatewayPort, `${ours}:nbd:10809`)
  tunnel(sshdPort, `${theirs}:127.0.0.1:${serverPort}`)
  for (const port of [ours, theirs]) await waitFor(() => canConnect(port))
  return { nbdgate: ours, sshd: theirs }
}

function tunnel(port, forward) {
  const known = ['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR']
  const login = ['-F', 'none', '-i', join(dir, 'user'), '-o', 'IdentitiesOnly=yes', '-p', String(port)]
  const where = `${userInfo().username}@127.0.0.1`
  start(['ssh', '-N', '-c', CIPHER, ...known, ...login, '-L', forward, where], join(dir, 'ssh.log'))
}

/** fio's nbd engine: mean latency in µs at depth 1, requests a second else. */
async function randread(port, depth) {
  const job = ['fio', '--name=r', '--ioengine=nbd', `--uri=nbd://127.0.0.1:${port}/disk`, '--rw=randread', '--bs=4k']
  const bounds = [`--iodepth=${depth}`, '--time_based', '--runtime=2', `--size=${Math.min(256, SIZE_MIB)}M`]
  const { stdout } = await run([...job, ...bounds, '--output-format=json', `--aux-path=${dir}`])
  const read = JSON.parse(stdout.slice(stdout.indexOf('{'))).jobs[0].read
  return depth === 1 ? 1e6 / read.iops : read.iops
}
