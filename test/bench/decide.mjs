// `node test/bench/decide.mjs`: what one decision takes with many rules, all of which must be looked at.
import { build } from 'esbuild'
import { median } from './tools.mjs'

const { outputFiles } = await build({
  stdin: {
    contents: `export { compilePolicy } from './src/policy/compile.ts'; export { decide } from './src/policy/decide.ts'`,
    resolveDir: process.cwd(),
  },
  bundle: true,
  format: 'esm',
  platform: 'node',
  write: false,
})
const { compilePolicy, decide } = await import(
  `data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString('base64')}`
)

const certificate = {
  subject: 'CN=nobody',
  commonNames: ['nobody'],
  organizations: ['lab'],
  organizationalUnits: [],
  dnsNames: ['nobody.lab.example'],
  emails: [],
  uris: ['spiffe://lab/nobody'],
  ips: [],
  fingerprint: '00'.repeat(32),
  spki: '00'.repeat(32),
  serial: '01',
  notAfterMs: 0,
}
const visitor = { identity: { address: '10.0.0.7', certificate }, door: 'tls' }
const FORMS = [
  n => `cert:cn=user-${n}`,
  n => `address:192.0.${n % 256}.0/24`,
  n => `cert:dns=*.u${n}.example`,
  n => `cert:uri=spiffe://lab/${n}/**`,
]

for (const rules of [1, 100, 1000, 10_000]) {
  const allow = Array.from({ length: rules }, (_, n) => ({
    who: [FORMS[n % FORMS.length](n)],
    rights: 'read',
    source: `x:${n}`,
  }))
  const policy = compilePolicy({ allow, deny: [] })
  const samples = []
  for (let round = 0; round < 15; round++) {
    const count = Math.ceil(200_000 / rules)
    const begin = performance.now()
    for (let i = 0; i < count; i++) if (decide(policy, visitor, 1).kind !== 'refused') throw new Error('granted?')
    samples.push(((performance.now() - begin) / count) * 1000)
  }
  console.log(`${rules} rules, none of which holds: ${median(samples).toFixed(2)} µs a decision`)
}
