// What counting and telling costs: the gateway without anybody who looks, with a scrape of /metrics each second, with the page
// open and its map counting, and, with `--before FOLDER`, another build, twice, in turn in front of one nbd-server disk. Over a plain TCP door: without TLS a request is
// cheapest, and what is added to it weighs most. Prints medians, and the median of the ratios of each round.
//
//   node test/bench/metrics.mjs --before ../main --rounds 9 --no-page
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { canConnect, freePort, median, run, start, stopAll, waitFor } from './tools.mjs'

const args = process.argv.slice(2)
const option = (name, fallback) => (args.includes(name) ? args[args.indexOf(name) + 1] : fallback)
const ROUNDS = Number(option('--rounds', '7'))
const SIZE_MIB = Number(option('--mib', '512'))
const SECONDS = Number(option('--seconds', '3'))
const BEFORE = option('--before', '')

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
  const serverPort = await freePort()
  const conf = join(dir, 'nbd-server.conf')
  writeFileSync(conf, `[generic]\nport = ${serverPort}\nlistenaddr = 127.0.0.1\n[disk]\nexportname = ${disk}\n`)
  await run(['nbd-server', '-C', conf, '-p', join(dir, 'nbd-server.pid')])
  await waitFor(() => canConnect(serverPort))
  stopAll.pidFiles.push(join(dir, 'nbd-server.pid'))

  const plain = await gateway('plain', 'dist/main.js', serverPort, await freePort())
  const scraped = { ...plain, looks: [['/metrics', 1000]] }
  const page = [
    ...['traffic', 'sessions', 'leases', 'waiting'].map(name => [`/v1/${name}`, 1000]),
    ['/v1/regions?export=disk', 400],
  ]
  const peers = { 'no scrape': plain, 'a scrape a second': scraped }
  if (!args.includes('--no-page')) Object.assign(peers, { 'the page': { ...plain, looks: page } })
  if (BEFORE !== '') {
    // Twice: what two processes of the same program differ by is the noise.
    const [before, again] = [
      await gateway('before', join(BEFORE, 'dist/main.js'), serverPort, undefined),
      await gateway('again', join(BEFORE, 'dist/main.js'), serverPort, undefined),
    ]
    Object.assign(peers, { before, again })
  }
  const measures = {
    [`4 KiB random reads, depth 32, ${SECONDS} s (1/s)`]: randread,
    [`${SIZE_MIB} MiB sequential read (MiB/s)`]: sequential,
  }
  for (const [name, measure] of Object.entries(measures)) await compare(name, measure, peers)
}

/** Starts a gateway; `adminPort` undefined: a build that knows no admin.http. */
async function gateway(name, program, serverPort, adminPort) {
  const port = await freePort()
  const admin = adminPort === undefined ? '' : `admin: { http: "127.0.0.1:${adminPort}" }\n`
  const file = join(dir, `${name}.yaml`)
  writeFileSync(
    file,
    `version: 1\nworkers: 1\n${admin}doors: [{ tcp: "127.0.0.1:${port}", from: [127.0.0.0/8] }]
exports: [{ name: disk, upstream: "nbd://127.0.0.1:${serverPort}/disk", allow: [{ who: anyone, rights: read }] }]\n`,
  )
  const child = start([process.execPath, program, 'serve', '--config', file], join(dir, `${name}.log`))
  await waitFor(() => canConnect(port))
  return { port, adminPort, pid: child.pid, looks: [] }
}

async function compare(name, measure, peers) {
  const samples = Object.fromEntries(Object.keys(peers).map(peer => [peer, []]))
  for (let round = -1; round < ROUNDS; round++) {
    // In another order each round: who comes first finds the machine otherwise than who comes last.
    const order = Object.entries(peers)
    for (let turn = 0; turn < Math.max(round, 0) % order.length; turn++) order.push(order.shift())
    for (const [peer, each] of order) {
      const before = cpuSeconds(each.pid)
      const { rate, units } = await watched(each, () => measure(each.port))
      if (round >= 0) samples[peer].push({ rate, cpu: ((cpuSeconds(each.pid) - before) / units) * 1e6 })
    }
  }
  console.log(name)
  const base = samples.before === undefined ? 'no scrape' : 'before'
  for (const [peer, list] of Object.entries(samples)) {
    const ratio = key => median(list.map((each, round) => each[key] / samples[base][round][key]))
    const [rate, cpu] = ['rate', 'cpu'].map(key => median(list.map(each => each[key])))
    const beside =
      peer === base ? '' : `; beside "${base}": rate × ${ratio('rate').toFixed(3)}, cpu × ${ratio('cpu').toFixed(3)}`
    console.log(`  ${peer}: ${rate.toFixed(0)}, ${cpu.toFixed(1)} µs of processor each${beside}`)
  }
}

/** Measures while somebody asks for these paths, each so often. */
async function watched({ looks, adminPort }, measure) {
  const timers = looks.map(([path, everyMs]) => {
    const look = () => void fetch(`http://127.0.0.1:${adminPort}${path}`).then(answer => answer.text())
    look()
    return setInterval(look, everyMs)
  })
  try {
    return await measure()
  } finally {
    for (const timer of timers) clearInterval(timer)
  }
}

async function randread(port) {
  const job = ['fio', '--name=r', '--ioengine=nbd', `--uri=nbd://127.0.0.1:${port}/disk`, '--rw=randread', '--bs=4k']
  const bounds = ['--iodepth=32', '--time_based', `--runtime=${SECONDS}`, `--size=${Math.min(256, SIZE_MIB)}M`]
  const { stdout } = await run([...job, ...bounds, '--output-format=json', `--aux-path=${dir}`])
  const { iops, total_ios: units } = JSON.parse(stdout.slice(stdout.indexOf('{'))).jobs[0].read
  return { rate: iops, units }
}

async function sequential(port) {
  const begin = performance.now()
  await run(['nbdcopy', '--connections=1', `nbd://127.0.0.1:${port}/disk`, 'null:'])
  return { rate: SIZE_MIB / ((performance.now() - begin) / 1000), units: SIZE_MIB }
}

function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1].split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}
