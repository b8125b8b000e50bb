// `npm run soak -- --minutes N`: a gateway that is not left alone. fio writes and verifies over a TCP door and a TLS client copies; others come
// and go, vanish, half-close, trickle bytes and send garbage; the upstream is killed, frozen and started again; the configuration is reloaded.
// Meanwhile memory and descriptors of the gateway and all its workers are noted. It fails when fio or a copy does, when somebody who is to
// be let in is not, when the gateway logs a bug or loses a worker, when memory grows, or when descriptors do not come back.
//
//   --minutes N (1)   --workers N|auto (2)   --seed N   --node PATH   --csv FILE
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { canConnect, familyOf, freePort, makePki, median, run, start, stopAll, waitFor } from '../bench/tools.mjs'

const args = process.argv.slice(2)
const option = (name, fallback) => (args.includes(name) ? args[args.indexOf(name) + 1] : fallback)
const MINUTES = Number(option('--minutes', '1'))
const WORKERS = option('--workers', '2')
const SEED = Number(option('--seed', String(Date.now() % 1_000_000)))
const NODE = option('--node', process.execPath)
const CSV = option('--csv', undefined)
/** What memory may be more in the last fifth than in the second: what Node takes once is taken by then. */
const MOST_MIB = 32
const SIZE_MIB = 64
/** Of a copy: until its end the gateway keeps it, for an upstream that dies. */
const COPY_MIB = 16
const FIO_SECONDS = 6
/** A server that is away does not let anybody in: whoever asks then asks again. */
const PATIENCE_MS = 20_000

const dir = mkdtempSync(join(tmpdir(), 'nbdgate-soak-'))
const random = mulberry(SEED)
const between = (low, high) => low + random() * (high - low)
const counts = {}
const count = what => (counts[what] = (counts[what] ?? 0) + 1)
const end = performance.now() + MINUTES * 60_000
const isOver = () => performance.now() >= end

async function main() {
  console.log(`seed ${SEED}, ${MINUTES} min, workers ${WORKERS}`)
  const certs = await makePki(dir)
  const scene = { certs, ports: { tcp: await freePort(), tls: await freePort() }, storage: join(dir, 'storage.sock') }
  for (const disk of ['written', 'copied', 'looked-'])
    await run(['truncate', '-s', `${disk === 'copied' ? COPY_MIB : SIZE_MIB}M`, join(dir, `${disk}.img`)])
  const upstream = await startUpstream(scene)
  const gateway = await startGateway(scene)
  await waitFor(async () => await isLetIn(scene))
  await delay(1000)
  const before = look(gateway.pid)
  const samples = []
  const parts = [
    sample(gateway.pid, samples),
    fio(scene),
    copies(scene),
    strangers(scene),
    visitors(scene),
    trouble(upstream),
    reloads(gateway.pid),
  ]
  await Promise.all(parts)
  await upstream.isBack()
  await waitFor(async () => await isLetIn(scene))
  let after = look(gateway.pid)
  try {
    await waitFor(() => {
      after = look(gateway.pid)
      return after.fds <= before.fds
    })
  } catch {
    // Said below.
  }
  tell(samples, { before, after, log: readFileSync(gateway.log, 'utf8') })
  const ended = once(gateway.child, 'exit')
  gateway.child.kill('SIGTERM')
  const [code] = await ended
  if (code !== 0) fail(`the gateway ended with ${code}`)
}

function tell(samples, { before, after, log }) {
  if (CSV !== undefined)
    writeFileSync(CSV, ['s,rss_mib,fds,processes', ...samples.map(each => Object.values(each).join(','))].join('\n'))
  const share = (from, to) => samples.slice(Math.floor(samples.length * from), Math.ceil(samples.length * to))
  const [early, late] = [share(0.2, 0.4), share(0.8, 1)].map(list => median(list.map(({ mib }) => mib)))
  console.log(
    `did: ${Object.entries(counts)
      .map(([what, times]) => `${what} ${times}`)
      .join(', ')}`,
  )
  console.log(
    curve(
      'memory, MiB',
      samples.map(({ mib }) => mib),
    ),
  )
  console.log(
    curve(
      'descriptors',
      samples.map(({ fds }) => fds),
    ),
  )
  console.log(
    `memory ${before.mib.toFixed(0)} MiB before, ${early.toFixed(0)} in the second fifth, ${late.toFixed(0)} in the last, ${after.mib.toFixed(0)} after`,
  )
  console.log(
    `descriptors ${before.fds} before, ${after.fds} after; processes ${before.processes} and ${after.processes}`,
  )
  const lines = log
    .split('\n')
    .filter(Boolean)
    .map(line => JSON.parse(line))
  for (const bad of ['bug', 'worker died', 'worker does not start', 'reload failed: all stays as it was'])
    if (lines.some(({ msg }) => msg === bad))
      fail(`the log says: ${JSON.stringify(lines.find(({ msg }) => msg === bad))}`)
  if (late - early > MOST_MIB) fail(`memory grows: ${(late - early).toFixed(0)} MiB`)
  if (after.fds > before.fds) fail(`${after.fds - before.fds} descriptors were not given back`)
  if (after.processes !== before.processes) fail('there are other processes than before')
}

