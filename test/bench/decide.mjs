// `node test/bench/decide.mjs`: what one decision takes with many rules of many kinds, what compiling them takes, and
// LIST with many exports, which is a decision for each of them.
import { build } from 'esbuild'
import { median } from './tools.mjs'

const { outputFiles } = await build({
  stdin: {
    contents: `export { compileGroups, compilePolicy } from './src/policy/compile.ts'
      export { decide } from './src/policy/decide.ts'
      export { createControl } from './src/gateway/control.ts'
      export { MemoryLeases } from './src/sharing/memory-leases.ts'`,
    resolveDir: process.cwd(),
  },
  bundle: true,
  format: 'esm',
  platform: 'node',
  write: false,
})
const { compileGroups, compilePolicy, createControl, decide, MemoryLeases } = await import(
  `data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString('base64')}`
)

const ROUNDS = 15
const certificate = {
  subject: 'CN=nobody',
  commonNames: ['nobody'],
  organizations: ['lab'],
  organizationalUnits: [],
  dnsNames: ['nobody.lab.example'],
  emails: ['nobody@lab.example'],
  uris: ['spiffe://lab/nobody'],
  ips: [],
  fingerprint: '00'.repeat(32),
  spki: '00'.repeat(32),
  serial: '01',
  notAfterMs: 0,
}
const visitor = { identity: { address: '10.0.0.7', certificate }, door: 'tls' }

const name = n => [`cert:cn=user-${n}`]
const network = n => [`address:192.0.${n % 256}.0/24`]
const wildcard = n => [`cert:dns=*.u${n}.example`]
const path = n => [`cert:uri=spiffe://lab/${n}/**`]
const hash = n => [`cert:fingerprint=SHA256:${(n + 1).toString(16).padStart(64, '0')}`]
const anyPrefix = n => [`address:${((n << 10) >>> 0) % 224}.0.0.0/${8 + (n % 20)}`]
const v6 = n => [`address:2001:db8:${n.toString(16)}::/${48 + (n % 64)}`]
const mixed = n => [name, network, wildcard, path][n % 4](n)
const CASES = {
  'names, networks and wildcards': mixed,
  'exact fingerprints': hash,
  'networks of one length': network,
  'networks of 84 lengths': n => (n % 2 === 0 ? anyPrefix(n) : v6(n)),
  'wildcards of 100 shapes': n => [`cert:dns=${'*.'.repeat(n % 10)}u${n}${'.*'.repeat((n / 10) % 10)}.example`],
  'a name and a network': n => [`address:10.0.0.0/${8 + (n % 8)}`, ...name(n)],
  'one network that holds, and a user id': n => ['address:10.0.0.0/8', `uid:${n}`],
  'one name that is the visitor’s, and a user id': n => ['cert:cn=nobody', `gid:${n % 2}`],
  'no clue at all (the worst: anyone, and a wildcard that fails)': () => ['anyone', 'cert:dns=*.*'],
}

const rulesOf = (count, who) =>
  Array.from({ length: count }, (_, n) => ({ who: who(n), rights: 'read', source: `x:${n}` }))

/** Microseconds a call, the median of some rounds. */
function timeOf(count, call) {
  const samples = []
  for (let round = 0; round < ROUNDS; round++) {
    const begin = performance.now()
    for (let i = 0; i < count; i++) call()
    samples.push(((performance.now() - begin) / count) * 1000)
  }
  return median(samples)
}

function decisionTime(policy, rules) {
  return timeOf(Math.ceil(100_000 / rules), () => {
    if (decide(policy, visitor, 1).kind !== 'refused') throw new Error('granted?')
  }).toFixed(2)
}

console.log('rules, none of which holds: µs a decision (in brackets: each rule looked at)')
for (const [title, who] of Object.entries(CASES)) {
  const figures = [1, 100, 1000, 10_000].map(rules => {
    const policy = compilePolicy({ allow: rulesOf(rules, who), deny: [] })
    return `${rules}: ${decisionTime(policy, rules)} (${decisionTime({ ...policy, find: {} }, rules)})`
  })
  console.log(`  ${title}: ${figures.join('  ')}`)
}

const groups = compileGroups([{ name: 'all', members: rulesOf(1000, mixed) }])
const grouped = compilePolicy({ allow: rulesOf(1000, () => ['group:all']), deny: [] }, groups)
const others = [visitor, { ...visitor, identity: { ...visitor.identity } }]
let turn = 0
const groupTime = timeOf(500, () => decide(grouped, others[turn++ % 2], 1))
console.log(`  1000 rules for a group of 1000: ${groupTime.toFixed(2)}`)

const heap = () => {
  globalThis.gc?.()
  return process.memoryUsage().heapUsed
}
const rules = rulesOf(10_000, mixed)
compilePolicy({ allow: rules, deny: [] })
const before = heap()
const begin = performance.now()
const kept = compilePolicy({ allow: rules, deny: [] })
const compileMs = performance.now() - begin
const bytes = (heap() - before) / kept.allow.length
console.log(
  `10000 rules: compiled in ${compileMs.toFixed(0)} ms${globalThis.gc ? `, ${bytes.toFixed(0)} bytes a rule` : ''}`,
)

for (const count of [1000, 10_000]) {
  const exports = Array.from({ length: count }, (_, n) => ({
    name: `disk-${n}`,
    upstream: { kind: 'file', path: '/dev/null' },
    allow: rulesOf(10, k => name((n % 50) * 10 + k)).concat({ who: network(n), rights: 'read', source: 'x:0' }),
    deny: rulesOf(2, hash),
    sharing: { mode: 'exclusive', whenBusy: { kind: 'refuse' }, holder: 'identity' },
  }))
  const heapBefore = heap()
  const start = performance.now()
  const control = createControl({ exports, groups: [] }, new MemoryLeases())
  const ms = performance.now() - start
  const megabytes = (heap() - heapBefore) / 2 ** 20
  const samples = []
  for (let round = 0; round < ROUNDS; round++) {
    const from = performance.now()
    await control.visible(visitor)
    samples.push(performance.now() - from)
  }
  const memory = globalThis.gc ? `, ${megabytes.toFixed(1)} MiB` : ''
  console.log(
    `${count} exports of 13 rules: compiled in ${ms.toFixed(0)} ms${memory}, LIST ${median(samples).toFixed(2)} ms`,
  )
}
