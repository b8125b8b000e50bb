// `node test/bench/wan.mjs`: what `connections` brings on a long line, in one run: `nbdgate connect` by one connection and by
// several to a gateway behind a line of the bench's own, 25 ms each way with a window of 512 KiB a connection.
//
//   --rounds N   --connections N   --delay MS   --node PATH
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openSlowLine } from '../support/slow-line.mjs'
import { canConnect, freePort, makePki, median, run, start, stopAll, timed, waitFor } from './tools.mjs'

const args = process.argv.slice(2)
const option = (name, fallback) => (args.includes(name) ? args[args.indexOf(name) + 1] : fallback)
const ROUNDS = Number(option('--rounds', '3'))
const CONNECTIONS = Number(option('--connections', '8'))
const DELAY_MS = Number(option('--delay', '25'))
const NODE = option('--node', process.execPath)
const WINDOW_BYTES = 512 * 1024
const MIB = 256

const dir = mkdtempSync(join(tmpdir(), 'nbdgate-bench-'))
const memory = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : dir, 'nbdgate-bench-'))
let line
try {
  await main()
} finally {
  await stopAll()
  await line?.close()
  for (const each of [memory, dir]) rmSync(each, { recursive: true, force: true })
}

async function main() {
  const storage = join(dir, 'storage.sock')
  const [disk, content] = [join(memory, 'disk.img'), join(memory, 'content.img')]
  for (const file of [disk, content]) await run(['sh', '-c', `head -c ${MIB}M /dev/urandom > ${file}`])
  start(['nbdkit', '-f', '-U', storage, 'file', disk], join(dir, 'nbdkit.log'))
  await waitFor(() => existsSync(storage))
  const certs = await makePki(dir)
  const far = await startGateway(certs, storage)
  line = await openSlowLine({
    to: () => ({ host: '127.0.0.1', port: far }),
    delayMs: DELAY_MS,
    windowBytes: WINDOW_BYTES,
  })
  const ends = { one: await startConnect(certs, 1), several: await startConnect(certs, CONNECTIONS) }

  const measures = {
    read: uri => timed(['nbdcopy', '--connections=1', uri, 'null:']),
    write: uri => timed(['nbdcopy', '--connections=1', '--flush', content, uri]),
  }
  for (const [name, measure] of Object.entries(measures)) {
    const samples = { one: [], several: [] }
    for (let round = 0; round < ROUNDS; round++)
      for (const end of ['one', 'several']) samples[end].push(await measure(ends[end]))
    const rate = end => (MIB * 2 ** 20) / 1e6 / median(samples[end])
    const spread = Object.values(samples).map(list => (Math.max(...list) / Math.min(...list)).toFixed(2))
    const times = (median(samples.one) / median(samples.several)).toFixed(1)
    console.log(
      `${name}, ${2 * DELAY_MS} ms: 1 connection ${rate('one').toFixed(1)} MB/s, ${CONNECTIONS} connections ` +
        `${rate('several').toFixed(1)} MB/s  ->  ${times} × (largest / smallest: ${spread.join(', ')})`,
    )
  }
}

async function startGateway(certs, storage) {
  const port = await freePort()
  const file = (...parts) => join(certs, ...parts)
  const door = { tls: `127.0.0.1:${port}`, cert: file('server-cert.pem'), key: file('server-key.pem') }
  const config = {
    version: 1,
    workers: 1,
    doors: [{ ...door, 'client-ca': file('ca-cert.pem') }],
    exports: [
      {
        name: 'disk',
        upstream: `nbd+unix:///?socket=${storage}`,
        allow: [{ who: 'cert:cn=alice', rights: 'write' }],
      },
    ],
  }
  writeFileSync(join(dir, 'far.yaml'), JSON.stringify(config))
  start([NODE, 'dist/main.js', 'serve', '--config', join(dir, 'far.yaml')], join(dir, 'far.log'))
  await waitFor(() => canConnect(port))
  return port
}

/** The near end; the URI for clients. */
async function startConnect(certs, connections) {
  const socket = join(dir, `near-${connections}.sock`)
  const file = (...parts) => join(certs, ...parts)
  const keys = ['--ca', file('ca-cert.pem'), '--cert', file('alice', 'client-cert.pem')]
  const key = ['--key', file('alice', 'client-key.pem'), '--connections', String(connections)]
  const argv = [NODE, 'dist/main.js', 'connect', `nbds://localhost:${line.port}/disk`, '--listen', `unix:${socket}`]
  start([...argv, ...keys, ...key], join(dir, `near-${connections}.log`))
  await waitFor(() => existsSync(socket))
  return `nbd+unix:///?socket=${socket}`
}
