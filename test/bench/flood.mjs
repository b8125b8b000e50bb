// `node test/bench/flood.mjs`: what a good client notices of 2,000 connections that say nothing and of 5,000 a second that say garbage,
// and what they leave behind. A client reads over TLS: alone, beside those who are idle, beside those and the flood, alone again; another
// one comes in again and again meanwhile. Then the gateway's memory and descriptors are held against those before.
// Once with penalties for the addresses that the flood comes from and once without.
//
//   --seconds N   --idle N   --per-second N   --workers N   --node PATH   --only penalties|none

import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import {
  canConnect,
  cpuSeconds,
  familyOf,
  freePort,
  makePki,
  median,
  run,
  start,
  stopAll,
  timed,
  waitFor,
} from './tools.mjs'

const args = process.argv.slice(2)
const option = (name, fallback) => (args.includes(name) ? args[args.indexOf(name) + 1] : fallback)
const SECONDS = Number(option('--seconds', '20'))
const IDLE = Number(option('--idle', '2000'))
const PER_SECOND = Number(option('--per-second', '5000'))
const WORKERS = option('--workers', '1')
const NODE = option('--node', process.execPath)
const ONLY = option('--only', undefined)
const ADDRESSES = 1000
const DISK = '1T'
const LEAST_SHARE = 0.5
const MOST_MIB = 64

const dir = mkdtempSync(join(tmpdir(), 'nbdgate-bench-'))
try {
  const certs = await makePki(dir)
  const client = join(certs, 'alice')
  const storage = join(dir, 'storage.sock')
  start(['nbdkit', '-f', '-U', storage, 'pattern', DISK], join(dir, 'nbdkit.log'))
  for (const way of ['penalties', 'none'])
    if (ONLY === undefined || ONLY === way) await measure(way, { certs, client, storage })
} finally {
  await stopAll()
  if (!args.includes('--keep')) rmSync(dir, { recursive: true, force: true })
}

async function measure(way, scene) {
  const { port, pid, log } = await startGateway(way, scene)
  const peer = { log, uri: `nbds://localhost:${port}/disk?tls-certificates=${scene.client}` }
  const family = familyOf(pid)
  const most = { mib: 0 }
  await measured(peer, 3)
  const before = { mib: rssMib(family), fds: descriptors(family), log: statSync(log).size }
  const timer = setInterval(() => (most.mib = Math.max(most.mib, rssMib(family))), 200)
  const alone = await measured(peer, SECONDS / 2)
  const idle = await crowd(port)
  const crowded = rssMib(family)
  const beside = await measured(peer, SECONDS / 2)
  const control = await startSink()
  const elsewhere = startFlood(control)
  const besideOther = await measured(peer, SECONDS / 2)
  await elsewhere()
  const flood = startFlood(port)
  const [cpu, begin] = [cpuSeconds(pid), performance.now()]
  const flooded = await measured(peer, SECONDS)
  const busy = (cpuSeconds(pid) - cpu) / ((performance.now() - begin) / 1000)
  const told = await flood()
  const stayed = idle.filter(({ closed }) => !closed).length
  for (const socket of idle) socket.destroy()
  const again = await measured(peer, SECONDS / 2)
  clearInterval(timer)
  await waitFor(() => descriptors(family) <= before.fds)
  const fds = descriptors(family)
  const after = rssMib(family)
  const share = (2 * flooded.rate) / (alone.rate + again.rate)
  const growth = Math.max(after, most.mib) - before.mib
  const say = ({ rate, waits, turnedAway }) =>
    `${rate.toFixed(0)} MiB/s, in after ${median(waits).toFixed(0)} ms (at most ${Math.max(...waits).toFixed(0)}; ${turnedAway} of ${waits.length + turnedAway} turned away)`
  console.log(
    `${way === 'none' ? 'no penalties' : way}, workers ${WORKERS}, Node ${(await run([NODE, '--version'])).stdout.trim()}`,
  )
  console.log(`  alone               ${say(alone)}; afterwards ${say(again)}`)
  console.log(`  beside ${IDLE} idle    ${say(beside)}; ${stayed} of them stayed`)
  console.log(`  flood elsewhere     ${say(besideOther)}: what the flood's own processor time takes away`)
  console.log(
    `  in the flood        ${say(flooded)}: ${(100 * share).toFixed(0)} % of alone, ${((100 * flooded.rate) / besideOther.rate).toFixed(0)} % of beside the flood elsewhere`,
  )
  console.log(`  flood               ${told}; gateway ${busy.toFixed(2)} processors`)
  console.log(
    `  memory              ${before.mib.toFixed(0)} MiB before, ${crowded.toFixed(0)} with ${IDLE} idle, ${most.mib.toFixed(0)} at most, ${after.toFixed(0)} after; ` +
      `descriptors ${before.fds} before, ${fds} after; log ${((statSync(log).size - before.log) / 1024).toFixed(0)} KiB`,
  )
  if (share < LEAST_SHARE) console.log(`  NOT KEPT: ${LEAST_SHARE * 100} % of its throughput`)
  if (growth > MOST_MIB)
    console.log(`  NOT KEPT: ${growth.toFixed(0)} MiB more than before, and not at most ${MOST_MIB}`)
  if (share < LEAST_SHARE || growth > MOST_MIB) process.exitCode = 1
  process.kill(pid, 'SIGTERM')
}

