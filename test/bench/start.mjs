// How long `nbdgate inetd` takes from its start to the first bytes of the greeting, beside what Node itself takes to run nothing. In turn, in
// one run; medians. The first start on each Node is not counted: it fills V8's compile cache, where there is one.
//
//   node test/bench/start.mjs                              the running Node
//   node test/bench/start.mjs --node PATH --node PATH      these
//   node test/bench/start.mjs --rounds 50
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makePki, median } from './tools.mjs'

const args = process.argv.slice(2)
const values = name => args.flatMap((word, at) => (word === name ? [args[at + 1]] : []))
const ROUNDS = Number(values('--rounds')[0] ?? '20')
const NODES = values('--node').length > 0 ? values('--node') : [process.execPath]
const MAIN = new URL('../../dist/main.js', import.meta.url).pathname
const GREETING_BYTES = 18

const dir = mkdtempSync(join(tmpdir(), 'nbdgate-bench-'))

/** Milliseconds until a program that does nothing has ended. */
async function nothing(node) {
  const begin = performance.now()
  await once(spawn(node, ['-e', '0'], { stdio: 'ignore' }), 'exit')
  return performance.now() - begin
}

/** Milliseconds until a client of a connection that was handed over has the greeting. */
async function greeting(node, config) {
  const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = connect(server.address().port, '127.0.0.1')
  const [connection] = await once(server, 'connection')
  const begin = performance.now()
  const child = spawn(node, [MAIN, 'inetd', '--config', config], { stdio: [connection, 'ignore', 'ignore'] })
  connection.destroy()
  let bytes = 0
  for await (const chunk of client) {
    bytes += chunk.length
    if (bytes >= GREETING_BYTES) break
  }
  const ms = performance.now() - begin
  client.destroy()
  server.close()
  const [code] = await once(child, 'exit')
  if (code !== 0 || bytes !== GREETING_BYTES) throw new Error(`exit code ${code}, ${bytes} bytes`)
  return ms
}

async function main() {
  const certs = await makePki(dir)
  const exports = [{ name: 'disk', upstream: 'nbd://127.0.0.1:1/disk', allow: [{ who: 'anyone', rights: 'read' }] }]
  const doors = {
    tcp: { tcp: '127.0.0.1:10809', from: ['127.0.0.0/8'] },
    tls: {
      tls: '127.0.0.1:10809',
      cert: `${certs}/server-cert.pem`,
      key: `${certs}/server-key.pem`,
      'client-ca': `${certs}/ca-cert.pem`,
    },
  }
  const files = Object.entries(doors).map(([kind, door]) => {
    const file = join(dir, `${kind}.yaml`)
    writeFileSync(file, JSON.stringify({ version: 1, doors: [door], exports }))
    return [kind, file]
  })
  for (const node of NODES) {
    const columns = [
      ['nothing', () => nothing(node)],
      ...files.map(([kind, file]) => [kind, () => greeting(node, file)]),
    ]
    const taken = columns.map(() => [])
    for (let round = 0; round <= ROUNDS; round++) {
      for (const [at, [, measure]] of columns.entries()) {
        const ms = await measure()
        if (round > 0) taken[at].push(ms)
      }
    }
    const told = columns.map(([name], at) => `${name} ${median(taken[at]).toFixed(0)} ms`)
    console.log(`${node}: ${told.join(', ')}; medians of ${ROUNDS}`)
  }
}

try {
  await main()
} finally {
  rmSync(dir, { recursive: true, force: true })
}
