// `node test/bench/etcd.mjs`: what leases in etcd cost beside leases in memory, in one run: how long a writer waits for its
// lease (connect to the answer to GO), and whether relaying is any slower or takes the gateway more processor time. Three members of etcd on the loopback. What two
// processes of the same program differ by is seen beside it: leases in memory are there twice, as `memory` and `again`,
// and each kind has several gateways, which take turns.
//
//   --rounds N   --gateways N   --only WORD   --node PATH
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { canConnect, cpuSeconds, freePort, median, run, start, stopAll, timed, waitFor } from './tools.mjs'

const args = process.argv.slice(2)
const option = (name, fallback) => (args.includes(name) ? args[args.indexOf(name) + 1] : fallback)
const ROUNDS = Number(option('--rounds', '9'))
const NODE = option('--node', process.execPath)
const GATEWAYS = Number(option('--gateways', '3'))
const ONLY = option('--only', '')
const TIMES = 200
const MIB = 256

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
  const storage = join(dir, 'storage.sock')
  const [disk, content] = [join(memory, 'disk.img'), join(memory, 'content.img')]
  for (const file of [disk, content]) await run(['sh', '-c', `head -c ${MIB}M /dev/urandom > ${file}`])
  start(['nbdkit', '-f', '-U', storage, 'file', disk], join(dir, 'nbdkit.log'))
  const etcd = await startEtcd()
  const peers = { memory: [], again: [], etcd: [] }
  for (let nth = 0; nth < GATEWAYS; nth++) {
    peers.memory.push(await startGateway('memory', storage))
    peers.again.push(await startGateway('memory', storage))
    // Each has an etcd of its own name: they are not to wait for each other's sessions.
    peers.etcd.push(await startGateway({ etcd, name: `gateway-${nth}`, prefix: `/nbdgate-${nth}/` }, storage))
  }
  for (const { port } of peers.etcd) await waitFor(async () => (await enter(port).catch(() => undefined)) !== undefined)
  const kinds = Object.keys(peers)

  const waits = { memory: [], etcd: [] }
  for (let time = 0; time < TIMES; time++)
    for (const peer of ['memory', 'etcd']) waits[peer].push(await enter(peers[peer][time % GATEWAYS].port))
  for (const [peer, list] of Object.entries(waits)) {
    const sorted = list.toSorted((a, b) => a - b)
    const worst = sorted[Math.floor(0.99 * sorted.length)]
    console.log(
      `in with the writer's lease, ${peer}: median ${median(list).toFixed(2)} ms, 99 % ${worst.toFixed(2)} ms`,
    )
  }

  const uri = port => `nbd://127.0.0.1:${port}/disk`
  const copy = async argv => ({ value: await timed(argv), units: MIB })
  const measures = {
    'read (s)': port => copy(['nbdcopy', '--connections=1', uri(port), 'null:']),
    'write (s)': port => copy(['nbdcopy', '--connections=1', content, uri(port)]),
    'randread 4 KiB, depth 32 (1/s)': port => fio(port, 'randread', 32),
    'randwrite 4 KiB, depth 32 (1/s)': port => fio(port, 'randwrite', 32),
    'randwrite 4 KiB, depth 1 (1/s)': port => fio(port, 'randwrite', 1),
  }
  for (const [name, measure] of Object.entries(measures)) {
    if (!name.includes(ONLY)) continue
    const samples = { memory: [], again: [], etcd: [] }
    // The first turn of each gateway is not counted; who begins a round changes.
    for (let round = -GATEWAYS; round < ROUNDS; round++) {
      const first = (round + GATEWAYS) % kinds.length
      for (const peer of [...kinds.slice(first), ...kinds.slice(0, first)]) {
        const { port, pid } = peers[peer][(round + GATEWAYS) % GATEWAYS]
        const before = cpuSeconds(pid)
        const { value, units } = await measure(port)
        const cpu = ((cpuSeconds(pid) - before) / units) * 1e6
        if (round >= 0) samples[peer].push({ value, cpu })
      }
    }
    const isRate = name.includes('1/s')
    const rates = kinds.map(peer => samples[peer].map(({ value }) => value))
    console.log(`${name}: ${compared(rates, isRate ? 0 : 3, isRate)}`)
    const times = kinds.map(peer => samples[peer].map(({ cpu }) => cpu))
    console.log(`  processor of the gateway, us for each ${isRate ? 'request' : 'MiB'}: ${compared(times, 1, true)}`)
  }
}