/** MiB a second that a client reads, and how long others take to come in beside it, in ms. */
async function measured({ uri, log }, seconds) {
  const offset = statSync(log).size
  const copy = start(['nbdcopy', '--connections=1', uri, 'null:'], join(dir, 'nbdcopy.log'))
  const waits = []
  let turnedAway = 0
  for (const end = performance.now() + 1000 * seconds; performance.now() < end; await delay(100)) {
    try {
      waits.push(1000 * (await timed(['nbdinfo', '--size', uri])))
    } catch {
      // One of those who are dropped at random, see `limits.max-startups`.
      turnedAway++
    }
  }
  copy.kill('SIGKILL')
  let line
  await waitFor(() => {
    const lines = readFileSync(log, 'utf8').slice(offset).split('\n')
    line = lines.find(each => each.includes('"session ended"') && !each.includes('"reads":0'))
    return line !== undefined
  })
  const { bytesRead, ms } = JSON.parse(line)
  return { rate: bytesRead / 2 ** 20 / (ms / 1000), waits, turnedAway }
}

/** The port of a server that closes each connection: the least that can be done about a flood. */
async function startSink() {
  const port = await freePort()
  const program = `require('node:net').createServer(socket => socket.on('error', () => {}).destroy()).listen({ port: ${port}, host: '127.0.0.1', backlog: 4096 })`
  start([process.execPath, '-e', program], join(dir, 'sink.log'))
  await waitFor(() => canConnect(port))
  return port
}

/** Lets it loose on a port; what is returned ends it, and tells what became of it. */
function startFlood(port) {
  const source = new URL('flood-source.mjs', import.meta.url).pathname
  const out = join(dir, `flood-${port}.json`)
  const begin = performance.now()
  const child = start([process.execPath, source, port, PER_SECOND, ADDRESSES].map(String), out)
  return async () => {
    child.kill('SIGTERM')
    await once(child, 'close')
    const perSecond = count => `${((1000 * count) / (performance.now() - begin)).toFixed(0)}/s`
    const { begun, connected, greeted, failed, late } = JSON.parse(readFileSync(out, 'utf8'))
    return `${perSecond(begun)} begun, ${perSecond(connected)} connected, ${greeted} greeted, ${failed} failed, ${late} not begun in time`
  }
}

/** Connections that have been greeted and say nothing. */
async function crowd(port) {
  const sockets = []
  for (let n = 0; n < IDLE; n++) {
    const socket = connect({ host: '127.0.0.1', port, localAddress: `127.77.${n >> 8}.${n & 255 || 1}` })
    socket.on('error', () => {})
    await once(socket, 'data', { signal: AbortSignal.timeout(20_000) })
    sockets.push(socket)
  }
  return sockets
}

async function startGateway(way, { certs, storage }) {
  const port = await freePort()
  const file = join(dir, `${way}.yaml`)
  const log = join(dir, `${way}.log`)
  const material = {
    cert: `${certs}/server-cert.pem`,
    key: `${certs}/server-key.pem`,
    'client-ca': `${certs}/ca-cert.pem`,
  }
  const doors = [{ tls: `127.0.0.1:${port}`, ...material }]
  const exports = [
    { name: 'disk', upstream: `nbd+unix:///?socket=${storage}`, allow: [{ who: 'cert:cn=alice', rights: 'read' }] },
  ]
  const limits = {
    sessions: 2 * IDLE,
    'sessions-per-address': IDLE,
    'max-startups': `${IDLE + 400}:30:${IDLE + 800}`,
    negotiation: '5m',
    // The good client is at 127.0.0.1, as is everybody else who is not known here.
    ...(way === 'penalties' && { 'per-source-penalties': { exempt: ['127.0.0.1/32'] } }),
  }
  const workers = WORKERS === 'auto' ? WORKERS : Number(WORKERS)
  writeFileSync(file, JSON.stringify({ version: 1, workers, doors, exports, limits }))
  const { pid } = start([NODE, 'dist/main.js', 'serve', '--config', file], log)
  await waitFor(() => canConnect(port))
  return { port, pid, log }
}

function rssMib(pids) {
  const kib = pids.map(pid => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0))
  return kib.reduce((sum, each) => sum + each, 0) / 1024
}

function descriptors(pids) {
  return pids.reduce((sum, pid) => sum + readdirSync(`/proc/${pid}/fd`).length, 0)
}
