// `node test/bench/leases.mjs`: what taking and giving back a lease costs, with many exports held and with many holders.
import { build } from 'esbuild'
import { median } from './tools.mjs'

const { outputFiles } = await build({
  stdin: { contents: `export { MemoryLeases } from './src/sharing/memory-leases.ts'`, resolveDir: process.cwd() },
  bundle: true,
  format: 'esm',
  platform: 'node',
  write: false,
})
const { MemoryLeases } = await import(
  `data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString('base64')}`
)

const ROUNDS = 15
const TIMES = 20_000
const patience = { ms: 0, signal: new AbortController().signal }

function claim(session, name, holder, access) {
  const mode = access === 'read' ? 'readers-or-writer' : 'exclusive'
  return { session, export: name, mode, access, holder, who: holder, peer: 'x' }
}

async function measure(what, leases, mine) {
  const samples = []
  for (let round = 0; round < ROUNDS; round++) {
    const begin = performance.now()
    for (let i = 0; i < TIMES; i++) {
      if ((await leases.acquire(mine, patience)).kind !== 'held') throw new Error('busy?')
      leases.release(mine.session)
    }
    samples.push(((performance.now() - begin) / TIMES) * 1000)
  }
  console.log(`${what}: ${median(samples).toFixed(2)} µs`)
}

for (const exports of [1, 10_000]) {
  const leases = new MemoryLeases()
  for (let n = 1; n < exports; n++) await leases.acquire(claim(n, `disk-${n}`, 'alice', 'write'), patience)
  await measure(`take and give back, ${exports} exports`, leases, claim(0, 'disk-0', 'alice', 'write'))
}
for (const readers of [10, 1000]) {
  const leases = new MemoryLeases()
  for (let n = 1; n < readers; n++) await leases.acquire(claim(n, 'disk', `reader-${n}`, 'read'), patience)
  await measure(`take and give back beside ${readers} readers`, leases, claim(0, 'disk', 'alice', 'read'))
}
