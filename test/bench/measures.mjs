// What the benchmark measures, of one peer at a time.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { connect as connectTls, createSecureContext } from 'node:tls'
import { NOBODY } from './peers.mjs'
import { cpuSeconds, familyOf, run, timed } from './tools.mjs'

const GIB_MIB = 1024
const SESSIONS = 200
const SESSIONS_AT_ONCE = 4
const CROWD = 1000
const BUSY_SESSIONS = 64
const BUSY_MS = 3000

/**
 * `{ name, unit, better, groups, run }`: `run(peer)` gives a value. `better`: 'less' or 'more'. `once`: measured in one
 * round, since it leaves traces in memory.
 */
export function measuresOf(scene) {
  const { disk, mib, isQuick, seconds } = scene
  const all = ['tls', 'plain', 'tunnel']
  const copy = (name, groups, argv) => ({ name, unit: 's', better: 'less', groups, run: peer => timed(argv(peer)) })
  const read = (connections, groups) =>
    copy(`read, ${plural(connections)}`, groups, ({ uri }) => ['nbdcopy', `--connections=${connections}`, uri, 'null:'])
  const write = (connections, groups) =>
    copy(`write, ${plural(connections)}`, groups, ({ uri }) => ['nbdcopy', `--connections=${connections}`, disk, uri])
  const random = (rw, depth, groups) => ({
    name: `${rw} 4 KiB, depth ${depth}`,
    unit: depth === 1 ? 'µs' : '1/s',
    better: depth === 1 ? 'less' : 'more',
    groups,
    run: async peer => {
      const rate = await fio(scene, peer, [`--rw=${rw}`, '--bs=4k', `--iodepth=${depth}`])
      return depth === 1 ? 1e6 / rate : rate
    },
  })
  if (isQuick) {
    return [read(1, ['tls']), write(1, ['tls']), random('randread', 1, ['tls']), random('randread', 32, ['tls'])]
  }
  const cpu = (name, argv) => ({
    name,
    unit: 's/GiB',
    better: 'less',
    groups: all,
    run: async peer => {
      const before = sum(peer.pids().map(cpuSeconds))
      await run(argv(peer))
      return ((sum(peer.pids().map(cpuSeconds)) - before) / mib) * GIB_MIB
    },
  })
  return [
    read(1, all),
    read(4, all),
    read(16, ['tls']),
    write(1, all),
    write(4, all),
    write(16, ['tls']),
    random('randread', 1, all),
    random('randread', 8, ['tls']),
    random('randread', 32, all),
    random('randread', 128, ['tls']),
    random('randwrite', 1, ['tls']),
    random('randwrite', 8, ['tls']),
    random('randwrite', 32, all),
    random('randwrite', 128, ['tls']),
    {
      name: 'randrw 64 KiB, depth 16',
      unit: '1/s',
      better: 'more',
      groups: ['tls', 'plain'],
      run: peer => fio(scene, peer, ['--rw=randrw', '--bs=64k', '--iodepth=16']),
    },
    cpu('processor, read', ({ uri }) => ['nbdcopy', '--connections=1', uri, 'null:']),
    cpu('processor, write', ({ uri }) => ['nbdcopy', '--connections=1', disk, uri]),
    { name: 'first byte', unit: 'ms', better: 'less', groups: ['tls'], run: peer => firstByte(scene, peer) },
    { name: 'sessions', unit: '1/s', better: 'more', groups: ['tls'], run: peer => sessionRate(scene, peer) },
    {
      name: 'memory, idle session',
      unit: 'KiB',
      better: 'less',
      groups: ['tls'],
      once: true,
      run: peer => idleKiB(scene, peer),
    },
    {
      name: 'memory, busy session',
      unit: 'KiB',
      better: 'less',
      groups: ['tls'],
      once: true,
      run: peer => busyKiB(scene, peer),
    },
    {
      name: `read, 1 connection, beside ${CROWD} idle`,
      unit: 's',
      better: 'less',
      groups: ['tls'],
      once: true,
      run: peer => beside(scene, peer, ({ uri }) => timed(['nbdcopy', '--connections=1', uri, 'null:'])),
    },
    {
      name: `randread 4 KiB, depth 32, beside ${CROWD} idle`,
      unit: '1/s',
      better: 'more',
      groups: ['tls'],
      once: true,
      run: peer => beside(scene, peer, p => fio(scene, p, ['--rw=randread', '--bs=4k', '--iodepth=32'])),
    },
  ]

  /** Requests a second, reads and writes. */
  async function fio({ home, certs: _certs }, peer, words) {
    const uri = peer.uri.replace(/\?.*/, '')
    const job = ['fio', '--name=r', '--ioengine=nbd', `--uri=${uri}`, ...words]
    const bounds = ['--time_based', `--runtime=${seconds}`, `--size=${Math.min(256, mib)}M`]
    const user = process.getuid() === 0 ? ['setpriv', `--reuid=${NOBODY}`, '--clear-groups'] : []
    const argv = [...user, 'env', `HOME=${home}`, ...job, ...bounds, '--output-format=json', `--aux-path=${home}`]
    const { stdout } = await run(argv)
    const found = JSON.parse(stdout.slice(stdout.indexOf('{'))).jobs[0]
    return found.read.iops + found.write.iops
  }
}

const plural = count => (count === 1 ? '1 connection' : `${count} connections`)
const sum = values => values.reduce((total, each) => total + each, 0)

