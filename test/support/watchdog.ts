/**
 * Set up for each file of tests. vitest bounds tests and hooks, but not what fixtures do in `onCleanup`, and nothing that
 * never lets the event loop turn: either would hold the whole run, without a word, until something kills it. Here another
 * thread looks on, ends the process, and says where it was.
 */

import { Worker } from 'node:worker_threads'
import { afterEach, beforeEach } from 'vitest'

/** More than any clean-up takes, or any work without a pause, on a busy machine; each bounds its own waits below that. */
const BOUND_MS = 120_000

const LOOK_MS = 5_000

const LOOK_ON = `
  const { parentPort, workerData: { turns, boundMs, lookMs } } = require('node:worker_threads')
  const { writeSync } = require('node:fs')
  let place = 'before the first test'
  let isIn = false
  let heard = performance.now()
  let turned = heard
  let last = 0
  parentPort.on('message', message => {
    ;({ place, isIn } = message)
    heard = performance.now()
  })
  setInterval(() => {
    const now = performance.now()
    const turn = Atomics.load(turns, 0)
    if (turn !== last) turned = now
    last = turn
    const isStuck = now - turned > boundMs
    if (!isStuck && (isIn || now - heard < boundMs)) return
    writeSync(2, 'no end ' + place + ' within ' + boundMs + ' ms' + (isStuck ? ': the event loop does not turn' : '') + '\\n')
    process.kill(process.pid, 'SIGKILL')
  }, lookMs)
`

const turns = new Int32Array(new SharedArrayBuffer(4))
const watch = new Worker(LOOK_ON, { eval: true, workerData: { turns, boundMs: BOUND_MS, lookMs: LOOK_MS } })
watch.unref()
setInterval(() => Atomics.add(turns, 0, 1), LOOK_MS / 5).unref()

beforeEach(({ task }) => watch.postMessage({ place: `of "${task.name}" in ${task.file.name}`, isIn: true }))
afterEach(({ task }) =>
  watch.postMessage({ place: `of what follows "${task.name}" in ${task.file.name}`, isIn: false }),
)
