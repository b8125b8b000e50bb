// `node test/bench/handshakes.mjs`: whole mTLS sessions a second (connect, STARTTLS, GO, DISC), nbdgate beside nbdkit in
// one run, the same client for all; nbdgate with a worker for each core, and in one process. TLS 1.3, ECDSA P-256, a certificate on either side, nothing resumed.
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls, createSecureContext } from 'node:tls'
import { canConnect, cpuSeconds, freePort, makePki, median, run, start, stopAll, waitFor } from './tools.mjs'

const args = process.argv.slice(2)
const option = (name, fallback) => (args.includes(name) ? args[args.indexOf(name) + 1] : fallback)
const ROUNDS = Number(option('--rounds', '7'))
const NODE = option('--node', process.execPath)
const SESSIONS = Number(option('--sessions', '300'))
const AT_ONCE = 4

const dir = mkdtempSync(join(tmpdir(), 'nbdgate-bench-'))
try {
  await main()
} finally {
  await stopAll()
  rmSync(dir, { recursive: true, force: true })
}

async function main() {
  const certs = await makePki(dir)
  const theirs = await freePort()
  const disk = join(dir, 'disk.img')
  await run(['truncate', '-s', '16M', disk])
  const gateway = async workers => {
    const port = await freePort()
    const file = join(dir, `nbdgate-${workers}.yaml`)
    const files = `cert: ${certs}/server-cert.pem, key: ${certs}/server-key.pem, client-ca: ${certs}/ca-cert.pem`
    const config = `version: 1
workers: ${workers}
doors: [{ tls: "127.0.0.1:${port}", ${files} }]
exports: [{ name: disk, upstream: { file: ${disk} }, allow: [{ who: "cert:cn=alice", rights: write }] }]
`
    writeFileSync(file, config)
    const { pid } = start([NODE, 'dist/main.js', 'serve', '--config', file], join(dir, 'gateway.log'))
    return { port, pid }
  }
  const peers = { nbdgate: await gateway('auto'), 'nbdgate, 1 process': await gateway(1), nbdkit: { port: theirs } }
  const tls = ['--tls=require', '--tls-verify-peer', `--tls-certificates=${certs}`]
  const nbdkit = start(
    ['nbdkit', '-f', '-p', String(theirs), '-i', '127.0.0.1', ...tls, '-e', 'disk', 'file', disk],
    join(dir, 'nbdkit.log'),
  )
  peers.nbdkit.pid = nbdkit.pid
  for (const { port } of Object.values(peers)) await waitFor(() => canConnect(port))

  const read = name => readFileSync(join(certs, 'alice', name))
  const pem = { ca: read('ca-cert.pem'), cert: read('client-cert.pem'), key: read('client-key.pem') }
  const secureContext = createSecureContext({ ...pem, minVersion: 'TLSv1.3' })
  const samples = Object.fromEntries(Object.keys(peers).map(peer => [peer, []]))
  const cpu = Object.fromEntries(Object.keys(peers).map(peer => [peer, []]))
  for (let round = -1; round < ROUNDS; round++) {
    for (const [peer, { port, pid }] of Object.entries(peers)) {
      const before = cpuSeconds(pid)
      const begin = performance.now()
      let left = SESSIONS
      const serve = async () => {
        while (left-- > 0) await session(port, secureContext)
      }
      await Promise.all(Array.from({ length: AT_ONCE }, serve))
      if (round < 0) continue
      samples[peer].push(SESSIONS / ((performance.now() - begin) / 1000))
      cpu[peer].push(((cpuSeconds(pid) - before) / SESSIONS) * 1000)
    }
  }
  const they = median(samples.nbdkit)
  console.log(`${SESSIONS} mTLS sessions, ${AT_ONCE} at once, ${ROUNDS} rounds, medians`)
  for (const [peer, list] of Object.entries(samples)) {
    const ms = median(cpu[peer]).toFixed(2)
    console.log(
      `${peer}: ${median(list).toFixed(0)}/s (cpu ${ms} ms each), ${(median(list) / they).toFixed(2)} × nbdkit`,
    )
  }
}

async function session(port, secureContext) {
  const raw = connect({ port, host: '127.0.0.1', noDelay: true })
  await bytes(raw, 18)
  raw.write(Buffer.concat([u32(3), nbdOption(5, Buffer.alloc(0))]))
  await bytes(raw, 20)
  const socket = connectTls({ socket: raw, secureContext, servername: 'localhost' })
  await once(socket, 'secureConnect')
  socket.write(nbdOption(7, Buffer.concat([u32(4), Buffer.from('disk'), Buffer.alloc(2)])))
  for (let type = 0; type !== 1; ) {
    const head = await bytes(socket, 20)
    type = head.readUInt32BE(12)
    if (type >= 2 ** 31) throw new Error(`GO refused: ${type}`)
    await bytes(socket, head.readUInt32BE(16))
  }
  const disconnect = Buffer.alloc(28)
  disconnect.writeUInt32BE(0x25609513)
  disconnect.writeUInt16BE(2, 6)
  socket.end(disconnect)
  await once(socket, 'close')
}

function u32(value) {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

function nbdOption(number, data) {
  return Buffer.concat([Buffer.from('IHAVEOPT'), u32(number), u32(data.length), data])
}

/** Exactly so many bytes of a stream. */
async function bytes(stream, count) {
  if (count === 0) return Buffer.alloc(0)
  for (;;) {
    const chunk = stream.read(count)
    if (chunk !== null) return chunk
    await once(stream, 'readable')
  }
}