/** Medians of leases in memory, again in memory and in etcd, and what the last two are of the first. */
function compared(samples, digits, isMore) {
  const [plain, again, kept] = samples.map(median)
  const ratio = other => (isMore ? other / plain : plain / other).toFixed(3)
  const spread = samples.map(list => (Math.max(...list) / Math.min(...list)).toFixed(2))
  const values = `memory ${plain.toFixed(digits)}, etcd ${kept.toFixed(digits)}`
  return `${values}  ->  etcd ${ratio(kept)} ×, memory again ${ratio(again)} × (largest / smallest: ${spread.join(', ')})`
}

async function startEtcd() {
  const members = await Promise.all(
    [0, 1, 2].map(async index => ({
      name: `m${index}`,
      url: `http://127.0.0.1:${await freePort()}`,
      peer: `http://127.0.0.1:${await freePort()}`,
    })),
  )
  const all = members.map(({ name, peer }) => `${name}=${peer}`).join(',')
  for (const { name, url, peer } of members) {
    const clients = ['--listen-client-urls', url, '--advertise-client-urls', url]
    const peers = ['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', all]
    start(['etcd', '--name', name, '--data-dir', join(dir, name), ...clients, ...peers], join(dir, `${name}.log`))
  }
  for (const { url } of members) await waitFor(() => canConnect(Number(new URL(url).port)))
  return members.map(({ url }) => url)
}

/** A gateway with a plain door for one writer at a time. */
async function startGateway(leases, storage) {
  const port = await freePort()
  const file = join(dir, `gateway-${port}.yaml`)
  const doors = [{ tcp: `127.0.0.1:${port}`, from: ['127.0.0.0/8'] }]
  const allow = [{ who: 'anyone', rights: 'write' }]
  const exports = [{ name: 'disk', upstream: `nbd+unix:///?socket=${storage}`, allow, sharing: 'exclusive' }]
  writeFileSync(file, JSON.stringify({ version: 1, workers: 1, doors, exports, leases }))
  const { pid } = start([NODE, 'dist/main.js', 'serve', '--config', file], join(dir, `gateway-${port}.log`))
  await waitFor(() => canConnect(port))
  return { port, pid }
}

/** One session up to the answer to GO, and its end; how long the former took, in ms. */
async function enter(port) {
  const begin = performance.now()
  const socket = connect({ host: '127.0.0.1', port, noDelay: true })
  let got = Buffer.alloc(0)
  socket.on('data', bytes => (got = Buffer.concat([got, bytes])))
  socket.on('error', () => {})
  const until = async size => {
    while (got.length < size) {
      if (socket.destroyed) throw new Error('gone')
      await Promise.race([once(socket, 'data'), once(socket, 'close')])
    }
  }
  await until(18)
  socket.write(Buffer.from('0000000349484156454f5054000000070000000a000000046469736b0000', 'hex'))
  await until(18 + 20)
  if (got.readUInt32BE(18 + 12) >= 2 ** 31) {
    socket.destroy()
    throw new Error('refused')
  }
  await until(18 + 52)
  const ms = performance.now() - begin
  socket.end(Buffer.from('25609513000000020000000000000000000000000000000000000000', 'hex'))
  if (!socket.destroyed) await once(socket, 'close')
  return ms
}

async function fio(port, rw, depth) {
  const job = ['fio', '--name=r', '--ioengine=nbd', `--uri=nbd://127.0.0.1:${port}/disk`, `--rw=${rw}`, '--bs=4k']
  const bounds = [`--iodepth=${depth}`, '--time_based', '--runtime=2', `--size=${MIB}M`]
  const { stdout } = await run([...job, ...bounds, '--output-format=json', `--aux-path=${dir}`])
  const { read, write } = JSON.parse(stdout.slice(stdout.indexOf('{'))).jobs[0]
  return { value: Math.max(read.iops, write.iops), units: read.total_ios + write.total_ios }
}