function fail(why) {
  console.log(`FAILED: ${why}`)
  process.exitCode = 1
}

/** A line of at most 60 medians, and the range that they are from. */
function curve(name, values) {
  const bars = '▁▂▃▄▅▆▇█'
  const width = Math.min(60, values.length)
  const [low, high] = [Math.min(...values), Math.max(...values)]
  const at = n =>
    median(values.slice(Math.floor((n * values.length) / width), Math.floor(((n + 1) * values.length) / width)))
  const bar = value => bars[Math.min(bars.length - 1, Math.floor(((value - low) / (high - low || 1)) * bars.length))]
  return `${name}: ${Array.from({ length: width }, (_, n) => bar(at(n))).join('')} ${low.toFixed(0)} to ${high.toFixed(0)}`
}

async function sample(pid, samples) {
  const begin = performance.now()
  while (!isOver()) {
    samples.push({ s: Math.round((performance.now() - begin) / 1000), ...look(pid) })
    await delay(1000)
  }
}

/** Memory and descriptors of a gateway and all its workers. */
function look(pid) {
  const family = familyOf(pid)
  const sum = values => values.reduce((all, each) => all + each, 0)
  const kib = family.map(each =>
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${each}/status`, 'latin1'))?.[1] ?? 0),
  )
  return {
    mib: sum(kib) / 1024,
    fds: sum(family.map(each => readdirSync(`/proc/${each}/fd`).length)),
    processes: family.length,
  }
}

/** Writes and verifies, again and again: what it reads has to be what it has written, whatever happened to the upstream. */
async function fio({ ports }) {
  for (let round = 0; !isOver(); round++) {
    const job = [
      'fio',
      '--name=soak',
      '--ioengine=nbd',
      `--uri=nbd://127.0.0.1:${ports.tcp}/written`,
      '--rw=randrw',
      '--bs=4k-64k',
    ]
    const checks = [
      '--verify=crc32c',
      '--verify_fatal=1',
      '--verify_backlog=64',
      `--randseed=${SEED + round}`,
      '--iodepth=16',
      '--fsync=64',
    ]
    const bounds = [`--size=${SIZE_MIB}M`, '--time_based', `--runtime=${FIO_SECONDS}`, `--aux-path=${dir}`]
    await patiently(
      'fio',
      () => run([...job, ...checks, ...bounds]),
      error => /getaddrinfo|nbd_connect|handshake/.test(error),
    )
  }
}

/** Copies over TLS, and compares. */
async function copies({ ports, certs }) {
  const [content, copy] = [join(dir, 'content.img'), join(dir, 'copy.img')]
  await run(['sh', '-c', `head -c ${COPY_MIB}M /dev/urandom > ${content}`])
  const uri = `nbds://localhost:${ports.tls}/copied?tls-certificates=${join(certs, 'alice')}`
  while (!isOver()) {
    await patiently('copy in', () => run(['nbdcopy', '--flush', content, uri]), isAway)
    await patiently('copy out', () => run(['nbdcopy', uri, copy]), isAway)
    await run(['cmp', content, copy])
    await delay(between(0, 1000))
  }
}

/** What a client says that comes while the server is away. */
const isAway = error => /nbd_connect_uri|server replied with error to opt/.test(error)

/** Does it again while the upstream is away; anything else is a failure of the soak. */
async function patiently(what, action, mayRepeat) {
  const begin = performance.now()
  for (;;) {
    try {
      await action()
      count(what)
      return
    } catch (error) {
      if (!mayRepeat(String(error)) || performance.now() - begin > PATIENCE_MS) throw error
      count(`${what} again`)
      await delay(200)
    }
  }
}

async function isLetIn({ ports, certs }) {
  try {
    await run(['nbdinfo', '--size', `nbds://localhost:${ports.tls}/looked-?tls-certificates=${join(certs, 'alice')}`])
    return true
  } catch {
    return false
  }
}

/** Short visits. */
async function visitors(scene) {
  while (!isOver()) {
    count((await isLetIn(scene)) ? 'visit' : 'visit in vain')
    await delay(between(0, 500))
  }
}

/** The client's flags, and GO to an export that nobody writes to. */
const GO = Buffer.from('0000000349484156454f5054000000070000000d000000076c6f6f6b65642d0000', 'hex')
/** A READ of 1 MiB at 0. */
const READ = Buffer.from('25609513000000000000000000000001000000000000000000100000', 'hex')

