// npm run conformance: runs the tests of the rules of proto.md and those that they cite, prints a table `chapter, sentence →
// test → how it went`, and writes CONFORMANCE.md. Exit code 1 if a row fails. With PROTO=FILE the quotes are held against a
// copy of the specification. Plain JavaScript: it runs on a bare Node.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../../', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'nbdgate-conformance-'))
const files = { rows: join(folder, 'rows.json'), rules: join(folder, 'rules.json'), cited: join(folder, 'cited.json') }
const vitest = join(root, 'node_modules/vitest/vitest.mjs')

/** Runs vitest and adds what became of each test: `FILE TITLE` → passed, failed, skipped. */
function run(report, results, args, env = {}) {
  const argv = [vitest, 'run', '--reporter=json', `--outputFile.json=${report}`, ...args]
  const stdio = ['ignore', 'ignore', 'inherit']
  const { error } = spawnSync(process.execPath, argv, { cwd: root, env: { ...process.env, ...env }, stdio })
  if (error !== undefined) throw error
  for (const { name, assertionResults } of JSON.parse(readFileSync(report, 'utf8')).testResults) {
    for (const { fullName, title, status, failureMessages } of assertionResults) {
      const went = { status, why: failureMessages?.[0]?.split('\n')[0] ?? '' }
      results.set(`${relative(root, name)} ${fullName}`, went).set(`${relative(root, name)} ${title}`, went)
    }
  }
}

/** How a row came out; a rule that is known to be broken, and is, is `not kept`. */
function outcome(row, results) {
  if (row.test === '') return row.status
  const went = results.get(`${row.file} ${row.test}`)
  if (went === undefined) return 'FAIL (the test did not run)'
  if (went.status === 'passed') return row.status === 'not kept' ? 'not kept' : 'pass'
  return went.status === 'failed' ? `FAIL (${went.why})` : 'FAIL (skipped: a program is missing)'
}

function main() {
  const results = new Map()
  run(files.rules, results, ['--project', 'conformance'], { CONFORMANCE_ROWS: files.rows, UPDATE_CONFORMANCE: '1' })
  const rows = JSON.parse(readFileSync(files.rows, 'utf8'))
  const cited = [...new Set(rows.filter(({ status }) => status === 'cited').map(({ file }) => file))]
  run(files.cited, results, ['--project', 'unit', '--project', 'interop', ...cited])
  const counts = new Map()
  for (const row of rows) {
    const went = outcome(row, results)
    const kind = went.startsWith('FAIL') ? 'FAIL' : went
    counts.set(kind, (counts.get(kind) ?? 0) + 1)
    const by = row.test === '' ? '' : ` → ${row.status === 'cited' ? `${row.file}: ` : ''}${row.test}`
    console.log(`${row.side} | ${row.chapter} | ${row.sentence}${by} → ${went}${row.why === '' ? '' : `: ${row.why}`}`)
  }
  const table = results.get('test/conformance/report.test.ts the table of rules is summed up in README')
  if (table?.status !== 'passed') console.log('README: its numbers are not those of the rows')
  console.log(`${rows.length} rows: ${[...counts].map(([kind, count]) => `${count} ${kind}`).join(', ')}`)
  const others = [...results.values()].filter(({ status }) => status === 'failed').length
  return counts.has('FAIL') || others > 0 ? 1 : 0
}

try {
  process.exitCode = main()
} finally {
  rmSync(folder, { recursive: true, force: true })
}
