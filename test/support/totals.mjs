// node totals.mjs RUN...: adds up vitest's JSON reports for .ci/run and prints `PASSED FAILED SKIPPED`. A run is a report's
// path and the exit code of its vitest, `report.json:0`. A run that failed without a failed test (no report, a file that
// could not be loaded, an unhandled rejection) counts as one failure: a failed run must never add up to nothing.
import { readFileSync } from 'node:fs'

function readReport(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch {
    return undefined
  }
}

let passed = 0
let failed = 0
let skipped = 0
for (const argument of process.argv.slice(2)) {
  const [, path, code] = /^(.*):(\d+)$/.exec(argument) ?? ['', argument, '1']
  const report = readReport(path)
  if (report === undefined) {
    failed += 1
    continue
  }
  passed += report.numPassedTests
  failed += report.numFailedTests > 0 || code === '0' ? report.numFailedTests : 1
  skipped += report.numPendingTests + report.numTodoTests
}
console.log(passed, failed, skipped)