/** What those do who do not keep to the rules, or to their line. */
const STRANGE = {
  garbage: socket => socket.end(Buffer.from(Array.from({ length: 200 }, () => Math.floor(random() * 256)))),
  silence: async socket => {
    await delay(between(100, 2000))
    socket.destroy()
  },
  trickle: async socket => {
    for (const byte of GO.subarray(0, 20)) {
      socket.write(Buffer.of(byte))
      await delay(20)
    }
    socket.destroy()
  },
  'half-close': socket => socket.end(GO.subarray(0, 11)),
  vanishing: async socket => {
    socket.write(Buffer.concat([GO, ...Array.from({ length: 32 }, () => READ)]))
    await delay(between(0, 300))
    socket.resetAndDestroy()
  },
  'slow reader': async socket => {
    socket.write(Buffer.concat([GO, ...Array.from({ length: 32 }, () => READ)]))
    socket.pause()
    await delay(between(500, 2500))
    socket.destroy()
  },
}

async function strangers({ ports }) {
  const kinds = Object.keys(STRANGE)
  const one = async () => {
    while (!isOver()) {
      const kind = kinds[Math.floor(random() * kinds.length)]
      const socket = connect({ port: random() < 0.5 ? ports.tcp : ports.tls, host: '127.0.0.1' })
      socket.on('error', () => {})
      const closed = once(socket, 'close')
      socket.on('data', () => {})
      await Promise.race([once(socket, 'connect').catch(() => {}), closed])
      await STRANGE[kind](socket)
      count(kind)
      socket.setTimeout(5000, () => socket.destroy())
      await closed
      await delay(between(0, 200))
    }
  }
  await Promise.all(Array.from({ length: 6 }, one))
}

/** The upstream is killed or frozen, and is back a little later. */
async function trouble(upstream) {
  while (!isOver()) {
    await delay(between(3000, 8000))
    if (random() < 0.7) {
      await upstream.crash()
      count('upstream killed')
      await delay(between(0, 1500))
      await upstream.isBack()
    } else {
      upstream.freeze()
      count('upstream frozen')
      await delay(between(100, 2000))
      upstream.thaw()
    }
  }
}

async function reloads(pid) {
  while (!isOver()) {
    await delay(between(1000, 4000))
    process.kill(pid, 'SIGHUP')
    count('reload')
  }
}

/** nbdkit in front of files: what it has acknowledged the kernel has, whatever becomes of it. */
async function startUpstream({ storage }) {
  let child
  const isBack = async () => {
    if (child !== undefined && child.exitCode === null && child.signalCode === null) return
    rmSync(storage, { force: true })
    child = start(['nbdkit', '-f', '-U', storage, 'file', `dir=${dir}`], join(dir, 'nbdkit.log'))
    await waitFor(() => existsSync(storage))
  }
  await isBack()
  return {
    isBack,
    crash: async () => {
      const gone = once(child, 'exit')
      child.kill('SIGKILL')
      await gone
    },
    freeze: () => child.kill('SIGSTOP'),
    thaw: () => child.kill('SIGCONT'),
  }
}

async function startGateway({ certs, ports, storage }) {
  const [file, log] = [join(dir, 'nbdgate.yaml'), join(dir, 'nbdgate.log')]
  const material = {
    cert: `${certs}/server-cert.pem`,
    key: `${certs}/server-key.pem`,
    'client-ca': `${certs}/ca-cert.pem`,
  }
  const doors = [
    { tcp: `127.0.0.1:${ports.tcp}`, from: ['127.0.0.0/8'] },
    { tls: `127.0.0.1:${ports.tls}`, ...material },
  ]
  const upstream = disk => `nbd+unix:///${disk}.img?socket=${storage}`
  const more = { reconnect: '60s', 'replay-buffer': '128MiB' }
  const exports = [
    {
      name: 'written',
      upstream: upstream('written'),
      allow: [{ who: 'address:127.0.0.0/8', rights: 'write' }],
      ...more,
    },
    { name: 'copied', upstream: upstream('copied'), allow: [{ who: 'cert:cn=alice', rights: 'write' }], ...more },
    { name: 'looked-', upstream: upstream('looked-'), allow: [{ who: 'anyone', rights: 'read' }] },
  ]
  const limits = { negotiation: '3s' }
  const workers = WORKERS === 'auto' ? WORKERS : Number(WORKERS)
  writeFileSync(file, JSON.stringify({ version: 1, workers, doors, exports, limits }))
  const child = start([NODE, 'dist/main.js', 'serve', '--config', file], log)
  for (const port of Object.values(ports)) {
    await waitFor(() => {
      if (child.exitCode !== null) throw new Error(readFileSync(log, 'utf8'))
      return canConnect(port)
    })
  }
  return { child, pid: child.pid, log }
}

/** Numbers from 0 to 1 that a seed gives again. */
function mulberry(seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}

try {
  await main()
} finally {
  await stopAll()
  rmSync(dir, { recursive: true, force: true })
}