const rssKiB = pids =>
  sum(
    pids
      .flatMap(familyOf)
      .map(pid => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0)),
  )

async function sessionRate(scene, { port }) {
  const begin = performance.now()
  let left = SESSIONS
  const serve = async () => {
    while (left-- > 0) await close(await open(scene, port))
  }
  await Promise.all(Array.from({ length: SESSIONS_AT_ONCE }, serve))
  return SESSIONS / ((performance.now() - begin) / 1000)
}

/** From connecting to the first block of the disk: TCP, STARTTLS, GO and READ. */
async function firstByte(scene, { port }) {
  const begin = performance.now()
  const socket = await open(scene, port)
  await readBlock(socket, 4096)
  const ms = performance.now() - begin
  await close(socket)
  return ms
}

/** What each of 500 sessions adds that has read once and then is silent; the first tenth is not counted. */
async function idleKiB(scene, peer) {
  const sessions = 500
  return await crowd(scene, peer, sessions / 10, async () => {
    const before = rssKiB(peer.pids())
    return await crowd(scene, peer, sessions, async () => (rssKiB(peer.pids()) - before) / sessions)
  })
}

/** What each of 64 sessions adds at most that read all the time, 16 READs of 256 KiB in flight; the first tenth is not counted. */
async function busyKiB(scene, peer) {
  await crowd(scene, peer, BUSY_SESSIONS / 10, sockets => mostKiB(peer, sockets))
  const before = rssKiB(peer.pids())
  return await crowd(scene, peer, BUSY_SESSIONS, async sockets => {
    return ((await mostKiB(peer, sockets)) - before) / BUSY_SESSIONS
  })
}

/** Has sessions read all the time for a while; the most memory that the peer has then. */
async function mostKiB(peer, sockets) {
  const [request, replyBytes] = [readOf(262_144), 16 + 262_144]
  for (const socket of sockets) {
    let came = 0
    socket.on('data', chunk => {
      came += chunk.length
      for (; came >= replyBytes; came -= replyBytes) socket.write(request)
    })
    for (let n = 0; n < 16; n++) socket.write(request)
  }
  let most = 0
  for (const until = performance.now() + BUSY_MS; performance.now() < until; await delay(20)) {
    most = Math.max(most, rssKiB(peer.pids()))
  }
  return most
}

const beside = (scene, peer, measure) => crowd(scene, peer, CROWD, () => measure(peer))

async function crowd(scene, { port }, count, measure) {
  const sockets = []
  try {
    for (let n = 0; n < count; n++) {
      const socket = await open(scene, port)
      sockets.push(socket)
      await readBlock(socket, 131_072)
    }
    return await measure(sockets)
  } finally {
    for (const socket of sockets) socket.destroy()
  }
}

let material

/** A session over TLS, in transmission phase. */
async function open({ client }, port) {
  material ??= createSecureContext({
    ca: readFileSync(join(client, 'ca-cert.pem')),
    cert: readFileSync(join(client, 'client-cert.pem')),
    key: readFileSync(join(client, 'client-key.pem')),
    minVersion: 'TLSv1.3',
  })
  const raw = connect({ port, host: '127.0.0.1', noDelay: true })
  raw.on('error', () => {})
  await bytes(raw, 18)
  raw.write(Buffer.from('0000000349484156454f50540000000500000000', 'hex'))
  await bytes(raw, 20)
  const socket = connectTls({ socket: raw, secureContext: material, servername: 'localhost' })
  socket.on('error', () => {})
  await once(socket, 'secureConnect', { signal: AbortSignal.timeout(20_000) })
  // GO for `disk`, without information requests.
  socket.write(Buffer.from('49484156454f5054000000070000000a000000046469736b0000', 'hex'))
  for (let type = 0; type !== 1; ) {
    const head = await bytes(socket, 20)
    type = head.readUInt32BE(12)
    if (type >= 2 ** 31) throw new Error(`GO refused: ${type}`)
    await bytes(socket, head.readUInt32BE(16))
  }
  return socket
}

/** A READ from the start of the disk. */
function readOf(size) {
  const request = Buffer.alloc(28)
  request.writeUInt32BE(0x25609513)
  request.writeUInt32BE(size, 24)
  return request
}

async function readBlock(socket, size) {
  socket.write(readOf(size))
  await bytes(socket, 16 + size)
}

async function close(socket) {
  const disconnect = Buffer.alloc(28)
  disconnect.writeUInt32BE(0x25609513)
  disconnect.writeUInt16BE(2, 6)
  socket.end(disconnect)
  socket.resume()
  // nbd-server answers the end with a reset, now and then.
  if (!socket.closed) await once(socket, 'close', { signal: AbortSignal.timeout(20_000) }).catch(ignoreReset)
}

function ignoreReset(error) {
  if (error.code !== 'ECONNRESET') throw error
}

/** Exactly so many bytes of a stream. */
async function bytes(stream, count) {
  if (count === 0) return Buffer.alloc(0)
  for (;;) {
    const chunk = stream.read(count)
    if (chunk !== null) return chunk
    if (stream.destroyed) throw new Error('the peer has gone')
    await once(stream, 'readable', { signal: AbortSignal.timeout(20_000) })
    // Who listens again is told again of what is there already, before anything more can come.
    await new Promise(setImmediate)
  }
}
