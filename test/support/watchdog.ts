/**
 * Set up for each file of tests. vitest bounds tests and hooks, but not what fixtures do in `onCleanup`: one that never ends
 * would hold the whole run, without a word, until something kills it. Here the process ends instead, and says where.
 */

import { writeSync } from 'node:fs'
import { afterEach, beforeEach } from 'vitest'

/** More than any clean-up takes on a busy machine; each of them bounds its own waits below that. */
const BOUND_MS = 120_000

let timer: NodeJS.Timeout | undefined
beforeEach(() => clearTimeout(timer))
afterEach(({ task }) => {
  clearTimeout(timer)
  timer = setTimeout(() => {
    const held = process.getActiveResourcesInfo().join(' ')
    // At once: vitest's console and its process.exit() would have to be waited for. A worker that ends like this is an error
    // of the run.
    writeSync(2, `no end of what follows "${task.name}" in ${task.file.name} within ${BOUND_MS} ms; active: ${held}\n`)
    process.kill(process.pid, 'SIGKILL')
  }, BOUND_MS).unref()
})
